"""A world in which everything may happen: `World`, with what people, pods, clocks, other writers
and lost answers do to it, and each decision judged by the oracle.

Reads may be stale or partial; an action may be performed, lost, done twice, or take effect late.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import datetime, timedelta

import msgspec

from podium.api.meta import ObjectMeta
from podium.api.promotion import ModelPromotion, ModelPromotionSpec
from podium.api.promotion_status import PromotionStatus
from podium.api.values import read, write
from podium.engine import ledger
from podium.engine.decide import decide
from podium.engine.decision import (
    AnswerDecision,
    ApplyTarget,
    Decision,
    MirrorEntry,
    SetAlias,
    TagVersion,
    TransitionStage,
    WriteClaim,
)
from podium.engine.needs import needs
from podium.engine.observation import ModelState, Observation, TargetState
from tests.unit.engine.oracle.judge import judge
from tests.unit.engine.world import World

PodChange = dict[str, object]  # fields of PodState
TargetChange = dict[str, object]  # fields of TargetState


@dataclass
class WildWorld(World):
    """`spoilt_pods` and `spoilt_targets`: what Kubernetes says of them instead, by Deployment."""

    spoilt_pods: dict[str, PodChange] = field(default_factory=dict)
    spoilt_targets: dict[str, TargetChange] = field(default_factory=dict)
    also_seen: dict[str, object] = field(default_factory=dict)  # fields of Observation
    stages_supported: bool = True
    bad_signatures: frozenset[int] = frozenset()
    partial: bool = False  # the cached view only, as before `needs` is asked
    deleting: datetime | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    authors: dict[str, frozenset[str]] = field(default_factory=dict)
    stale: ModelState | None = None  # an older answer of MLflow
    late: list[object] = field(default_factory=list)  # requests that have not taken effect yet
    passes: int = 0
    told: Callable[[Observation, datetime, Decision], None] = lambda *_: None
    _specs: dict[bytes, ModelPromotionSpec] = field(default_factory=dict)

    @property
    def promotion(self) -> ModelPromotion:
        text = msgspec.json.encode(self.spec)
        if text not in self._specs:
            self._specs[text] = read(ModelPromotionSpec, self.spec, "spec")
        meta = ObjectMeta(
            name="p",
            namespace="ns",
            uid=self.uid,
            generation=len(self._specs),
            deletion_timestamp=self.deleting,
            annotations=self.annotations,
        )
        return ModelPromotion(metadata=meta, spec=self._specs[text], status=self.status)

    def observe(self) -> Observation:
        seen = super().observe()
        if seen.model is not None:
            versions = {
                n: replaced(v, authors=self.authors.get(n, frozenset()))
                for n, v in seen.model.versions.items()
            }
            model = replaced(seen.model, versions=versions, stages_supported=self.stages_supported)
            bad = frozenset(e for e in seen.ledger.entries if e.seq in self.bad_signatures)
            signed = replaced(seen.ledger, bad_signatures=bad)
            seen = replaced(seen, model=self.stale or model, ledger=signed)
        seen = replaced(seen, **self.also_seen)  # type: ignore[arg-type]
        return self._cached(seen) if self.partial and seen.model else seen

    def _cached(self, seen: Observation) -> Observation:
        """What the poll tells: of the ledger the head, of the versions the notable ones. When
        more is needed, more is read."""
        model = seen.model
        assert model is not None
        wanted = {*model.aliases.values(), *sorted(model.versions, key=int)[-1:]}
        versions = {n: v for n, v in model.versions.items() if n in wanted}
        cached = replaced(
            seen,
            model=replaced(model, versions=versions, complete=False),
            ledger=replaced(seen.ledger, entries=(), complete=False),
        )
        return seen if needs(cached, self.now).versions else cached

    def target(self, target: object) -> TargetState:
        state = super().target(target)
        if state.problem is not None:
            return state
        changes = dict(self.spoilt_targets.get(state.deployment, {}))
        if spoilt := self.spoilt_pods.get(state.deployment):
            pods = tuple(
                replaced(p, **spoilt) if p.move_id == state.move_id else p  # type: ignore[arg-type]
                for p in state.pods or ()
            )
            fine = sum(p.ready and p.move_id == state.move_id for p in pods)
            changes = {
                "pods": pods,
                "available": fine,
                "ready": sum(p.ready for p in pods),
            } | changes
        return replaced(state, **changes)  # type: ignore[arg-type]

    # A pass

    def step(
        self, *, crash_after: int | None = None, meanwhile: Callable[[], None] | None = None
    ) -> Decision:
        """One pass, judged. Also as if the pass were repeated after its actions took effect."""
        decision = self.look(crash_after, meanwhile)
        whole = crash_after is None and meanwhile is None and not self.late
        if whole and decision.actions and not self.also_seen and self.stale is None:
            again = decide(self.observe(), self.now).actions
            given = [a for a in decision.actions if a in again]
            assert not given or self._refused, f"decided again though it is so: {given}"
        return decision

    def look(
        self, crash_after: int | None = None, meanwhile: Callable[[], None] | None = None
    ) -> Decision:
        seen = self.observe()
        decision = decide(seen, self.now)
        judge(seen, self.now, decision)
        self.told(seen, self.now, decision)
        self.passes += 1
        if meanwhile:
            meanwhile()
        if decision.status != self.status:
            self.writes += 1
            self.status = decision.status
            assert read(PromotionStatus, write(self.status), "status") == self.status
        looked = self.asked.fresh or self.stale is not None or self.also_seen
        assert looked or not decision.actions, "acts on what the cache shows"
        self._refused = False
        for action in decision.actions[:crash_after]:
            if not self.perform(action):
                self._refused = True
                break
        return decision

    _refused: bool = False

    def perform(self, action: object) -> bool:
        """As the runtime does, with its own fresh reads."""
        alias = self.promotion.spec.alias
        match action:
            case SetAlias(to, expect):
                version = self.versions.get(to)
                if self.aliases.get(alias) not in (expect, to) or not (version and version.ready):
                    return False
                self.aliases[alias] = to
                return True
            case ApplyTarget(target):
                spec = next(t for t in self.promotion.spec.targets if t.name == target)
                if spec.deployment.name not in self.deployments:
                    return False
            case TransitionStage(version):
                if version not in self.versions or not self.stages_supported:
                    return False
            case TagVersion(version):
                if version not in self.versions:
                    return False
            case MirrorEntry(entry):
                if self._head() >= entry.seq:
                    return True
            case WriteClaim() | AnswerDecision():
                pass
        return super().perform(action)

    def _head(self) -> int:
        spec = self.promotion.spec
        found = ledger.parse_ledger(spec.model, spec.alias, self.model_tags, None)
        return found.head_seq

    def commit_late(self) -> None:
        """Requests of an earlier pass take effect now, whatever the world is like."""
        for action in self.late:
            match action:
                case SetAlias(to) if to in self.versions:
                    self.aliases[self.promotion.spec.alias] = to
                case SetAlias() | MirrorEntry():
                    pass  # a late head would be a fork: MLflow's writes are fenced by the Lease
                case _:
                    self.perform(action)
        self.late = []

    def advance(self, decision: Decision, most: timedelta = timedelta(seconds=20)) -> None:
        wait = decision.requeue_after or timedelta(0)
        self.now += max(min(wait, most), timedelta(milliseconds=10))

    def calm(self) -> None:
        """Everything outside is well again."""
        self.registry_problem, self.model_gone, self.partial = None, False, False
        self.stale, self.deleting, self.late = None, None, []
        self.also_seen, self.spoilt_pods, self.spoilt_targets = {}, {}, {}
        self.bad_signatures = frozenset()
        self.stages_supported = self.aliases_supported = True
        for target in self.promotion.spec.targets:
            if target.deployment.name not in self.deployments:
                self.put_deployment(target.deployment.name)
