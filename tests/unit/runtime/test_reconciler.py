"""What a pass does with an answer that no real server gives on demand."""

import random
from collections.abc import Mapping
from typing import Any, cast

import pytest

from podium.api.promotion import ModelPromotion
from podium.api.values import read
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import Conflict
from podium.engine.decision import SetAlias, TagVersion
from podium.runtime.cache import Cache
from podium.runtime.gather import Gatherer
from podium.runtime.keys import Name
from podium.runtime.metrics import Metrics
from podium.runtime.reconciler import Memory, Reconciler
from podium.runtime.registries import Registries
from tests.unit.runtime.test_cache import promotion

Raw = Mapping[str, object]


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


def _reconciler(cache: Cache, kube: object) -> Reconciler:
    absent = cast(Any, None)
    return Reconciler(
        cache,
        cast(KubernetesClient, kube),
        cast(Registries, absent),
        cast(Gatherer, absent),
        lambda _: None,
        "cluster",
        Metrics(),
        random.Random(1),
    )
