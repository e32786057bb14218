"""One pass over one promotion: gather, decide, write status, act; and when to look again.

The rules that make it safe to be killed at any instant (DESIGN section 3) are kept here and in
`perform`: status is written, guarded, before anything is done, and each side effect first reads
the promotion again.
"""

import dataclasses
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from msgspec.structs import replace

from podium.api.promotion import ModelPromotion
from podium.api.promotion_status import PromotionStatus
from podium.api.reasons import Reason
from podium.api.values import ParseError, write
from podium.clock import SYSTEM, Clock
from podium.cluster import errors as cluster_errors
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import ClusterError
from podium.cluster.resources import PodiumKind
from podium.engine import ledger as ledgers
from podium.engine.decide import decide
from podium.engine.decision import Action, ApplyTarget, Decision, Event, EventType
from podium.engine.observation import FailedTry, Observation, Problem, ProblemKind
from podium.registry import errors as registry_errors
from podium.registry.errors import RegistryError
from podium.runtime import problems, unreadable
from podium.runtime.cache import Cache, CachedPromotion, name_of, unpack
from podium.runtime.connected import REQUEST_SECONDS, Connected
from podium.runtime.gather import Gatherer, PassMemory
from podium.runtime.keys import Name
from podium.runtime.logs import about
from podium.runtime.metrics import Metrics
from podium.runtime.perform import ActionRefusedError, PassEndedError, Performer
from podium.runtime.queue import BACKOFF_MOST, Backoff, jittered
from podium.runtime.registries import Registries
from podium.runtime.signing import Signer

STALLED_SECONDS = 300.0
HINTED_SECONDS = 5.0  # how soon after a failure a hint may bring the next try
SETTLING_SECONDS = REQUEST_SECONDS + 5.0  # how long a timed-out write may still take effect
MAX_GONE = 1000
PASSES_IN_A_TURN = 30  # then others that wait have theirs
TURN_SECONDS = 10.0  # for so long a turn goes by what it read
MANY_PASSES = 120  # at once, in a row: then the promotion waits a little between passes
Raw = Mapping[str, object]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Memory:
    """What is remembered of one promotion between passes; losing it costs only time."""

    problem: Problem | None = None
    failed: Action | None = None
    failed_try: FailedTry | None = None  # of a target
    unread_since: datetime | None = None  # no pass since then could read each target
    retry_at: float = 0.0  # monotonic: that action is not tried again before
    failed_at: float = 0.0  # monotonic
    unsettled_until: float | None = None
    passes_at_once: int = 0

    def waits(self, actions: tuple[Action, ...], now: float) -> bool:
        """Whether what failed is among them and not yet due: then they all wait."""
        return now < self.retry_at and self.failed in actions


