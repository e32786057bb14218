"""The engine against an oracle: arbitrary observations in arbitrary order, each decision judged.

`make oracle STEPS=1000000 SEED=7` for a long run. Without a seed the same steps are taken each
time: some thousand with the fast tests, in `make test` enough to reach everything. The latter run
by themselves: Hypothesis also draws constants that it finds in the modules imported beside it.
"""

import os
from dataclasses import replace as replaced
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from podium.api.decision import DecisionAction
from podium.api.ledger_entry import LedgerEntry
from podium.api.promotion import Stage
from podium.api.promotion_status import Origin, PromotionStatus, Verdict
from podium.engine import ledger
from podium.engine.decision import Decision
from podium.engine.observation import Claim, FailedTry, Observation, Problem, VersionState
from tests.unit.engine.choices import (
    ALSO_SEEN,
    BY_PEOPLE,
    DEPLOYMENTS,
    EDITS,
    FEW,
    GATES,
    GOALS,
    JUDGING,
    NAMES,
    PEOPLE,
    PODS,
    PROBLEMS,
    SECONDS,
    TARGETS,
)
from tests.unit.engine.iris import TARGET
from tests.unit.engine.oracle.case import A, Case, appended, behind
from tests.unit.engine.reached import Reached
from tests.unit.engine.scenes import SCENES, newcomer
from tests.unit.engine.wild import WildWorld

ENOUGH = 20_000  # steps in which everything is reached that can be
STEPS = int(os.environ.get("PODIUM_ORACLE_STEPS", "2000"))
assert STEPS > 0, "PODIUM_ORACLE_STEPS=0 would judge nothing"
REPORT = Path(__file__).parents[3] / "build" / "oracle.txt"
SEED = os.environ.get("PODIUM_ORACLE_SEED") or None
PER_STORY = 50
REACHED = Reached()


def _with(version: VersionState, **changes: object) -> VersionState:
    return replaced(version, **changes)  # type: ignore[arg-type]


class Wild(RuleBasedStateMachine):
    w: WildWorld

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        spec = {
            "model": "iris",
            "candidate": {"latest": {}},
            "targets": data.draw(st.sampled_from(list(TARGETS.values()))),
            "gates": data.draw(st.sampled_from(GATES)),
            "rollout": {"progressDeadline": "30s"},
            "rollback": data.draw(st.sampled_from([{}, {"bakeDuration": "20s"}])),
        }
        if data.draw(st.booleans()):
            spec["aliasDriftPolicy"] = "Adopt"
            del spec["candidate"]
        self.w = WildWorld({k: v for k, v in spec.items() if v is not None}, told=self.told)
        self.older: list[PromotionStatus] = []
        self.written: dict[tuple[str, str], str] = {}
        self.refused: dict[str, tuple[object, ...]] = {}
        self.refused_at: dict[str, int] = {}  # the seq of its ledger entry
        self.torn = False
        for n in range(1, data.draw(st.integers(0, 3)) + 1):
            self.w.register(str(n))
            self.run(data.draw(st.integers(0, 15)))

    # Memory: what one decision alone does not show

    def told(self, seen: Observation, now: datetime, made: Decision) -> None:
        REACHED.add(seen, now, made)
        case = Case(seen, now, made, appended(seen, made.status), behind(seen))
        if not case.restored:
            for entry in case.new:
                self.remember(entry, seen)
        begun, old = made.status.active, seen.status.attempt
        if begun is None or (old is not None and begun.id == old.id) or case.restored:
            return
        if begun.origin is Origin.CANDIDATE and begun.version in self.refused:
            same = self.refused[begun.version] == self.inputs(begun.version, seen)
            assert not same, f"{begun.version} was refused, and nothing has changed since"

    def remember(self, entry: LedgerEntry, seen: Observation) -> None:
        if entry.decision is not None and entry.action in BY_PEOPLE:
            one = (entry.action, entry.decision)
            before = {(e.action, e.decision) for e in seen.ledger.entries}
            assert one not in before, f"carried out twice: {one}"
        if entry.action is A.RECREATED:
            self.refused = {}
        elif entry.action in (A.REJECTED, A.EXPIRED) and entry.to and entry.inputs:
            self.refused[entry.to] = self.inputs(entry.to, seen)
            self.refused_at[entry.to] = entry.seq
        elif entry.action in (A.RETRIED, A.PROMOTED, A.RELEASED, A.QUARANTINED) and entry.to:
            self.refused.pop(entry.to, None)
        elif entry.action is A.ROLLBACK_INTENT and entry.from_version:
            self.refused.pop(entry.from_version, None)

    def inputs(self, version: str, seen: Observation) -> tuple[object, ...]:
        """What a refusal depends on, in DESIGN's words: tags, gates, approval, the champion."""
        tags = seen.model.versions[version].tags if seen.model else {}
        own = {k: v for k, v in tags.items() if not k.startswith("podium.dev/")}
        compares = any(g.metric and g.metric.compare for g in seen.spec.gates)
        champion = seen.status.champion_version if compares else None
        gates = tuple(gate for gate in seen.spec.gates if not gate.dry_run)
        return own, gates, seen.spec.approval, champion

    @invariant()
    def the_ledger_in_mlflow_is_append_only(self) -> None:
        REACHED.steps += 1
        if not hasattr(self, "w") or self.torn:
            return
        for name, tags in [
            ("", self.w.model_tags),
            *((v, x.tags) for v, x in self.w.versions.items()),
        ]:
            for key, text in tags.items():
                if key.startswith("podium.dev/ledger/"):
                    assert self.written.setdefault((name, key), text) == text, "I6: rewritten"

    # What people do

    @rule(data=st.data(), passes=FEW)
    def register(self, data: st.DataObject, passes: int) -> None:
        version = str(max(map(int, self.w.versions), default=0) + 1)
        verdict = data.draw(st.sampled_from([Verdict.PASS, Verdict.PASS, *Verdict]))
        tags = {"reviewed": "true"} if data.draw(st.booleans()) else {}
        self.w.register(version, verdict=verdict, **tags)
        if data.draw(st.booleans()):
            self.w.authors[version] = frozenset({"ann"})
        self.run(passes)

    @rule(data=st.data(), passes=FEW)
    def change_a_version(self, data: st.DataObject, passes: int) -> None:
        if not self.w.versions:
            return
        version = self.a_version(data)
        match data.draw(st.sampled_from(["delete", "again", "unready", "tag", "stage", "gate"])):
            case "delete":
                self.forget(version)
            case "again":
                self.forget(version)
                self.w.register(version)
            case "unready":
                ready = self.w.versions[version].ready
                self.w.versions[version] = _with(self.w.versions[version], ready=not ready)
            case "tag":
                self.w.tag(version, reviewed=data.draw(st.sampled_from(["true", "false"])))
            case "stage":
                self.w.to_stage(version, data.draw(st.sampled_from(list(Stage))))
            case "gate":
                self.w.verdicts[version] = data.draw(st.sampled_from(list(Verdict)))
        self.run(passes)

    def a_version(self, data: st.DataObject) -> str:
        """Often the one that matters now."""
        attempt = self.w.status.attempt
        notable = {attempt.version, attempt.previous} if attempt else set()
        notable |= {self.w.status.champion_version, *self.w.versions}
        choices = sorted(v for v in notable if v in self.w.versions)
        return data.draw(st.sampled_from(choices))

    @rule(versions=st.integers(0, 2), aliased=st.booleans(), passes=FEW)
    def the_model_is_created_again(self, versions: int, aliased: bool, passes: int) -> None:
        self.w.create_again()
        self.written = {}
        for n in range(versions):
            self.w.register(str(n + 1))
        if versions and aliased:
            self.w.aliases["champion"] = "1"
        self.run(passes)

    def forget(self, version: str) -> None:
        self.w.delete(version)
        self.refused.pop(version, None)
        self.written = {k: v for k, v in self.written.items() if k[0] != version}

    @rule(data=st.data(), alias=st.sampled_from(["champion", "champion", "challenger"]), passes=FEW)
    def move_an_alias(self, data: st.DataObject, alias: str, passes: int) -> None:
        if not self.w.versions or data.draw(st.integers(0, 4)) == 0:
            self.w.aliases.pop(alias, None)
        else:
            self.w.aliases[alias] = self.a_version(data)
        self.run(passes)

    @rule(edit=st.sampled_from(EDITS), passes=FEW)
    def edit_the_spec(self, edit: tuple[str, object], passes: int) -> None:
        field, value = edit
        spec = {**self.w.spec, field: value}
        self.w.spec = {k: v for k, v in spec.items() if v is not None}
        for target in self.w.promotion.spec.targets:
            if target.deployment.name not in self.w.deployments:
                self.w.put_deployment(target.deployment.name)
        self.run(passes)

    @rule(data=st.data(), action=st.sampled_from(list(DecisionAction)), passes=FEW)
    def say(self, data: st.DataObject, action: DecisionAction, passes: int) -> None:
        attempt, right = self.w.status.attempt, data.draw(st.integers(0, 3)) > 0
        said: dict[str, str] = {"by": data.draw(st.sampled_from(PEOPLE))}
        if attempt and (action in JUDGING or not right):
            said["attempt_id"] = attempt.id if right else "9-nobody"
            said["evidence_digest"] = (attempt.evidence_digest if right else None) or "sha256:0"
        if data.draw(st.booleans()) and self.w.versions:
            said["version"] = self.a_version(data)
        uid = {} if right else {"to_uid": data.draw(st.sampled_from([self.w.uid, "another"]))}
        self.w.say(action, **uid, **said)
        self.run(passes)

    @precondition(lambda self: self.w.phase == "AwaitingApproval")
    @rule(who=st.sampled_from(PEOPLE), agrees=st.sampled_from([True, True, False]), passes=FEW)
    def judge(self, who: str, agrees: bool, passes: int) -> None:
        attempt = self.w.status.attempt
        assert attempt is not None
        self.w.say(
            DecisionAction.APPROVE if agrees else DecisionAction.REJECT,
            by=who,
            attempt_id=attempt.id,
            evidence_digest=attempt.evidence_digest or "",
        )
        self.run(passes)

    # What goes wrong

    @rule(one=st.sampled_from(PODS), name=NAMES, passes=FEW)
    def pods_are_unwell(self, one: dict[str, object], name: str, passes: int) -> None:
        self.w.spoilt_pods[name] = one
        self.run(passes)

    @precondition(lambda self: self.w.phase == "Baking")
    @rule(lost=st.integers(0, 60), passes=FEW)
    def readiness_is_lost_in_bake(self, lost: int, passes: int) -> None:
        began = self.w.now - timedelta(seconds=lost)
        self.w.spoilt_pods["api"] = {
            "ready": False,
            "container_started_at": began,
            "ready_lost_at": self.w.now,
        }
        self.run(passes)

    @rule(one=st.sampled_from(DEPLOYMENTS), name=NAMES, passes=FEW)
    def a_deployment_is_unwell(self, one: dict[str, object], name: str, passes: int) -> None:
        self.w.spoilt_targets[name] = one
        self.run(passes)

    @rule(name=NAMES, what=st.sampled_from(["gone", "again", "undone", "restarted"]), passes=FEW)
    def a_deployment_is_changed(self, name: str, what: str, passes: int) -> None:
        deployment = self.w.deployments.get(name)
        if deployment is None:
            self.w.put_deployment(name)
        elif what == "gone":
            del self.w.deployments[name]
        elif what == "again":
            self.w.put_deployment(name)
        elif what == "undone":
            deployment.move_id, deployment.model_version = "an-older-move", "1"
            self.w.start_pod(name)
        else:
            self.w.restart_containers(name)
        self.run(passes)

    @rule()
    def kubernetes_is_well_again(self) -> None:
        self.w.spoilt_pods, self.w.spoilt_targets = {}, {}
        self.run(1)

    @rule(problem=st.sampled_from(PROBLEMS), passes=FEW)
    def the_registry_is_away(self, problem: Problem, passes: int) -> None:
        self.w.registry_problem = problem
        self.run(passes)
        self.w.registry_problem = None

    @rule(data=st.data(), passes=FEW)
    def something_else_is_seen(self, data: st.DataObject, passes: int) -> None:
        self.w.also_seen = data.draw(ALSO_SEEN)
        if "registry_back_at" in self.w.also_seen:
            self.w.also_seen = {"registry_back_at": self.w.now}
        if problem := self.w.also_seen.get("failed_try"):
            tried = FailedTry(data.draw(NAMES), self.w.now, cast(Problem, problem))
            self.w.also_seen = {"failed_try": tried}
        if "unread_since" in self.w.also_seen:
            seconds = cast(int, self.w.also_seen["unread_since"])
            self.w.also_seen = {"unread_since": self.w.now - timedelta(seconds=seconds)}
        self.run(passes)
        self.w.also_seen = {}

    @rule(
        what=st.sampled_from(["model_gone", "stages_supported", "aliases_supported", "partial"]),
        passes=st.integers(1, 4),
    )
    def the_server_is_another(self, what: str, passes: int) -> None:
        before = getattr(self.w, what)
        setattr(self.w, what, not before)
        self.run(passes)
        setattr(self.w, what, before)

    @rule()
    def it_is_being_deleted(self) -> None:
        self.w.deleting = self.w.now
        self.run(1)
        self.w.deleting = None

    @rule(data=st.data(), passes=FEW)
    def somebody_claims(self, data: st.DataObject, passes: int) -> None:
        older = data.draw(st.sampled_from([-3600, 3600]))
        claim = Claim(
            data.draw(st.sampled_from(["c1", "c2"])),
            "ns",
            data.draw(st.sampled_from(["p", "q"])),
            self.w.now + timedelta(seconds=older),
            released=data.draw(st.integers(0, 3)) == 0,
        )
        key = ledger.owner_tag_key("champion")
        self.w.model_tags[key] = data.draw(
            st.sampled_from([ledger.encode_claim(claim), ledger.encode_claim(claim), "{torn"])
        )
        self.w.also_seen = {"claim_owner_gone": data.draw(st.booleans())}
        self.run(passes)
        self.w.also_seen = {}
        self.w.model_tags.pop(key)

    @rule(back=st.integers(1, 20), passes=FEW)
    def status_is_restored_or_wiped(self, back: int, passes: int) -> None:
        """From a backup, or by deleting the promotion and creating it again."""
        if back >= len(self.older):
            self.w.status, self.w.uid = PromotionStatus(), self.w.uid + "+"
        else:
            self.w.status = self.older[-back]
        # A refusal that only the lost status had is lost.
        there = {key for version in self.w.versions.values() for key in version.tags}
        self.refused = {
            version: inputs
            for version, inputs in self.refused.items()
            if ledger.entry_tag_key("champion", self.refused_at[version]) in there
        }
        self.run(passes)

    @precondition(lambda self: self.w.status.ledger_seq > 0)
    @rule(data=st.data(), passes=FEW)
    def the_ledger_is_torn(self, data: st.DataObject, passes: int) -> None:
        """Tags of it are deleted, changed or signed by others: what was done may be forgotten."""
        self.torn, self.refused = True, {}
        how = data.draw(st.sampled_from(["head", "entry", "changed", "signer", "signature"]))
        head = ledger.head_tag_key("champion")
        seq = data.draw(st.integers(1, self.w.status.ledger_seq))
        if how == "head":
            self.w.model_tags.pop(head, None)
        elif how == "signer" and head in self.w.model_tags:
            self.w.model_tags[head] = self.w.model_tags[head].replace('"key":"key"', '"key":"eve"')
            self.w.status = replace(self.w.status, ledger_seq=0, ledger_head=None, history=())
        elif how == "signature":
            self.w.bad_signatures = frozenset({seq})
        else:
            self.tear(ledger.entry_tag_key("champion", seq), changed=how == "changed")
        if data.draw(st.booleans()):
            self.w.status = PromotionStatus(claim=self.w.status.claim)
        self.run(passes)

    def tear(self, key: str, changed: bool) -> None:
        for version, state in self.w.versions.items():
            if key in state.tags:
                tags = {k: v for k, v in state.tags.items() if k != key}
                if changed:
                    tags[key] = state.tags[key].replace('"reason":"', '"reason":"not ')
                self.w.versions[version] = _with(state, tags=tags)

    @rule(done=st.integers(0, 2))
    def crash_in_a_pass(self, done: int) -> None:
        self.w.step(crash_after=done)

    @rule()
    def actions_are_done_twice(self) -> None:
        for action in self.w.step().actions:
            self.w.perform(action)

    @rule(passes=st.integers(0, 5))
    def actions_come_late(self, passes: int) -> None:
        self.w.late = list(self.w.step(crash_after=0).actions)
        self.run(passes)
        self.w.commit_late()
        self.run(1)

    @rule(data=st.data())
    def somebody_is_faster(self, data: st.DataObject) -> None:
        """The alias moves between what a pass sees and what it does."""
        if self.w.versions:
            version = self.a_version(data)
            self.w.step(meanwhile=lambda: self.w.aliases.update(champion=version))

    @rule(passes=st.integers(1, 5), later=st.integers(1, 5))
    def mlflow_answers_of_before(self, passes: int, later: int) -> None:
        stale = self.w.observe().model
        self.run(passes)
        self.w.stale = stale
        self.run(later)
        self.w.stale = None

    # Time

    @rule(seconds=st.sampled_from(SECONDS), passes=FEW)
    def the_clock_goes(self, seconds: int, passes: int) -> None:
        self.w.now += timedelta(seconds=seconds)
        self.run(passes)

    @rule(passes=st.integers(1, 12))
    def go_on(self, passes: int) -> None:
        self.run(passes)

    @rule(phase=st.sampled_from(GOALS))
    def all_is_well_until(self, phase: str) -> None:
        self.w.calm()
        self.until(phase)

    @rule(phase=st.sampled_from(GOALS), good=st.booleans())
    def another_version_comes_to(self, phase: str, good: bool) -> None:
        version = newcomer(self.w)
        if not good:
            self.w.broken.add(version)
        self.until(phase)

    @rule(name=st.sampled_from(sorted(SCENES)))
    def scene(self, name: str) -> None:
        born = self.w.created_at
        SCENES[name](self.w)
        if self.w.created_at != born:
            self.written = {}  # what was written went with its model

    @precondition(lambda self: "candidate" not in self.w.spec)
    @rule(phase=st.sampled_from(GOALS))
    def another_version_is_made_champion(self, phase: str) -> None:
        version = newcomer(self.w)
        del self.w.spec["candidate"]
        self.w.aliases["champion"] = version
        self.until(phase)

    def until(self, phase: str) -> None:
        for _ in range(14):
            if self.w.phase == phase:
                return
            self.run(1)

    def run(self, passes: int) -> None:
        for _ in range(passes):
            if not self.older or self.older[-1] is not self.w.status:
                self.older.append(self.w.status)
            self.w.advance(self.w.step())


