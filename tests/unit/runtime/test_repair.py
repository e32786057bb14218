"""The repairing LIST: what the watches missed is found, and what is gone is forgotten."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from podium.cluster.client import KubernetesClient
from podium.cluster.errors import ApiUnavailable
from podium.runtime.cache import Cache, Watched
from podium.runtime.health import Health
from podium.runtime.hints import Hints
from podium.runtime.keys import Key, Kind, Name
from podium.runtime.metrics import Metrics
from podium.runtime.queue import Backoff, KeyedQueue
from podium.runtime.reconciler import Reconciler
from podium.runtime.repair import Repair

Raw = dict[str, Any]
REAL_SLEEP = asyncio.sleep
WATCHED = ["/apis/podium.dev/v1alpha1/modelpromotions", "/apis/apps/v1/deployments"]


class Store(dict[str, Raw]):
    """Objects of one kind in namespace `a`, by name."""

    def put(self, name: str, version: int, **rest: object) -> None:
        metadata = {"namespace": "a", "name": name, "uid": name, "resourceVersion": str(version)}
        self[name] = {"metadata": metadata, **rest}

    async def list(self, _: str | None) -> AsyncIterator[Raw]:
        page = list(self.values())
        self.meanwhile()
        for raw in page:
            yield raw

    def meanwhile(self) -> None:
        """What happens while the answer is on its way."""

    async def get(self, _: str, name: str) -> Raw | None:  # type: ignore[override]
        found = super().get(name)
        self.meanwhile()
        return found


class Kube:
    def __init__(self) -> None:
        self.promotions, self.registries = Store(), Store()
        self.decisions, self.deployments = Store(), Store()
        self.list_promotions, self.get_promotion = self.promotions.list, self.promotions.get
        self.get_decision = self.decisions.get
        self.list_deployments, self.get_deployment = self.deployments.list, self.deployments.get
        self.list_registries = self.registries.list
        self.fails = 0  # so many requests more

    async def list_decisions(self, namespace: str | None) -> AsyncIterator[Raw]:
        await self.probe(namespace)
        async for raw in self.decisions.list(namespace):
            yield raw

    async def probe(self, _: str | None) -> None:
        if self.fails:
            self.fails -= 1
            raise ApiUnavailable("no answer")


class Looks:
    """What of the reconciler a hint tells."""

    def hinted(self, name: Name) -> None: ...
    def deleted(self, name: Name, entry: object) -> None: ...


class World:
    def __init__(self) -> None:
        self.kube, self.cache = Kube(), Cache()
        self.queue: KeyedQueue[Key] = KeyedQueue(workers=1)
        self.health = Health(self.queue.stats, WATCHED, lambda: 0.0)
        hints = Hints(self.cache, self.queue, cast(Reconciler, Looks()))
        kube = cast(KubernetesClient, self.kube)
        backoff = Backoff[str](random.Random(1))
        self.hints, self.metrics = hints, Metrics()
        self.repair = Repair(kube, self.cache, hints, self.health, self.metrics, backoff, [], 600.0)
        self.kube.registries.put("mlflow", 1, spec={"trackingURI": "http://mlflow"})
        target = {"name": "api", "deployment": {"name": "api"}}
        self.kube.promotions.put("p", 2, spec={"model": "m", "targets": [target]})
        self.kube.deployments.put("api", 3, spec={"replicas": 1})
        self.kube.deployments.put("other", 3, spec={})
        said = {"promotionRef": {"name": "p"}, "action": "Hold", "decidedBy": "ann"}
        self.kube.decisions.put("d", 4, spec=said)

    async def repaired(self, *, gap: bool = False) -> tuple[int, set[str]]:
        """How many promotions were missed, and whom a LIST woke."""
        self.queue._due.clear()
        missed = await self.repair._list(gap)
        return missed, {f"{key.kind} {key.name.name}" for key in self.queue._due}

    def known(self) -> list[int]:
        return [len(self.cache.known(kind)) for kind in Watched]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    async def at_once(_: float) -> None: ...

    monkeypatch.setattr("podium.runtime.repair.asyncio.sleep", at_once)
    yield World()


async def filled(world: World) -> set[str]:
    """Whom the LIST woke that fills the cache."""
    missed, woken = await world.repaired(gap=True)
    assert missed == 0
    return woken


async def test_the_first_fills_the_cache_and_the_next_finds_nothing_new(world: World) -> None:
    assert await filled(world) == {f"{Kind.REGISTRY} mlflow", f"{Kind.PROMOTION} p"}
    assert world.known() == [1, 1, 1, 1]
    assert await world.repaired() == (0, {f"{Kind.PROMOTION} p"}), "an open decision is looked at"


async def test_a_change_that_no_watch_told_is_counted_and_looked_at(world: World) -> None:
    await filled(world)
    world.kube.decisions.clear()
    await world.repaired()
    world.kube.promotions.put("p", 9, spec={"model": "m2"})
    assert await world.repaired() == (1, {f"{Kind.PROMOTION} p"})
    assert world.cache.promotions[Name("a", "p")].model == "m2"


async def test_a_deployment_that_changed_or_went_unseen_wakes_its_promotion(world: World) -> None:
    world.kube.decisions.clear()
    await filled(world)
    assert await world.repaired() == (0, set())
    world.kube.deployments.put("api", 8, spec={"replicas": 2})
    assert await world.repaired() == (0, {f"{Kind.PROMOTION} p"})
    world.kube.deployments.clear()
    assert await world.repaired() == (0, {f"{Kind.PROMOTION} p"})
    assert world.cache.deployment(Name("a", "api")) is None


async def test_what_was_deleted_in_a_gap_of_the_watch_is_forgotten(world: World) -> None:
    await filled(world)
    for store in (world.kube.promotions, world.kube.registries, world.kube.decisions):
        store.clear()
    missed, woken = await world.repaired()
    assert (missed, woken) == (1, {f"{Kind.REGISTRY} mlflow", f"{Kind.PROMOTION} p"})
    assert world.known() == [0, 0, 0, 0]


async def test_what_a_watch_tells_during_a_list_stands(world: World) -> None:
    """The page that is read then may be older, and nobody would tell the newer state again."""
    await filled(world)
    kube, hints, decision = world.kube, world.hints, world.kube.decisions["d"]

    versions = iter((70, 71))

    def told() -> None:
        version = str(next(versions))
        for store, tell in (
            (kube.registries, hints.registry),
            (kube.promotions, hints.promotion),
            (kube.deployments, hints.deployment),
        ):
            for raw in store.values():
                later = {**raw["metadata"], "resourceVersion": version}
                tell("MODIFIED", {**raw, "metadata": later, "seen": "later"})
        hints.decision("DELETED", decision)

    kube.registries.meanwhile = told
    for gap, version in ((True, "70"), (False, "71")):
        missed, _ = await world.repaired(gap=gap)
        assert missed == 0
        assert world.cache.registries[Name("a", "mlflow")]["seen"] == "later"
        assert world.cache.promotions[Name("a", "p")].resource_version == version
        assert (world.cache.deployment(Name("a", "api")) or {})["seen"] == "later"
        assert not world.cache.known(Watched.DECISION)
        kube.decisions.clear()


async def test_what_is_listed_older_than_it_was_known_is_so(world: World) -> None:
    """etcd was restored from a backup, and the watch went on from where it had been."""
    for gap in (True, False):
        for store in (world.kube.registries, world.kube.promotions, world.kube.deployments):
            for name, raw in store.items():
                store.put(name, 90, **{k: v for k, v in raw.items() if k != "metadata"})
        await world.repaired(gap=True)
        world.kube.registries.put("mlflow", 5, spec={"trackingURI": "http://old"})
        world.kube.promotions.put("p", 6, spec=world.kube.promotions["p"]["spec"])
        world.kube.deployments.put("api", 7, spec={"replicas": 3})
        await world.repaired(gap=gap)
        assert world.cache.registries[Name("a", "mlflow")]["spec"] == {"trackingURI": "http://old"}
        assert world.cache.promotions[Name("a", "p")].resource_version == "6"
        assert (world.cache.deployment(Name("a", "api")) or {})["spec"] == {"replicas": 3}


async def test_what_came_and_went_during_a_list_does_not_come_back(world: World) -> None:
    """A page that was read before tells of it yet. Its ghost stood in a younger rival's way."""
    kube, hints = world.kube, world.hints
    kube.promotions.put("q", 9, spec={"model": "m"})
    answered = {**kube.decisions["d"], "status": {"outcome": "Applied"}}

    def told() -> None:
        for name in ("p", "q"):
            hints.promotion("ADDED", kube.promotions[name])
            hints.promotion("DELETED", kube.promotions[name])
        hints.deployment("DELETED", kube.deployments["api"])
        hints.decision("MODIFIED", answered)

    kube.registries.meanwhile = told  # type: ignore[method-assign]
    for gap in (True, False):
        await world.repaired(gap=gap)
        assert world.known() == [1, 0, 0, 0]


