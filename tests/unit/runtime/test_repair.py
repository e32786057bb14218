"""The repairing LIST: what the watches missed is found, and what is gone is forgotten."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from podium.cluster.client import KubernetesClient
from podium.runtime.cache import Cache
from podium.runtime.health import Health
from podium.runtime.hints import Hints
from podium.runtime.keys import Key, Kind, Name
from podium.runtime.metrics import Metrics
from podium.runtime.queue import KeyedQueue
from podium.runtime.reconciler import Reconciler
from podium.runtime.repair import Repair

Raw = dict[str, Any]


class Store(dict[str, Raw]):
    """Objects of one kind in namespace `a`, by name."""

    def put(self, name: str, version: int, **rest: object) -> None:
        metadata = {"namespace": "a", "name": name, "uid": name, "resourceVersion": str(version)}
        self[name] = {"metadata": metadata, **rest}

    async def list(self, _: str | None) -> AsyncIterator[Raw]:
        for raw in list(self.values()):
            yield raw

    async def get(self, _: str, name: str) -> Raw | None:  # type: ignore[override]
        return super().get(name)


class Kube:
    def __init__(self) -> None:
        self.promotions, self.registries = Store(), Store()
        self.decisions, self.deployments = Store(), Store()
        self.list_promotions, self.get_promotion = self.promotions.list, self.promotions.get
        self.list_decisions, self.get_decision = self.decisions.list, self.decisions.get
        self.list_deployments, self.get_deployment = self.deployments.list, self.deployments.get
        self.list_registries = self.registries.list


class Looks:
    """What of the reconciler a hint tells."""

    def hinted(self, name: Name) -> None: ...
    def deleted(self, name: Name, entry: object) -> None: ...


class World:
    def __init__(self) -> None:
        self.kube, self.cache = Kube(), Cache()
        self.queue: KeyedQueue[Key] = KeyedQueue(workers=1)
        self.health = Health(self.queue.stats, [], lambda: 0.0)
        hints = Hints(self.cache, self.queue, cast(Reconciler, Looks()))
        kube = cast(KubernetesClient, self.kube)
        self.repair = Repair(kube, self.cache, hints, self.health, Metrics(), [], 600.0)
        self.kube.registries.put("mlflow", 1, spec={"trackingURI": "http://mlflow"})
        target = {"name": "api", "deployment": {"name": "api"}}
        self.kube.promotions.put("p", 2, spec={"model": "m", "targets": [target]})
        self.kube.deployments.put("api", 3, spec={"replicas": 1})
        self.kube.deployments.put("other", 3, spec={})
        said = {"promotionRef": {"name": "p"}, "action": "Hold", "decidedBy": "ann"}
        self.kube.decisions.put("d", 4, spec=said)

    async def repaired(self) -> tuple[int, set[str]]:
        """How many promotions were missed, and whom a LIST woke."""
        self.queue._due.clear()
        missed = await self.repair._list()
        self.health.synced = True
        return missed, {f"{key.kind} {key.name.name}" for key in self.queue._due}

    def known(self) -> list[int]:
        of_target = self.cache.deployment_names()
        return [
            len(each)
            for each in (
                self.cache.registries,
                self.cache.promotions,
                self.cache.decision_names(),
                of_target,
            )
        ]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    async def at_once(_: float) -> None: ...

    monkeypatch.setattr("podium.runtime.repair.asyncio.sleep", at_once)
    yield World()


async def test_the_first_fills_the_cache_and_the_next_finds_nothing_new(world: World) -> None:
    assert await world.repaired() == (0, {f"{Kind.REGISTRY} mlflow", f"{Kind.PROMOTION} p"})
    assert world.known() == [1, 1, 1, 1]
    assert await world.repaired() == (0, {f"{Kind.PROMOTION} p"}), "an open decision is looked at"


async def test_a_change_that_no_watch_told_is_counted_and_looked_at(world: World) -> None:
    await world.repaired()
    world.kube.decisions.clear()
    await world.repaired()
    world.kube.promotions.put("p", 9, spec={"model": "m2"})
    assert await world.repaired() == (1, {f"{Kind.PROMOTION} p"})
    assert world.cache.promotions[Name("a", "p")].model == "m2"


async def test_a_deployment_that_changed_or_went_unseen_wakes_its_promotion(world: World) -> None:
    world.kube.decisions.clear()
    await world.repaired()
    assert await world.repaired() == (0, set())
    world.kube.deployments.put("api", 8, spec={"replicas": 2})
    assert await world.repaired() == (0, {f"{Kind.PROMOTION} p"})
    world.kube.deployments.clear()
    assert await world.repaired() == (0, {f"{Kind.PROMOTION} p"})
    assert world.cache.deployment(Name("a", "api")) is None


async def test_what_was_deleted_in_a_gap_of_the_watch_is_forgotten(world: World) -> None:
    await world.repaired()
    for store in (world.kube.promotions, world.kube.registries, world.kube.decisions):
        store.clear()
    missed, woken = await world.repaired()
    assert (missed, woken) == (1, {f"{Kind.REGISTRY} mlflow", f"{Kind.PROMOTION} p"})
    assert world.known() == [0, 0, 0, 0]


async def test_what_an_older_list_says_does_not_undo_what_the_watch_told(world: World) -> None:
    await world.repaired()
    world.cache.put_registry(
        {
            "metadata": {**world.kube.registries["mlflow"]["metadata"], "resourceVersion": "7"},
            "spec": {"trackingURI": "http://new"},
        }
    )
    await world.repaired()
    spec = cast(Raw, world.cache.registries[Name("a", "mlflow")]["spec"])
    assert spec["trackingURI"] == "http://new"
