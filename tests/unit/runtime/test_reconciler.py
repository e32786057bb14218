"""What a pass does with an answer that no real server gives on demand."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from podium.api.promotion import ModelPromotion
from podium.api.reasons import Reason
from podium.api.values import read
from podium.clock import Clock
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import AmbiguousWrite, ApiUnavailable, Conflict
from podium.engine.decision import ApplyTarget, Decision, SetAlias, TagVersion
from podium.engine.observation import FailedTry, Observation, Problem, ProblemKind, TargetState
from podium.registry import RegistryClient
from podium.runtime import reconciler as reconcilers
from podium.runtime.cache import Cache
from podium.runtime.connected import Connected
from podium.runtime.gather import Gatherer
from podium.runtime.keys import Name
from podium.runtime.metrics import Metrics
from podium.runtime.perform import ActionRefusedError, PassEndedError, Performer
from podium.runtime.reconciler import MANY_PASSES, PASSES_IN_A_TURN, Memory, Reconciler
from podium.runtime.registries import Registries
from tests.unit.runtime.test_cache import promotion

Raw = Mapping[str, object]
BEGAN = datetime(2026, 11, 23, tzinfo=UTC)


class Kube:
    """One promotion, changed since by somebody whom no watch told of."""

    def __init__(self, now: Raw | None) -> None:
        self.now = now

    async def write_status(self, *_: object, **__: object) -> Raw:
        raise Conflict("the object has been modified")

    async def get_promotion(self, namespace: str, name: str) -> Raw | None:
        assert (namespace, name) == ("a", "p")
        return self.now


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_conflict_over_status_is_looked_into_without_waiting_for_the_watch(
    deleted: bool,
) -> None:
    """A watch that died in silence is replaced after 70 seconds; till then every pass met the
    same conflict."""
    cache, seen = Cache(), promotion("p", 4)
    cache.put_promotion(seen)
    kube = Kube(None if deleted else promotion("p", 5, model="other"))
    parsed = read(ModelPromotion, seen, "p")
    with pytest.raises(Conflict):
        await _reconciler(cache, kube)._write_status(parsed, parsed.status)
    known = cache.promotions[Name("a", "p")]
    assert known.model == ("churn" if deleted else "other")


class Decisions:
    """A server that has one decision, of which it counts the writes."""

    def __init__(self, decision: dict[str, Any]) -> None:
        self.decision = decision
        self.written: list[object] = []

    async def write_status(self, *_: object, status: object, **__: object) -> Raw:
        self.written.append(status)
        return {**self.decision, "status": status}


async def test_a_decision_on_a_promotion_that_is_not_there_is_told_once_and_stays_open() -> None:
    raw = {
        "metadata": {"namespace": "a", "name": "undo", "uid": "u", "resourceVersion": "1"},
        "spec": {"promotionRef": {"name": "p"}, "action": "Rollback", "reason": "it is slow"},
    }
    cache, kube = Cache(), Decisions(raw)
    cache.put_decision(raw)
    reconciler = _reconciler(cache, kube)
    for _ in range(2):
        assert await reconciler.reconcile(Name("a", "p")) is None
    assert kube.written == [
        {"message": "there is no ModelPromotion a/p; this is answered when there is one"}
    ]
    assert [each.metadata.name for each in cache.decisions(Name("a", "p"))] == ["undo"]


def test_what_failed_waits_for_its_time_and_keeps_nothing_else_waiting() -> None:
    tag = TagVersion("2", (("podium.dev/champion/phase", "Promoting"),))
    move = SetAlias(to="2", expect="1")
    memory = Memory(failed=tag, retry_at=10.0)
    assert memory.waits((tag,), 9.9) and memory.waits((move, tag), 9.9)
    assert not memory.waits((tag,), 10.0)
    assert not memory.waits((move,), 9.9)


@pytest.mark.parametrize(
    ("reason", "wants", "first", "last"),
    [
        (Reason.REGISTRY_THROTTLED, 2.0, (2.5, 6.0), (2.5, 6.0)),
        (Reason.REGISTRY_THROTTLED, 0.0, (0.9, 1.1), (270.0, 330.0)),  # by Podium's own limit
        (
            Reason.FIELD_CONFLICT,
            2.0,
            (0.9, 1.1),
            (270.0, 330.0),
        ),  # not the registry's
    ],
)
def test_a_registry_that_says_when_to_ask_again_is_asked_then(
    reason: Reason, wants: float, first: tuple[float, float], last: tuple[float, float]
) -> None:
    """What fails without a word is tried more and more seldom."""
    connected = Connected.__new__(Connected)
    connected.client = cast(RegistryClient, SimpleNamespace(wants_rest=wants))
    reconciler, name = _reconciler(Cache(), None), Name("a", "p")
    reconciler._registries = cast(Registries, {Name("a", "mlflow"): connected})
    raw = promotion("p", 4, registryRef={"name": "mlflow"})
    parsed = read(ModelPromotion, raw, "p")
    seen = Observation(promotion=parsed, cluster_id="c", operator_version="0")
    problem = Problem(ProblemKind.TRANSIENT, reason, "no")
    pauses = [reconciler._pause(name, seen, problem, 300.0) for _ in range(10)]
    assert first[0] <= pauses[0] <= first[1]
    assert last[0] <= pauses[-1] <= last[1]


async def test_a_pass_that_ends_by_a_change_waits_also_while_a_problem_is_remembered() -> None:
    """It came back at once, for as long as the promotion kept changing."""
    cache, now = Cache(), promotion("p", 5)
    reconciler = _reconciler(cache, Kube(now))
    parsed = read(ModelPromotion, promotion("p", 4), "p")
    seen = Observation(promotion=parsed, cluster_id="c", operator_version="0")
    move = SetAlias(to="2", expect="1")
    problem = Problem(ProblemKind.STALLED, Reason.FIELD_CONFLICT, "no")
    memory = Memory(problem=problem, failed=move)
    reconciler._registries = cast(Registries, {})
    pause = await reconciler._act(
        Name("a", "p"), parsed, seen, Decision(parsed.status, (move,)), memory, BEGAN
    )
    assert pause is not None and 0.9 <= pause <= 1.1
    assert memory.problem is problem and memory.failed is move


@pytest.mark.parametrize(
    ("refused", "kind", "tried"),
    [
        ("a", ProblemKind.STALLED, "abc"),
        ("a", ProblemKind.TRANSIENT, "abc"),
        ("abc", ProblemKind.STALLED, "abc"),
        ("abc", ProblemKind.TRANSIENT, "ab"),  # a server that is away is not asked for each
    ],
)
async def test_a_target_that_is_refused_keeps_no_other_one_waiting(
    monkeypatch: pytest.MonkeyPatch, refused: str, kind: ProblemKind, tried: str
) -> None:
    """And however many are refused in one pass, the next try is as soon as after one."""
    asked = []

    async def perform(_: Performer, action: ApplyTarget) -> None:
        asked.append(action.target)
        if action.target in refused:
            raise ActionRefusedError(Problem(kind, Reason.FIELD_CONFLICT, "argocd owns it"))

    monkeypatch.setattr(Performer, "perform", perform)
    reconciler = _reconciler(Cache(), None)
    reconciler._registries = cast(Registries, {})
    parsed = read(ModelPromotion, promotion("p", 4), "p")
    seen = Observation(promotion=parsed, cluster_id="c", operator_version="0")
    memory, targets = Memory(), tuple(ApplyTarget(name, "2", "m") for name in "abc")
    decision = Decision(parsed.status, targets)
    assert await reconciler._act(Name("a", "p"), parsed, seen, decision, memory, BEGAN) == 0.0
    assert "".join(asked) == tried
    assert memory.failed == targets[0] and memory.problem and memory.problem.kind is kind
    assert memory.retry_at - memory.failed_at < 1.2


@pytest.mark.parametrize(
    ("met", "failed"),
    [
        (AmbiguousWrite("no answer"), True),
        (ApiUnavailable("503"), True),
        (PassEndedError("the promotion changed meanwhile"), False),
        (None, False),
    ],
    ids=["no answer", "refused", "not sent", "done"],
)
async def test_a_change_of_a_target_that_did_not_succeed_is_remembered_until_one_does(
    monkeypatch: pytest.MonkeyPatch, met: Exception | None, failed: bool
) -> None:
    async def perform(_: Performer, action: ApplyTarget) -> None:
        if met is not None:
            raise met

    monkeypatch.setattr(Performer, "perform", perform)
    reconciler = _reconciler(Cache(), None)
    reconciler._registries = cast(Registries, {})
    parsed = read(ModelPromotion, promotion("p", 4), "p")
    seen = Observation(promotion=parsed, cluster_id="c", operator_version="0")
    before = FailedTry("a", BEGAN, Problem(ProblemKind.STALLED, Reason.FIELD_CONFLICT, "no"))
    decision = Decision(parsed.status, (ApplyTarget("a", "2", "m"),))
    later = BEGAN + timedelta(seconds=9)
    for known in (None, before):
        memory = Memory(failed_try=known)
        await reconciler._act(Name("a", "p"), parsed, seen, decision, memory, later)
        if failed:
            assert memory.failed_try is not None and memory.failed_try.began == later
            assert memory.failed_try.target == "a"
            assert memory.failed_try.problem.reason is Reason.KUBERNETES_UNAVAILABLE
        else:
            assert memory.failed_try is (known if met else None)


class Busy(Reconciler):
    """Finds something to do in each pass."""

    async def _decide_and_act(
        self, _name: Name, promotion: ModelPromotion, _memory: Memory, since: float | None
    ) -> ModelPromotion:
        self.__dict__.setdefault("passes", []).append(since)
        return promotion


def _busy(halted: bool = False) -> tuple[Busy, list[float | None]]:
    cache = Cache()
    cache.put_promotion(promotion("p", 4))
    reconciler = _reconciler(cache, None, Busy)
    reconciler._registries = cast(Registries, NothingPending())
    reconciler._halted = lambda: halted
    reconciler.__dict__["passes"] = passes = []
    return cast(Busy, reconciler), passes


class NothingPending:
    def pending(self, _name: Name) -> bool:
        return False


async def test_a_turn_reads_once_and_ends_so_that_others_have_theirs() -> None:
    busy, passes = _busy()
    assert await busy.reconcile(Name("a", "p")) == 0.0
    assert len(passes) == PASSES_IN_A_TURN
    assert passes[0] is None and len(set(passes[1:])) == 1


async def test_pass_after_pass_is_spaced_out_for_as_long_as_it_goes_on() -> None:
    busy, passes = _busy()
    delays = [await busy.reconcile(Name("a", "p")) for _ in range(10)]
    assert len(passes) <= MANY_PASSES + 10
    assert delays[-1] and delays[-1] > 1


async def test_a_turn_ends_after_its_pass_when_the_process_is_to_stop() -> None:
    busy, passes = _busy(halted=True)
    await busy.reconcile(Name("a", "p"))
    assert len(passes) == 1


async def test_since_when_a_target_is_unread_is_remembered_until_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pass that came to nothing does not count: then the server gave no answer at all."""
    parsed = read(ModelPromotion, promotion("p", 4), "p")
    away = Problem(ProblemKind.TRANSIENT, Reason.KUBERNETES_UNAVAILABLE, "503")
    missing = Problem(ProblemKind.WAITING, Reason.TARGET_NOT_FOUND, "no Deployment a")
    passes = [  # what is met, when, and what is told then
        (None, 0, None),
        (away, 10, 10),
        (away, 25, 10),
        (away, 5, 5),  # the clock was set back
        (missing, 30, None),
        (away, 40, 40),
        (ApiUnavailable("no answer"), 50, None),
        (away, 60, 60),
    ]
    told: list[datetime | None] = []

    def decide(seen: Observation, _now: datetime) -> Decision:
        told.append(seen.unread_since)
        return Decision(seen.status, requeue_after=timedelta(seconds=5))

    monkeypatch.setattr(reconcilers, "decide", decide)
    cache = Cache()
    cache.put_promotion(promotion("p", 4))
    reconciler = _reconciler(cache, None)
    reconciler._registries = cast(Registries, NothingPending())
    reconciler.signer = cast(Any, None)
    for met, seconds, _ in passes:

        async def observe(*_: object, met: object = met) -> Observation:
            if isinstance(met, Exception):
                raise met
            target = TargetState(name="a", deployment="a", problem=cast(Problem | None, met))
            return Observation(parsed, "c", "0", targets=(target,))

        now = BEGAN + timedelta(seconds=seconds)
        reconciler._gatherer = cast(Gatherer, SimpleNamespace(observe=observe))
        reconciler._clock = cast(Clock, SimpleNamespace(now=lambda now=now: now, monotonic=float))
        await reconciler.reconcile(Name("a", "p"))
    wanted = [since for met, _, since in passes if not isinstance(met, Exception)]
    assert told == [BEGAN + timedelta(seconds=s) if s is not None else None for s in wanted]


def _reconciler(cache: Cache, kube: object, kind: type[Reconciler] = Reconciler) -> Reconciler:
    absent = cast(Any, None)
    return kind(
        cache,
        cast(KubernetesClient, kube),
        cast(Registries, absent),
        cast(Gatherer, absent),
        lambda _: None,
        "cluster",
        Metrics(),
        random.Random(1),
    )
