"""Gathers what one pass sees: first from what is known already, then, where `needs` asks for it,
fresh from MLflow and Kubernetes.

All reading for a decision happens here; nothing is decided and nothing is written.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

from podium import __version__
from podium.api.ledger_entry import EntryAction
from podium.api.meta import ConditionStatus
from podium.api.model_registry import ModelRegistry
from podium.api.promotion import ModelPromotion, Stage
from podium.api.promotion_status import GateStatus, PromotionStatus
from podium.api.reasons import ConditionType, Reason
from podium.clock import SYSTEM, Clock
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import ClusterError
from podium.engine import ledger as ledgers
from podium.engine.candidate import candidate_since
from podium.engine.decision import Needs
from podium.engine.needs import needs
from podium.engine.observation import (
    Claim,
    FailedTry,
    LedgerState,
    ModelState,
    Observation,
    Problem,
    ProblemKind,
    TargetState,
    VersionState,
)
from podium.engine.restoring import trusted_keys
from podium.gates.evaluate import evaluate_all, reads_of
from podium.gates.facts import GateFacts, Unreadable, VersionFacts
from podium.registry.errors import RegistryError, RunNotFound
from podium.registry.model import Run, Version
from podium.runtime import problems
from podium.runtime.cache import Cache
from podium.runtime.connected import Connected
from podium.runtime.keys import Name
from podium.runtime.registries import Registries
from podium.runtime.rivals import rival_of, staging_taken
from podium.runtime.signing import Signer, Verifier
from podium.runtime.snapshots import Snapshot
from podium.targets import deployment as deployments

AUTOSCALERS_SECONDS = 30.0
MAX_AUTHORS = 10_000
_ARRIVED = frozenset(
    {EntryAction.PROMOTED, EntryAction.ADOPTED, EntryAction.ROLLED_BACK, EntryAction.REVERTED}
)
_log = logging.getLogger(__name__)
Raw = Mapping[str, object]


@dataclass(frozen=True)
class PassMemory:
    """What the reconciler remembers of earlier passes over the same promotion."""

    action_problem: Problem | None = None
    failed_try: FailedTry | None = None
    unsettled: bool = False
    look_fresh: bool = False
    seen_since: float | None = None  # monotonic: what was read since then is fresh to this pass


class Gatherer:
    def __init__(
        self,
        cache: Cache,
        kube: KubernetesClient,
        registries: Registries,
        cluster_id: str,
        max_rollouts: int,
        clock: Clock = SYSTEM,
    ) -> None:
        self._cache = cache
        self._kube = kube
        self._registries = registries
        self._cluster_id = cluster_id
        self._max_rollouts = max_rollouts
        self._clock = clock
        self._verifier = Verifier()
        self._autoscalers: dict[str, tuple[float, list[Raw]]] = {}
        self._authors: dict[str, frozenset[str] | None] = {}

    async def observe(
        self, promotion: ModelPromotion, signer: Signer, memory: PassMemory, now: datetime
    ) -> Observation:
        """Everything that `decide` looks at. Raises ClusterError, and RegistryError when the
        registry's client was replaced meanwhile."""
        name = Name(promotion.metadata.namespace, promotion.metadata.name)
        seen = Observation(
            promotion=promotion,
            cluster_id=self._cluster_id,
            operator_version=__version__,
            decisions=self._cache.decisions(name),
            action_problem=memory.action_problem,
            failed_try=memory.failed_try,
            unsettled=memory.unsettled,
            rival=rival_of(name, self._cache, self._registries),
            staging_taken=staging_taken(name, self._cache, self._registries),
            rollout_slot=self._slot(name),
        )
        seen = replace(seen, targets=await self._targets(promotion, fresh=False, pods=False))
        connected = self._connected(promotion)
        if isinstance(connected, Problem):
            seen = replace(seen, registry_problem=connected)
            asked = needs(seen, now)
            if asked.fresh or asked.pods:
                seen = replace(seen, targets=await self._targets(promotion, True, asked.pods))
            return seen
        poll = timedelta(seconds=connected.registry.spec.poll_interval.seconds)
        back_at = self._back_at(promotion, now)
        seen = replace(seen, poll_interval=poll, registry_back_at=back_at)
        return await self._with_model(seen, connected, signer, memory, now)

    async def _with_model(
        self,
        seen: Observation,
        connected: Connected,
        signer: Signer,
        memory: PassMemory,
        now: datetime,
    ) -> Observation:
        model = seen.spec.model
        try:
            known = connected.snapshot(model)
            fresh = known is None or memory.look_fresh or _just_read(known, memory, seen.status)
            if known is None or memory.look_fresh:
                known = await connected.read(model)
            seen = await self._of_snapshot(seen, known, connected, signer)
            asked = needs(seen, now)
            if (asked.fresh or asked.versions) and not fresh:
                known = await connected.read(model)
                seen = await self._of_snapshot(seen, known, connected, signer)
            seen = await self._with_authors(seen, connected)
            if asked.gates_for:
                seen = await self._with_gates(seen, asked, known, connected, now)
        except RegistryError as error:
            if self._connected(seen.promotion) is not connected:
                raise  # the ModelRegistry changed meanwhile: the next pass uses the new client
            seen = replace(seen, registry_problem=problems.of_registry(error), model=None)
            asked = needs(seen, now)
        if asked.fresh or asked.pods:
            targets = await self._targets(seen.promotion, asked.fresh, asked.pods)
            seen = replace(seen, targets=targets)
        return seen

    def _connected(self, promotion: ModelPromotion) -> Connected | Problem:
        namespace, spec = promotion.metadata.namespace, promotion.spec
        found = self._registries.get(Name(namespace, spec.registry_ref.name))
        if isinstance(found, Problem):
            return found
        registry: ModelRegistry = found.registry
        if not registry.spec.allows(spec.model):
            return Problem(
                ProblemKind.STALLED,
                Reason.MODEL_NOT_ALLOWED,
                f"modelPatterns of ModelRegistry {namespace}/{registry.metadata.name} leave model "
                f"{spec.model} out; add a pattern there, or use another registry",
            )
        return found.problem or found

    def _back_at(self, promotion: ModelPromotion, now: datetime) -> datetime | None:
        """Since when the registry answers. It does now, whatever its status still says."""
        name = Name(promotion.metadata.namespace, promotion.spec.registry_ref.name)
        registry = self._cache.registry(name)
        for condition in registry.status.conditions if registry else ():
            if condition.type == ConditionType.READY:
                well = condition.status == ConditionStatus.TRUE
                return condition.last_transition_time if well else now
        return None

    # The model and its ledger

    async def _of_snapshot(
        self, seen: Observation, snapshot: Snapshot, connected: Connected, signer: Signer
    ) -> Observation:
        if snapshot.model is None:
            return replace(seen, model=None, ledger=LedgerState(signer=signer.public))
        able = connected.capabilities or await connected.client.capabilities()
        model, versions = snapshot.model, snapshot.versions
        state = ModelState(
            aliases=model.aliases,
            tags=model.tags,
            versions={v: self._version_state(version) for v, version in versions.items()},
            complete=snapshot.complete,
            stages_supported=able.stages,
            aliases_supported=able.aliases,
            created_at=model.created_at,
        )
        tags = {v: version.tags for v, version in versions.items()} if snapshot.complete else None
        ledger = ledgers.parse_ledger(
            seen.spec.model, seen.spec.alias, model.tags, tags, signer.public
        )
        trusted = trusted_keys(replace(seen, model=state, ledger=ledger))
        ledger = replace(ledger, bad_signatures=self._verifier.bad(ledger.entries, trusted))
        claim = ledgers.parse_claim(model.tags.get(ledgers.owner_tag_key(seen.spec.alias)))
        seen = replace(seen, model=state, ledger=ledger, claim=claim)
        return replace(
            seen,
            claim_owner_gone=await self._owner_gone(claim, seen.promotion),
            candidate_since=_candidate_since(seen),
        )

    def _version_state(self, version: Version) -> VersionState:
        stage = version.stage if version.stage in Stage.__members__.values() else Stage.NONE
        return VersionState(
            version=version.version,
            stage=Stage(stage),
            ready=version.status == "READY",
            created_at=version.created_at,
            updated_at=version.updated_at,
            tags=version.tags,
            source=version.source,
            run_id=version.run_id,
            authors=self._authors.get(version.run_id or "", frozenset()),
        )

    async def _owner_gone(self, claim: Claim | None, promotion: ModelPromotion) -> bool:
        own = (promotion.metadata.namespace, promotion.metadata.name)
        if claim is None or claim.released or claim.cluster != self._cluster_id:
            return False
        owner = Name(claim.namespace, claim.name)
        if owner == own or owner in self._cache.promotions:
            return False
        return await self._kube.get_promotion(*owner) is None

    async def _with_authors(self, seen: Observation, connected: Connected) -> Observation:
        """Who logged the attempt's run: asked only where authors may not approve, before it moves
        anything."""
        approval, attempt = seen.spec.approval, seen.attempt
        version = seen.version(attempt.version) if attempt else None
        if not approval or not approval.exclude_authors or not version or not version.run_id:
            return seen
        if attempt is None or attempt.move_id or attempt.rollback:
            return seen
        if version.run_id not in self._authors:
            if len(self._authors) >= MAX_AUTHORS:
                self._authors.clear()
            self._authors[version.run_id] = await _authors_of(version.run_id, connected)
        authors = self._authors[version.run_id]
        assert seen.model is not None
        versions = {**seen.model.versions, version.version: replace(version, authors=authors)}
        return replace(seen, model=replace(seen.model, versions=versions))

    # Gates

    async def _with_gates(
        self,
        seen: Observation,
        asked: Needs,
        snapshot: Snapshot,
        connected: Connected,
        now: datetime,
    ) -> Observation:
        candidate = seen.version(asked.gates_for)
        if candidate is None or not seen.spec.gates:
            return seen
        wanted = reads_of(seen.spec.gates)
        champion: VersionFacts | Unreadable | None = None
        against = _champion_to_beat(seen, candidate.version)
        if wanted.champion and against is not None:
            state = seen.version(against)
            champion = (
                await self._facts(seen, state, wanted.run, wanted.logged_model, snapshot, connected)
                if state
                else Unreadable(f"the champion, version {against}, is not in MLflow any more")
            )
        facts = GateFacts(
            candidate=await self._facts(
                seen, candidate, wanted.run, wanted.logged_model, snapshot, connected
            ),
            champion=champion,
            candidate_since=candidate_since(seen, candidate.version),
        )
        verdicts: tuple[GateStatus, ...]
        verdicts, inputs = evaluate_all(seen.spec.gates, facts, now)
        return replace(seen, gates=verdicts, gate_inputs=inputs)

    async def _facts(
        self,
        seen: Observation,
        state: VersionState,
        run: bool,
        logged_model: bool,
        snapshot: Snapshot,
        connected: Connected,
    ) -> VersionFacts:
        facts = VersionFacts(state)
        if run and state.run_id is not None:
            found: Run | Unreadable
            try:
                found = await connected.client.get_run(state.run_id)
            except RegistryError as error:
                found = Unreadable(str(error))
            facts = replace(facts, run=found)
        if logged_model and state.version in snapshot.versions:
            try:
                version = snapshot.versions[state.version]
                model = await connected.client.resolve_logged_model(version)
                facts = replace(facts, logged_model=model)
            except RegistryError as error:
                facts = replace(facts, logged_model=Unreadable(str(error)))
        return facts

    # Targets

    async def _targets(
        self, promotion: ModelPromotion, fresh: bool, pods: bool
    ) -> tuple[TargetState, ...]:
        namespace = promotion.metadata.namespace
        targets = []
        for target in promotion.spec.targets:
            try:
                name = Name(namespace, target.deployment.name)
                raw = None if fresh else self._cache.deployment(name)
                if raw is None:
                    raw = await self._kube.get_deployment(*name)
                    if raw is not None:
                        self._cache.put_deployment(raw)
                found = await self._pods(namespace, raw) if pods and raw is not None else None
                scalers = await self._scalers(namespace, fresh)
                scaled = deployments.autoscaled(scalers, target.deployment.name)
                targets.append(deployments.observe(target, raw, found, scaled))
            except ClusterError as error:
                targets.append(
                    TargetState(
                        name=target.name,
                        deployment=target.deployment.name,
                        problem=error.problem(),
                    )
                )
        return tuple(targets)

    async def _pods(self, namespace: str, deployment: Raw) -> list[Raw]:
        spec = cast(Raw, deployment["spec"])
        return await self._kube.list_pods(namespace, cast(Raw, spec["selector"]))

    async def _scalers(self, namespace: str, fresh: bool) -> list[Raw]:
        read_at, known = self._autoscalers.get(namespace, (None, []))
        now = self._clock.monotonic()
        if read_at is None or (fresh and now - read_at > AUTOSCALERS_SECONDS):
            known = await self._kube.list_autoscalers(namespace)
            self._autoscalers[namespace] = (now, known)
        return known

    def _slot(self, name: Name) -> bool:
        entry = self._cache.promotions.get(name)
        if self._max_rollouts == 0 or (entry is not None and entry.rolling):
            return True
        return self._cache.rolling_besides(name) < self._max_rollouts


