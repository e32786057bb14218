"""Random histories of the small world: people, pods, crashes, lost status, late requests.

At each step I1, I3 and I6 of DESIGN section 7 are asserted; at the end, when the faults have
stopped, I5: alias, stage, Deployments and ledger agree. What fails is shrunk, and then told
again as a story of its own.
"""

from datetime import timedelta

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from podium.api.decision import DecisionAction
from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion import Stage
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.observation import Problem, ProblemKind
from tests.unit.engine.iris import PINNED, TARGET, another, grown
from tests.unit.engine.world import World

AWAY = Problem(ProblemKind.TRANSIENT, Reason.REGISTRY_UNAVAILABLE, "MLflow does not answer")
TARGETS = {
    "alias": [TARGET],
    "version": [PINNED],
    "both": [TARGET, another(PINNED, "web")],
}
MOVES = {EntryAction.PROMOTE_INTENT, EntryAction.ROLLBACK_INTENT, EntryAction.REVERT_INTENT}


class Histories(RuleBasedStateMachine):
    w: World

    @initialize(
        kind=st.sampled_from(sorted(TARGETS)),
        policy=st.sampled_from(["Revert", "Adopt"]),
        bake=st.sampled_from(["0s", "20s"]),
        approval=st.booleans(),
    )
    def begin(self, kind: str, policy: str, bake: str, approval: bool) -> None:
        self.entries: dict[int, LedgerEntry] = {}
        self.w = grown(
            targets=TARGETS[kind],
            aliasDriftPolicy=policy,
            rollback={"bakeDuration": bake},
            rollout={"progressDeadline": "30s"},
        )
        self.next_version = 3
        self.w.on_pass = self.look
        self.look(self.w)
        if approval:
            self.w.spec["approval"] = {"required": 1}

    # What people do

    @precondition(lambda self: self.next_version <= 8)
    @rule(
        quality=st.sampled_from(["good", "good", "breaks", "is refused"]),
        passes=st.integers(0, 30),
    )
    def register(self, quality: str, passes: int) -> None:
        version = str(self.next_version)
        self.next_version += 1
        if quality == "breaks":
            self.w.broken.add(version)
        refused = quality == "is refused"
        self.w.register(version, verdict=Verdict.FAIL if refused else Verdict.PASS)
        self.run_for_a_while(passes)

    # What no pass has seen cannot be known: the alias moves when MLflow answers, and a pass looks.
    @precondition(lambda self: not self.w.registry_problem)
    @rule(data=st.data())
    def move_the_alias(self, data: st.DataObject) -> None:
        if self.w.versions:
            version = data.draw(st.sampled_from(sorted(self.w.versions)))
            self.w.aliases["champion"] = version
            self.w.steps(1)

    @precondition(lambda self: not self.w.registry_problem)
    @rule()
    def delete_the_alias(self) -> None:
        self.w.aliases.pop("champion", None)
        self.w.steps(1)

    @precondition(lambda self: not self.w.registry_problem)
    @rule(data=st.data())
    def delete_a_version(self, data: st.DataObject) -> None:
        if len(self.w.versions) > 2:
            self.w.delete(data.draw(st.sampled_from(sorted(self.w.versions))))

    @rule(data=st.data())
    def move_a_stage(self, data: st.DataObject) -> None:
        if self.w.versions:
            version = data.draw(st.sampled_from(sorted(self.w.versions)))
            self.w.to_stage(version, data.draw(st.sampled_from(list(Stage))))

    @rule(
        action=st.sampled_from([DecisionAction.ROLLBACK, DecisionAction.HOLD]),
        release=st.booleans(),
    )
    def decide(self, action: DecisionAction, release: bool) -> None:
        self.w.say(DecisionAction.RELEASE if release else action)

    @rule()
    def approve(self) -> None:
        attempt = self.w.status.active
        if attempt and attempt.phase == "AwaitingApproval":
            self.w.say(
                DecisionAction.APPROVE,
                attempt_id=attempt.id,
                evidence_digest=attempt.evidence_digest or "",
            )
            self.run_for_a_while(5)

    @rule()
    def suspend_or_go_on(self) -> None:
        self.w.spec["suspend"] = not self.w.spec.get("suspend", False)

    # What goes wrong

    @rule(name=st.sampled_from(["api", "web"]))
    def restart_in_place(self, name: str) -> None:
        if name in self.w.deployments:
            self.w.restart_containers(name)

    @rule(name=st.sampled_from(["api", "web"]))
    def replace_the_pods(self, name: str) -> None:
        if name in self.w.deployments:
            self.w.start_pod(name)

    @rule(name=st.sampled_from(["api", "web"]))
    def make_the_deployment_again(self, name: str) -> None:
        if name in self.w.deployments:
            self.w.put_deployment(name)

    @precondition(lambda self: self.w.alias == self.w.status.champion_version)
    @precondition(lambda self: self.w.phase != "Superseded")
    @rule()
    def lose_the_status(self) -> None:
        self.w.status = PromotionStatus()
        self.w.uid += "+"

    @rule()
    def mlflow_comes_or_goes(self) -> None:
        self.w.registry_problem = None if self.w.registry_problem else AWAY

    @rule(after=st.integers(0, 2))
    def crash_in_a_pass(self, after: int) -> None:
        self.w.step(crash_after=after)

    @rule()
    def somebody_is_faster(self) -> None:
        """The alias moves between what a pass sees and what it does."""
        if self.w.versions:
            newest = max(self.w.versions, key=int)
            self.w.step(meanwhile=lambda: self.w.aliases.update(champion=newest))

    # Time

    @rule(passes=st.integers(1, 30))
    def run_for_a_while(self, passes: int) -> None:
        for _ in range(passes):
            wait = self.w.step().requeue_after or timedelta(0)
            self.w.now += max(min(wait, timedelta(seconds=20)), timedelta(milliseconds=10))

    @rule(seconds=st.sampled_from([-3, 5, 60, 700]))
    def the_clock_goes(self, seconds: int) -> None:
        self.w.now += timedelta(seconds=seconds)

    # What must always hold

    def look(self, w: World) -> None:
        """Before each pass: what is new in MLflow's ledger was right to be done."""
        tags = {number: v.tags for number, v in w.versions.items()}
        written = ledger.parse_ledger("iris", "champion", w.model_tags, tags)
        assert ledger.check(written).trouble is None, "I6: chain"
        for entry in written.entries:
            known = self.entries.setdefault(entry.seq, entry)
            assert known.hash == entry.hash, "I6: append-only"
        quarantined: set[str] = set()
        for entry in (self.entries[seq] for seq in sorted(self.entries)):
            if entry.action is EntryAction.QUARANTINED and entry.to:
                quarantined.add(entry.to)
            if entry.action is EntryAction.RELEASED and entry.to:
                quarantined.discard(entry.to)
            if entry.action in MOVES:
                assert entry.to not in quarantined, "I3"
            if entry.action is EntryAction.PROMOTE_INTENT and entry.to:
                assert w.verdicts[entry.to] is Verdict.PASS, "I1: gates"
                assert self._approved(entry), "I1: approval"

    def _approved(self, intent: LedgerEntry) -> bool:
        wanted = self.w.promotion.spec.waits_for_approval and int(intent.to or 0) > 2
        given = (EntryAction.APPROVED, intent.attempt)
        return not wanted or given in {(e.action, e.attempt) for e in self.entries.values()}

    def teardown(self) -> None:
        """I5: the faults stop, people let go, and it comes to rest."""
        if not hasattr(self, "w"):
            return
        w = self.w
        w.registry_problem = None
        w.spec["suspend"] = False
        w.say(DecisionAction.RELEASE)
        w.run(600)
        if w.status.champion and w.condition("Stalled")[1] == Reason.ALIAS_MISSING:
            w.aliases["champion"] = min(w.versions)
            w.run(600)
        champion = w.status.champion_version
        if champion is None or champion in w.broken or champion not in w.versions:
            return
        assert w.alias == champion, "I5: alias"
        assert w.status.ledger_seq == w.observe().ledger.head_seq, "I5: ledger"
        assert [v for v, s in w.stages().items() if s == "Production"] == [champion], "I5: stages"
        for name in w.deployments:
            assert w.served(name) == {champion}, f"I5: {name}"
        assert w.condition("Ready") == ("True", "ChampionServed")


Histories.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,  # the same histories each time; more of them with other settings, by hand
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase
