"""A small world for engine tests: one model, its aliases and stages, and Deployments whose pods
load what the alias says when they start. `run` reconciles until nothing is left to do.

It performs a Decision as the runtime does: status first, then actions. It is no stand-in for
MLflow or Kubernetes: those are real in tests/integration.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from podium.api.decision import (
    DecisionAction,
    DecisionOutcome,
    PromotionDecision,
    PromotionDecisionSpec,
    PromotionRef,
)
from podium.api.meta import ObjectMeta
from podium.api.promotion import ModelPromotion, ModelPromotionSpec, Stage
from podium.api.promotion_status import GateStatus, PromotionStatus, Verdict
from podium.api.reasons import Reason
from podium.api.values import read, write
from podium.engine import ledger, tags
from podium.engine.decide import decide
from podium.engine.decision import (
    AnswerDecision,
    ApplyTarget,
    Decision,
    Event,
    MirrorEntry,
    Needs,
    SetAlias,
    TagVersion,
    TransitionStage,
    WriteClaim,
)
from podium.engine.needs import needs
from podium.engine.observation import (
    ModelState,
    Observation,
    PodState,
    Problem,
    ProblemKind,
    TargetState,
    VersionState,
)
from tests.unit.engine import transcript

START = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = "key"


@dataclass
class Pod:
    name: str
    move_id: str | None
    loaded: str | None
    started_at: datetime
    ready: bool = True
    failed: bool = False
    restarts: int = 0


@dataclass
class Deployment:
    model_version: str | None = None
    move_id: str | None = None
    env_value: str | None = None
    template: str = "t1"
    desired: int = 1
    pods: list[Pod] = field(default_factory=list)


@dataclass
class World:
    spec: dict[str, object]
    now: datetime = START
    status: PromotionStatus = field(default_factory=PromotionStatus)
    versions: dict[str, VersionState] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    model_tags: dict[str, str] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    decisions: list[PromotionDecision] = field(default_factory=list)
    answers: dict[str, tuple[DecisionOutcome, str]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    gate_verdicts: dict[str, Verdict] = field(default_factory=dict)  # by gate, before `verdicts`
    broken: set[str] = field(default_factory=set)  # versions whose containers never become ready
    registry_problem: Problem | None = None
    events: list[Event] = field(default_factory=list)
    writes: int = 0
    log: list[str] = field(default_factory=list)
    uid: str = "uid-1"
    aliases_supported: bool = True
    on_pass: Callable[["World"], None] | None = None
    on_act: Callable[[object], None] | None = None
    model_gone: bool = False
    created_at: datetime = START
    restarted: bool = False  # at rest the operator knows only the newest of each stage
    annotations: dict[str, str] = field(default_factory=dict)  # of the promotion
    asked: Needs = field(default_factory=Needs)  # before the pass
    told: list[str] = field(default_factory=list)  # a transcript of all passes, for `made`
    made: ClassVar[list["World"] | None] = None  # all worlds, for whom that wants to know

    def __post_init__(self) -> None:
        if World.made is not None:
            World.made.append(self)
        for target in self.promotion.spec.targets:
            self.put_deployment(target.deployment.name)

    # What people and MLflow do
    def register(self, version: str, *, verdict: Verdict = Verdict.PASS, **tags_: str) -> None:
        self.versions[version] = VersionState(
            version=version,
            stage=Stage.NONE,
            ready=True,
            created_at=self.now,
            updated_at=self.now,
            tags=tags_,
            source=f"models:/m-{version}",
        )
        self.verdicts[version] = verdict

    def delete(self, version: str) -> None:
        """MLflow deletes the aliases with their version."""
        del self.versions[version]
        self.aliases = {k: v for k, v in self.aliases.items() if v != version}

    def create_again(self) -> None:
        """The model is deleted, and another one gets its name."""
        self.now += timedelta(seconds=1)
        self.versions, self.aliases, self.model_tags = {}, {}, {}
        self.created_at = self.now

    def author(self, version: str, *names: str) -> None:
        self.versions[version] = _with(self.versions[version], authors=frozenset(names))

    def unready(self, version: str) -> None:
        self.versions[version] = _with(self.versions[version], ready=False)

    def tag(self, version: str, **tags_: str) -> None:
        self._tag(version, tags_)

    def to_stage(self, version: str, stage: Stage) -> None:
        self.versions[version] = _with(self.versions[version], stage=stage)

    def put_deployment(self, name: str) -> None:
        self.deployments[name] = Deployment()
        self.start_pod(name)

    def say(self, action: DecisionAction, *, to_uid: str | None = None, **spec: str) -> str:
        name = f"d{len(self.decisions) + len(self.answers)}"
        self.decisions.append(
            PromotionDecision(
                metadata=ObjectMeta(
                    name=name, namespace="ns", uid=name, creation_timestamp=self.now
                ),
                spec=PromotionDecisionSpec(
                    promotion_ref=PromotionRef(name="p", uid=to_uid),
                    action=action,
                    decided_by=spec.pop("by", "ann"),
                    **spec,
                ),
            )
        )
        return name

    # What the runtime does
    @property
    def promotion(self) -> ModelPromotion:
        spec = read(ModelPromotionSpec, self.spec, "spec")
        meta = ObjectMeta(
            name="p", namespace="ns", uid=self.uid, generation=1, annotations=self.annotations
        )
        return ModelPromotion(metadata=meta, spec=spec, status=self.status)

    def observe(self) -> Observation:
        """As the runtime looks: all versions' tags, with the ledger, only when they are needed."""
        cheap = self._look(complete=False)
        asked = self.asked = needs(cheap, self.now)
        seen = self._look(complete=True) if asked.versions else cheap
        if not asked.pods:
            seen = replaced(seen, targets=tuple(replaced(t, pods=None) for t in seen.targets))
        wanted = asked.gates_for
        if wanted is None:
            return seen
        verdict = self.verdicts.get(wanted, Verdict.PASS)
        gates = tuple(
            GateStatus(
                name=g.name,
                verdict=self.gate_verdicts.get(g.name, verdict),
                message=f"v{wanted}",
                dry_run=g.dry_run,
            )
            for g in seen.spec.gates
        )
        unknown = any(g.verdict is Verdict.ERROR and not g.dry_run for g in gates)
        return replaced(seen, gates=gates, gate_inputs=None if unknown else f"inputs-{wanted}")

    def _look(self, *, complete: bool) -> Observation:
        promotion = self.promotion
        version_tags = {number: v.tags for number, v in self.versions.items()}
        return Observation(
            promotion=promotion,
            cluster_id="c1",
            operator_version="test",
            registry_problem=self.registry_problem,
            model=None
            if self.registry_problem or self.model_gone
            else ModelState(
                aliases=dict(self.aliases),
                tags=dict(self.model_tags),
                versions=self._newest() if self.restarted and not complete else dict(self.versions),
                complete=complete,
                aliases_supported=self.aliases_supported,
                created_at=self.created_at,
            ),
            targets=tuple(self.target(t) for t in promotion.spec.targets),
            decisions=tuple(self.decisions),
            ledger=ledger.parse_ledger(
                promotion.spec.model,
                promotion.spec.alias,
                self.model_tags,
                version_tags if complete else None,
                SIGNER,
            ),
            claim=ledger.parse_claim(
                self.model_tags.get(ledger.owner_tag_key(promotion.spec.alias))
            ),
            poll_interval=timedelta(seconds=1),
        )

    def _newest(self) -> dict[str, VersionState]:
        """Of each stage; where the alias is at another one, the runtime reads all."""
        newest = {v.stage: v for v in sorted(self.versions.values(), key=lambda v: v.number)}
        seen = {v.version: v for v in newest.values()}
        return seen if set(self.aliases.values()) <= seen.keys() else dict(self.versions)

    def target(self, target: object) -> TargetState:
        name = target.deployment.name  # type: ignore[attr-defined]
        deployment = self.deployments.get(name)
        if deployment is None:
            gone = Problem(ProblemKind.WAITING, Reason.TARGET_NOT_FOUND, f"no Deployment {name}")
            return TargetState(name=target.name, deployment=name, problem=gone)  # type: ignore[attr-defined]
        alive = deployment.pods
        new = [p for p in alive if p.move_id == deployment.move_id]
        return TargetState(
            name=target.name,  # type: ignore[attr-defined]
            deployment=name,
            model_version=deployment.model_version,
            move_id=deployment.move_id,
            env_value=deployment.env_value,
            template=deployment.template,
            desired=deployment.desired,
            replicas=len(alive),
            updated=len(new),
            ready=sum(p.ready for p in alive),
            available=sum(p.ready for p in new),
            pods=tuple(
                PodState(
                    name=p.name,
                    move_id=p.move_id,
                    ready=p.ready,
                    terminating=False,
                    started=True,
                    restarts=p.restarts,
                    exits=p.restarts,
                    failed=p.failed,
                    container_started_at=p.started_at,
                )
                for p in alive
            ),
        )

    def step(
        self, *, crash_after: int | None = None, meanwhile: Callable[[], None] | None = None
    ) -> Decision:
        """One pass. `crash_after`: killed when status is written and so many actions are done.
        `meanwhile`: what somebody does between what the pass sees and what it does."""
        if self.on_pass:
            self.on_pass(self)
        decision = decide(self.observe(), self.now)
        if World.made is not None:
            told = transcript.lines(self.status, decision, self.now)
            if told[1:] != self.told[-len(told) + 1 :]:  # else it waits for the same
                self.told += told
        if meanwhile:
            meanwhile()
        if write(decision.status) != write(self.status):
            self.writes += 1
            self.status = read(PromotionStatus, write(decision.status), "status")
        self.events.extend(decision.events)
        fresh = self.asked.fresh or not decision.actions
        assert fresh, f"acts on what the cache shows: {decision.actions}"
        for action in decision.actions[:crash_after]:
            if not self.perform(action):
                break  # the world is not as the pass saw it
        return decision

    def until(self, phase: str, passes: int = 80) -> "World":
        """Until the attempt is in that phase."""
        for _ in range(passes):
            if self.phase == phase:
                return self
            wait = self.step().requeue_after or timedelta(0)
            self.now += max(wait, timedelta(milliseconds=10))
        raise AssertionError(f"not {phase} after {passes} passes but {self.phase}: {self.log[-9:]}")

    def steps(self, passes: int = 20) -> "World":
        """So many passes, with hardly any time between."""
        for _ in range(passes):
            self.step()
            self.now += timedelta(milliseconds=10)
        return self

    def run(self, passes: int = 80) -> "World":
        """Until a pass neither writes nor acts and asks for no look within a minute."""
        for _ in range(passes):
            before = self.writes
            decision = self.step()
            idle = self.writes == before and not decision.actions
            wait = decision.requeue_after
            if idle and (wait is None or wait > timedelta(seconds=60)):
                return self
            self.now += max(wait or timedelta(0), timedelta(milliseconds=10))
        raise AssertionError(f"not at rest after {passes} passes: {self.log[-12:]}")

    def perform(self, action: object) -> bool:
        """Whether the action found what it expects. Elsewhere the next pass looks again."""
        self.log.append(repr(action)[:160])
        if self.on_act:
            self.on_act(action)
        match action:
            case SetAlias(to, expect):
                if self.aliases.get(self.promotion.spec.alias) not in (expect, to):
                    return False
                assert self.versions[to].ready, "I1"
                assert self._intended(to), "I6: no intent in the ledger"
                self.aliases[self.promotion.spec.alias] = to
            case ApplyTarget(target, version, move_id):
                self._apply(target, version, move_id)
            case TransitionStage(version, to):
                tag = tags.stage_tag(self.promotion.spec.alias, to, self.now)
                v = self.versions[version]
                self.versions[version] = _with(
                    v, stage=to, tags={**v.tags, **dict([tag] if tag else [])}
                )
            case MirrorEntry(entry):
                alias = self.promotion.spec.alias
                key, value = ledger.entry_tag_key(alias, entry.seq), ledger.encode_entry(entry)
                if entry.to in self.versions:
                    self._tag(entry.to, {key: value})
                else:
                    self.model_tags[key] = value
                there = self._look(complete=True).ledger
                head = ledger.encode_head(entry, there, self.status.ledger_id)
                self.model_tags[ledger.head_tag_key(alias)] = head
            case TagVersion(version, pairs):
                self._tag(version, dict(pairs))
            case WriteClaim(value):
                self.model_tags[ledger.owner_tag_key(self.promotion.spec.alias)] = value
            case AnswerDecision(name, _, outcome, message):
                self.answers[name] = (outcome, message)
                self.decisions = [d for d in self.decisions if d.metadata.name != name]
        return True

    def _intended(self, to: str) -> bool:
        chain = ledger.check(
            ledger.parse_ledger(
                self.promotion.spec.model,
                self.promotion.spec.alias,
                self.model_tags,
                {n: v.tags for n, v in self.versions.items()},
            )
        )
        assert chain.trouble is None
        intents = [e for e in chain.entries if e.action.value.endswith("Intent")]
        return bool(intents) and intents[-1].to == to

    def _tag(self, version: str | None, pairs: dict[str, str]) -> None:
        v = self.versions[version or ""]
        self.versions[v.version] = _with(v, tags={**v.tags, **pairs})

    def _apply(self, target: str, version: str, move_id: str) -> None:
        spec = next(t for t in self.promotion.spec.targets if t.name == target)
        deployment = self.deployments[spec.deployment.name]
        deployment.model_version, deployment.move_id = version, move_id
        by_version = spec.model_source.type == "Version"
        uri = f"models:/{self.promotion.spec.model}/{version}"
        deployment.env_value = uri if by_version else None
        self.start_pod(spec.deployment.name)

    def start_pod(self, name: str) -> None:
        """A new pod; the old one goes when the new one is ready."""
        deployment = self.deployments[name]
        loaded = self._loads(deployment)
        ready = loaded not in self.broken
        pod = Pod(f"{name}-{deployment.move_id}", deployment.move_id, loaded, self.now, ready)
        if ready:
            deployment.pods = [pod]
        else:
            deployment.pods = [*[p for p in deployment.pods if p.ready], pod]

    def restart_containers(self, name: str) -> None:
        """In place: they load what the alias, or the variable, says now."""
        deployment = self.deployments[name]
        for pod in deployment.pods:
            pod.loaded, pod.started_at = self._loads(deployment), self.now
            pod.restarts += 1

    def _loads(self, deployment: Deployment) -> str | None:
        uri = deployment.env_value
        alias = self.aliases.get(str(self.spec.get("alias", "champion")))
        return uri.rsplit("/", 1)[1] if uri else alias

    # What is asked afterwards
    @property
    def alias(self) -> str | None:
        return self.aliases.get(self.promotion.spec.alias)

    @property
    def phase(self) -> str | None:
        return self.status.attempt.phase.value if self.status.attempt else None

    def stages(self) -> dict[str, str]:
        return {n: v.stage.value for n, v in self.versions.items() if v.stage is not Stage.NONE}

    def served(self, name: str = "api") -> set[str | None]:
        return {pod.loaded for pod in self.deployments[name].pods}

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(c for c in self.status.conditions if c.type == kind)
        return found.status.value, found.reason


def _with(version: VersionState, **changes: object) -> VersionState:
    return replaced(version, **changes)  # type: ignore[arg-type]
