"""Which promotions a change wakes, and that ten thousand of them do not wake each other."""

import time
from typing import cast

import pytest

from podium.runtime.cache import Cache
from podium.runtime.hints import Hints
from podium.runtime.keys import Key, Kind, Name
from podium.runtime.queue import KeyedQueue
from podium.runtime.reconciler import Reconciler
from tests.unit.runtime.test_cache import promotion, targets


class Looks:
    """What of the reconciler a hint tells."""

    def __init__(self) -> None:
        self.gone: list[Name] = []

    def hinted(self, name: Name) -> None: ...

    def deleted(self, name: Name, entry: object) -> None:
        self.gone.append(name)


class World:
    def __init__(self) -> None:
        self.cache, self.looks = Cache(), Looks()
        self.queue: KeyedQueue[Key] = KeyedQueue(workers=1)
        self.hints = Hints(self.cache, self.queue, cast(Reconciler, self.looks))

    def woken(self) -> set[str]:
        names = {f"{key.name}" for key in self.queue._due if key.kind is Kind.PROMOTION}
        self.queue._due.clear()
        return names


@pytest.fixture
def world() -> World:
    return World()


def test_a_model_wakes_the_promotions_of_its_registry_and_no_others(world: World) -> None:
    here = {"registryRef": {"name": "one"}}
    world.hints.promotion(None, promotion("p", **here))
    world.hints.promotion(None, promotion("q", **{**here, "model": "other"}))
    world.hints.promotion(None, promotion("r", registryRef={"name": "two"}))
    world.hints.promotion(None, promotion("p", namespace="b", **here))
    world.woken()
    world.hints.registry_changed(Name("a", "one"), "churn")
    assert world.woken() == {"a/p"}
    world.hints.registry_changed(Name("a", "one"), None)
    assert world.woken() == {"a/p", "a/q"}


def test_a_first_poll_of_many_models_takes_no_time(world: World) -> None:
    """Through the registry each model would look at each promotion: 10,000 took a minute."""
    count = 2_000
    for number in range(count):
        raw = promotion(f"p{number}", model=f"m{number}", registryRef={"name": "one"})
        world.hints.promotion(None, raw)
    world.woken()
    began = time.process_time()
    for number in range(count):
        world.hints.registry_changed(Name("a", "one"), f"m{number}")
    assert time.process_time() - began < 0.3
    assert len(world.woken()) == count


def test_a_deployment_wakes_those_whose_target_it_is_and_only_when_it_changed(
    world: World,
) -> None:
    world.hints.promotion(None, promotion("p", targets=targets("api")))
    world.woken()
    seen = promotion("api", 5)
    world.hints.deployment("ADDED", seen)
    assert world.woken() == {"a/p"}
    world.hints.deployment(None, seen)
    assert world.woken() == set(), "a LIST that repeats what is known"
    world.hints.deployment("MODIFIED", promotion("api", 6))
    assert world.woken() == {"a/p"}
    world.hints.deployment("ADDED", promotion("other", 7))
    assert world.woken() == set()
    world.hints.deployment("DELETED", promotion("api", 8))
    assert world.woken() == {"a/p"}


def test_a_deleted_promotion_is_told_once_and_wakes_who_stood_back(world: World) -> None:
    world.hints.promotion(None, promotion("old"))
    world.hints.promotion(None, promotion("new"))
    world.woken()
    for _ in range(2):
        world.hints.promotion("DELETED", promotion("old", 9))
    assert world.looks.gone == [Name("a", "old")]
    assert world.woken() == {"a/old", "a/new"}


def test_a_registry_that_only_its_status_changed_is_not_looked_at(world: World) -> None:
    world.hints.registry("ADDED", promotion("one", 1))
    assert world.queue._due
    world.queue._due.clear()
    world.hints.registry("MODIFIED", promotion("one", 2, status={"conditions": []}))
    world.hints.registry("MODIFIED", promotion("one", 1, model="an older state"))
    assert not world.queue._due
    assert world.cache.registries[Name("a", "one")]["status"] == {"conditions": []}
    world.hints.registry("MODIFIED", promotion("one", 3, model="changed"))
    assert world.queue._due