class Reconciler:
    """`signer` must be set before the first pass."""

    signer: Signer

    def __init__(
        self,
        cache: Cache,
        kube: KubernetesClient,
        registries: Registries,
        gatherer: Gatherer,
        fence: Callable[[float], None],
        cluster_id: str,
        metrics: Metrics,
        rng: random.Random,
        clock: Clock = SYSTEM,
        halted: Callable[[], bool] = lambda: False,
    ) -> None:
        """`halted`: whether this process is to begin nothing more."""
        self._cache = cache
        self._kube = kube
        self._registries = registries
        self._gatherer = gatherer
        self._fence = fence
        self._cluster_id = cluster_id
        self._metrics = metrics
        self._rng = rng
        self._clock = clock
        self._halted = halted
        self._backoff: Backoff[Name] = Backoff(rng)
        self._memories: dict[Name, Memory] = {}
        self._gone: dict[Name, CachedPromotion] = {}

    def hinted(self, name: Name) -> None:
        """Something outside changed: what stalled an action may be mended."""
        memory = self._memories.get(name)
        if memory is not None:
            memory.retry_at = min(memory.retry_at, memory.failed_at + HINTED_SECONDS)

    def deleted(self, name: Name, entry: CachedPromotion) -> None:
        """The promotion is gone as the watch says; its claim is released in its next pass."""
        if len(self._gone) >= MAX_GONE:  # a replica that waits for the Lease makes no passes
            self._gone.pop(next(iter(self._gone)))
        self._gone[name] = entry

    async def reconcile(self, name: Name) -> float | None:
        """One pass. Gives the seconds until the next; None: when a hint comes. Never raises."""
        began = self._clock.monotonic()
        with about(promotion=str(name)):
            try:
                delay = await self._pass(name)
            except (ClusterError, RegistryError) as error:
                # Reads of the pass itself; what actions meet with is handled where they are.
                _log.info("the pass ended early: %s", error)
                if memory := self._memories.get(name):
                    memory.unread_since = None  # the server is away, and not for one target alone
                delay = self._backoff.failed(name)
            except Exception:
                _log.exception("unexpected error in a pass; it is tried again")
                self._metrics.reconcile_errors.inc()
                delay = self._backoff.failed(name)
        self._metrics.reconcile_seconds.observe(self._clock.monotonic() - began)
        return self._not_too_often(name, delay)

    def _not_too_often(self, name: Name, delay: float | None) -> float | None:
        memory = self._memories.get(name)
        if memory is None:
            return delay
        if delay is None or delay > 0:
            memory.passes_at_once = 0
            return delay
        return jittered(2.0, self._rng) if memory.passes_at_once > MANY_PASSES else delay

    async def _pass(self, name: Name) -> float | None:
        entry = self._cache.promotions.get(name)
        if entry is None:
            await self._release(name)
            await self._say_unmet(name)
            self._backoff.succeeded(name)
            return None
        self._gone.pop(name, None)
        try:
            promotion = entry.parse()
        except ParseError as error:
            raw = unpack(entry.packed)
            await unreadable.tell(self._kube, PodiumKind.PROMOTIONS, raw, error, self._clock.now())
            return None
        if self._registries.pending(Name(name.namespace, promotion.spec.registry_ref.name)):
            return None
        return await self._turn(name, promotion, self._memories.setdefault(name, Memory()))

    async def _turn(self, name: Name, promotion: ModelPromotion, memory: Memory) -> float | None:
        """A pass; and, while there is something to do, the next one with the model as it was just
        read and as our writes since have left it: reading it again after each is most of a
        registry's work. (What must not be built on such a view is read before the action.)"""
        began = self._clock.monotonic()
        seen_since: float | None = None
        for _ in range(1 if memory.passes_at_once >= MANY_PASSES else PASSES_IN_A_TURN):
            memory.passes_at_once += 1
            if memory.passes_at_once == MANY_PASSES:
                _log.warning("many passes at once over %s; they are spaced out now", name)
            attempt = promotion.status.active
            with about(
                model=promotion.spec.model,
                version=attempt.version if attempt else promotion.status.champion_version,
                attempt=attempt.id if attempt else None,
                phase=attempt.phase.value if attempt else None,
            ):
                after = await self._decide_and_act(name, promotion, memory, seen_since)
            if not isinstance(after, ModelPromotion):
                return after
            promotion, seen_since = after, began
            if self._halted() or self._clock.monotonic() - began > TURN_SECONDS:
                break
        return 0.0

    async def _decide_and_act(
        self, name: Name, promotion: ModelPromotion, memory: Memory, seen_since: float | None
    ) -> ModelPromotion | float | None:
        """The promotion with the status that was written, if the next pass may follow at once;
        else the seconds until it."""
        began = self._clock.monotonic()
        settling = memory.unsettled_until is not None
        unsettled = memory.unsettled_until is not None and began < memory.unsettled_until
        now = self._clock.now()
        met = PassMemory(memory.problem, memory.failed_try, unsettled, settling, seen_since)
        seen = await self._gatherer.observe(promotion, self.signer, met, now)
        memory.unread_since = min(memory.unread_since or now, now) if seen.unread else None
        seen = dataclasses.replace(seen, unread_since=memory.unread_since)
        if settling and not unsettled and seen.registry_problem is None:
            memory.unsettled_until = None
        decision = decide(seen, now)
        status = self._signed(decision.status)
        written = write(status) != write(promotion.status)
        if written:
            _log_phase(promotion, status)
            promotion = await self._write_status(promotion, status)
        await self._tell(promotion, decision.events)
        if decision.actions and not memory.waits(decision.actions, began):
            pause = await self._act(name, promotion, seen, decision, memory, now)
            return promotion if pause is None else pause
        if decision.actions:
            return 0.0 if written else self._next_look(name, seen, decision, memory)
        if not unsettled:
            memory.problem = None
        return promotion if written else self._next_look(name, seen, decision, memory)

    def _signed(self, status: PromotionStatus) -> PromotionStatus:
        if all(entry.signature for entry in status.history):
            return status
        return replace(status, history=tuple(self.signer.sign(e) for e in status.history))

    async def _write_status(
        self, promotion: ModelPromotion, status: PromotionStatus
    ) -> ModelPromotion:
        metadata = promotion.metadata
        try:
            raw = await self._kube.write_status(
                PodiumKind.PROMOTIONS,
                metadata.namespace,
                metadata.name,
                uid=metadata.uid,
                resource_version=metadata.resource_version,
                status=write(status),
            )
        except cluster_errors.Conflict:
            # The watch is late, or its connection died in silence: the next pass must know more.
            await self._look(metadata.namespace, metadata.name)
            raise
        self._cache.put_promotion(raw)
        version = str(cast(Raw, raw["metadata"])["resourceVersion"])
        return replace(
            promotion, metadata=replace(metadata, resource_version=version), status=status
        )

    async def _look(self, namespace: str, name: str) -> None:
        """Brings the cache up to date with one fresh read."""
        raw = await self._kube.get_promotion(namespace, name)
        if raw is not None:
            self._learn(raw)

    def _learn(self, raw: Raw) -> None:
        """The watch will not tell again what was read already, so what failed before does not
        keep the next pass waiting."""
        if self._cache.put_promotion(raw):
            self._backoff.succeeded(name_of(raw))

    async def _tell(self, promotion: ModelPromotion, events: tuple[Event, ...]) -> None:
        for event in events:
            level = logging.WARNING if event.type is EventType.WARNING else logging.INFO
            _log.log(level, "%s: %s", event.reason.value, event.message)
            self._metrics.events.labels(event.type.value, event.reason.value).inc()
            await self._kube.emit_event(
                regarding(promotion),
                type=event.type,
                reason=event.reason.value,
                message=event.message,
            )

    async def _act(
        self,
        name: Name,
        promotion: ModelPromotion,
        seen: Observation,
        decision: Decision,
        memory: Memory,
        began: datetime,
    ) -> float | None:
        """None: all actions were performed. Else the seconds until the next pass; what an action
        failed of is in `memory`, and is told by a pass at once."""
        connected = self._registries.get(Name(name.namespace, seen.spec.registry_ref.name))
        performer = Performer(
            kube=self._kube,
            cache=self._cache,
            fence=self._fence,
            guard=lambda: self._guard(promotion),
            seen=seen,
            connected=connected if isinstance(connected, Connected) else None,
            clock=self._clock,
        )
        refused = False
        for action in decision.actions:
            try:
                _log.debug("performing %s", action)
                await performer.perform(action)
            except (PassEndedError, cluster_errors.NotLeader, cluster_errors.Conflict) as ended:
                _log.info("the pass ended: %s", ended)
                return self._soon(name, memory)
            except (registry_errors.AmbiguousWrite, cluster_errors.AmbiguousWrite) as error:
                _log.warning("%s", error)
                if isinstance(action, ApplyTarget):
                    memory.failed_try = FailedTry(action.target, began, _problem_of(error))
                memory.unsettled_until = self._clock.monotonic() + SETTLING_SECONDS
                return self._soon(name, memory)
            except (ActionRefusedError, RegistryError, ClusterError) as error:
                problem = _problem_of(error)
                _log.warning("%s: %s", problem.reason.value, problem.message)
                if isinstance(action, ApplyTarget) and not refused:
                    memory.failed_try = FailedTry(action.target, began, problem)
                away = refused and problem.kind is ProblemKind.TRANSIENT
                if not refused:
                    self._remember(name, seen, memory, action, problem)
                refused = True
                if away or not isinstance(action, ApplyTarget):
                    break  # one target that is refused keeps no other one waiting
            else:
                if memory.failed in (None, action):
                    self._backoff.succeeded(name)
        if refused:
            return 0.0
        memory.problem = memory.failed = memory.failed_try = None
        memory.retry_at = 0.0
        return None

    def _soon(self, name: Name, memory: Memory) -> float:
        """Seconds until a pass that something came between is made again. What failed before for
        another reason has its own time."""
        return jittered(1.0, self._rng) if memory.failed else self._backoff.failed(name)

    async def _guard(self, promotion: ModelPromotion) -> None:
        """Rule 3: the promotion is exactly what this pass decided on."""
        metadata = promotion.metadata
        raw = await self._kube.get_promotion(metadata.namespace, metadata.name)
        if raw is None:
            raise PassEndedError("the promotion was deleted meanwhile")
        found = cast(Raw, raw["metadata"])
        same = (found["uid"], found["resourceVersion"]) == (
            metadata.uid,
            metadata.resource_version,
        )
        if not same or found.get("deletionTimestamp"):
            self._learn(raw)
            raise PassEndedError("the promotion changed meanwhile")

    def _remember(
        self, name: Name, seen: Observation, memory: Memory, action: Action, problem: Problem
    ) -> None:
        """The next pass puts the problem into status at once; what is decided with it waits."""
        memory.problem, memory.failed = problem, action
        memory.failed_at = self._clock.monotonic()
        patient = problem.kind is not ProblemKind.TRANSIENT
        # Also what a person must mend may have been one garbled answer.
        pause = self._pause(name, seen, problem, STALLED_SECONDS if patient else BACKOFF_MOST)
        memory.retry_at = memory.failed_at + pause

    def _pause(
        self, name: Name, seen: Observation, problem: Problem, most: float = BACKOFF_MOST
    ) -> float:
        """Seconds until the next try: the longer, the more has failed in a row. A registry that
        said when to ask again is asked soon after that: a few throttled requests in a row must
        not add up to a minute."""
        rest = 0.0
        if problem.reason in (Reason.REGISTRY_THROTTLED, Reason.REGISTRY_UNAVAILABLE):
            found = self._registries.get(Name(name.namespace, seen.spec.registry_ref.name))
            rest = found.client.wants_rest if isinstance(found, Connected) else 0.0
        if rest:  # all that met with it come back then: not all at once
            return rest + self._rng.uniform(0.5, 2.0 + rest)
        return self._backoff.failed(name, most)

    def _next_look(
        self, name: Name, seen: Observation, decision: Decision, memory: Memory
    ) -> float | None:
        if decision.actions:
            return max(0.1, memory.retry_at - self._clock.monotonic())
        asked = decision.requeue_after
        delay = None if asked is None else max(0.0, asked.total_seconds())
        problem = decision.problem
        if problem is not None and problem.kind is ProblemKind.TRANSIENT:
            backoff = self._pause(name, seen, problem)
            return backoff if delay is None else max(backoff, jittered(min(delay, 60.0), self._rng))
        self._backoff.succeeded(name)
        if problem is not None and delay is None and problem.kind is ProblemKind.STALLED:
            delay = STALLED_SECONDS
        if delay is not None and delay > 0:
            return jittered(delay, self._rng)
        return delay

    async def _say_unmet(self, name: Name) -> None:
        """Decisions on a promotion that is not there (yet): each is told once, and stays open."""
        text = f"there is no ModelPromotion {name}; this is answered when there is one"
        for decision in self._cache.decisions(name):
            if decision.status.message == text:
                continue
            metadata = decision.metadata
            raw = await self._kube.write_status(
                PodiumKind.DECISIONS,
                metadata.namespace,
                metadata.name,
                uid=metadata.uid,
                resource_version=metadata.resource_version,
                status={"message": text},
            )
            self._cache.put_decision(raw)

    async def _release(self, name: Name) -> None:
        """After a deletion: the claim is marked as released, if it is this promotion's."""
        self._memories.pop(name, None)
        entry = self._gone.get(name)
        if entry is None or entry.problem is not None:
            return
        there = await self._kube.get_promotion(*name)
        self._gone.pop(name, None)
        if there is not None:
            return
        spec = entry.parse().spec
        connected = self._registries.get(Name(name.namespace, spec.registry_ref.name))
        if not isinstance(connected, Connected):
            return
        try:
            key = ledgers.owner_tag_key(spec.alias)
            claim = ledgers.parse_claim(
                (await connected.client.get_model(spec.model)).tags.get(key)
            )
            if claim is None or claim.released:
                return
            if (claim.cluster, claim.namespace, claim.name) != (self._cluster_id, *name):
                return
            self._fence(REQUEST_SECONDS)
            released = ledgers.encode_claim(dataclasses.replace(claim, released=True))
            await connected.client.set_model_tag(spec.model, key, released)
            _log.info("released the claim on alias %s of %s", spec.alias, spec.model)
        except (RegistryError, ClusterError) as error:
            # Harmless: an owner that is gone yields within its cluster anyway.
            _log.info("the claim on alias %s was not released: %s", spec.alias, error)


def _problem_of(error: ActionRefusedError | RegistryError | ClusterError) -> Problem:
    match error:
        case ActionRefusedError(problem=problem):
            return problem
        case RegistryError():
            return problems.of_registry(error)
        case _:
            return error.problem()


def _log_phase(promotion: ModelPromotion, status: PromotionStatus) -> None:
    before, after = promotion.status.attempt, status.attempt
    if after is not None and (before is None or before.phase is not after.phase):
        _log.info("attempt %s of version %s: %s", after.id, after.version, after.phase.value)


def regarding(promotion: ModelPromotion) -> Raw:
    """The promotion as Events refer to it."""
    metadata = promotion.metadata
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "ModelPromotion",
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
    }