def run_steps(steps: int) -> None:
    """About so many rules, each with a few passes."""
    random = settings(
        max_examples=steps * 3 // 2 // PER_STORY + 1,  # some end early
        stateful_step_count=PER_STORY,
        deadline=None,
        derandomize=SEED is None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    machine = seed(int(SEED))(Wild) if SEED else Wild
    run_state_machine_as_test(machine, settings=random)


def play_scenes() -> None:
    """Each once where nothing else happens; first, a model that has a champion already."""
    spec: dict[str, object] = {"model": "iris", "targets": [TARGET]}
    spec["rollout"] = {"progressDeadline": "30s"}
    w = WildWorld(spec, told=REACHED.add)
    w.register("1")
    w.aliases["champion"] = "1"
    for _ in range(20):
        w.advance(w.step())
    for scene in SCENES.values():
        w = WildWorld(dict(spec), told=REACHED.add)
        for _ in range(2):
            newcomer(w)
            for _ in range(20):
                w.advance(w.step())
        scene(w)


@pytest.mark.timeout(0)
def test_every_decision_is_one_that_design_allows(capsys: pytest.CaptureFixture[str]) -> None:
    """And, in as many steps as `make oracle` takes, everything is reached that can be."""
    run_steps(STEPS)
    play_scenes()
    report = REACHED.report()
    assert REACHED.steps >= STEPS
    if STEPS < ENOUGH:
        return
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(report + "\n")
    with capsys.disabled():
        print("\n" + report)
    assert REACHED.missing() == []