def _just_read(known: Snapshot, memory: PassMemory, status: PromotionStatus) -> bool:
    """Whether no pass of this turn has to read it again. Who waits whether his claim stands looks
    anew each time."""
    if status.claim is not None and status.claim.seen_at is not None:
        return False
    since = memory.seen_since
    return since is not None and known.whole_at is not None and known.whole_at >= since


async def _authors_of(run_id: str, connected: Connected) -> frozenset[str] | None:
    """None: the run was deleted for good, and nobody knows."""
    try:
        run = await connected.client.get_run(run_id)
    except RunNotFound:
        return None
    user = run.tags.get("mlflow.user")
    return frozenset({user} if user else ())


def _champion_to_beat(seen: Observation, candidate: str) -> str | None:
    """In an adoption the alias points at the candidate already: then the one before it counts."""
    attempt = seen.attempt
    if attempt is not None and attempt.version == candidate:
        return attempt.previous
    return seen.status.champion_version or seen.alias


def _candidate_since(seen: Observation) -> datetime | None:
    """For `candidate.alias`: when that alias came to its version, by its own ledger."""
    selector = seen.spec.candidate
    if selector is None or selector.alias is None or seen.model is None:
        return None
    version = seen.model.aliases.get(selector.alias)
    tags = {v: known.tags for v, known in seen.model.versions.items()}
    parsed = ledgers.parse_ledger(seen.spec.model, selector.alias, seen.model.tags, tags)
    chain = ledgers.check(parsed)
    arrivals = [e for e in chain.entries if e.action in _ARRIVED]
    if version is None or not arrivals or arrivals[-1].to != version or chain.trouble:
        return None
    return arrivals[-1].time