@pytest.mark.parametrize("again", [False, True])
async def test_a_deletion_that_a_watch_tells_while_it_is_asked_for(
    world: World, again: bool
) -> None:
    await filled(world)
    raw = world.kube.promotions.pop("p")
    new = {**raw, "metadata": {**raw["metadata"], "uid": "new", "resourceVersion": "50"}}

    def told() -> None:
        world.hints.promotion("DELETED", raw)
        if again:
            world.hints.promotion("ADDED", new)

    world.kube.promotions.meanwhile = told  # type: ignore[method-assign]
    missed, _ = await world.repaired(gap=True)
    assert missed == 0
    assert (Name("a", "p") in world.cache.promotions) == again


async def settle() -> None:
    for _ in range(200):
        await REAL_SLEEP(0)


@pytest.fixture
async def running(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(world.repair.run())
    yield world
    task.cancel()


async def test_the_first_list_waits_until_every_watch_is_open(running: World) -> None:
    running.repair.watch_opened("/apis/podium.dev/v1alpha1/modelpromotions", True)
    await settle()
    assert running.health.not_ready() and not running.cache.promotions
    running.repair.watch_opened("/apis/apps/v1/deployments", True)
    await settle()
    assert running.health.not_ready() is None
    assert running.known() == [1, 1, 1, 1]


async def test_what_a_watch_that_begins_anew_did_not_tell_is_found_at_once(running: World) -> None:
    for path in WATCHED:
        running.repair.watch_opened(path, True)
    await settle()
    running.kube.promotions.put("p", 9, spec={"model": "m2"})
    running.repair.watch_opened(WATCHED[0], False)
    await settle()
    assert running.cache.promotions[Name("a", "p")].model == "m", "it went on where it had been"
    running.kube.fails = 2
    running.repair.watch_opened(WATCHED[0], True)
    await settle()
    assert running.kube.fails == 0, "a LIST that fails is tried again"
    assert running.cache.promotions[Name("a", "p")].model == "m2"
    assert running.metrics.missed._value.get() == 0, "no watch is blamed for its gap"


async def test_a_kind_that_cannot_be_listed_keeps_none_from_being_told(running: World) -> None:
    for path in WATCHED:
        running.repair.watch_opened(path, True)
    await settle()
    running.kube.fails = 10**9  # LISTs of decisions
    running.kube.promotions.put("p", 9, spec={"model": "m2"})
    running.repair.watch_opened(WATCHED[0], True)
    await settle()
    assert running.cache.promotions[Name("a", "p")].model == "m2"


async def test_an_error_that_nobody_expects_is_not_hidden_by_one_that_is_tried_again(
    world: World,
) -> None:
    def breaks() -> None:
        raise KeyError("a bug")

    world.kube.fails = 1
    world.kube.deployments.meanwhile = breaks  # type: ignore[method-assign]
    with pytest.raises(KeyError, match="a bug"):
        await world.repaired(gap=True)


async def test_a_silent_watch_is_found_though_another_begins_anew_all_the_time(
    running: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.repair, "_interval", 0.05)
    for path in WATCHED:
        running.repair.watch_opened(path, True)
    for version in range(20, 520):  # soon, but for a machine that is busy with something else
        running.repair.watch_opened(WATCHED[1], True)
        await settle()
        running.kube.promotions.put("p", version, spec={"model": "m"})
        await REAL_SLEEP(0.04)
        if running.metrics.missed._value.get() > 1:
            break
    assert running.metrics.missed._value.get() > 1
    assert "modelpromotions" in (running.health.not_alive() or "")


async def test_nothing_is_watched_before_the_api_server_knows_it_all(world: World) -> None:
    world.kube.fails = 3
    await world.repair.wait_until_served()
    assert world.kube.fails == 0
