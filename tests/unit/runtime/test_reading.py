"""Reads of models: alone at once, many together, and none suffers for another."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from msgspec.structs import replace

from podium.clock import SYSTEM
from podium.registry.client import RegistryClient
from podium.registry.errors import ModelNotFound, RegistryError, RegistryUnavailable, TooLarge
from podium.registry.model import Capabilities, RegisteredModel, Version
from podium.runtime.reading import Reading
from podium.runtime.snapshots import Snapshot
from tests.unit.runtime.test_connected import ABLE, model, version


class Mlflow:
    """Answers when told to; `broken` models are too large."""

    def __init__(self, able: Capabilities = ABLE) -> None:
        self.able = able
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.broken: set[str] = set()
        self.away = False
        self.newest: list[Version] = []

    async def capabilities(self) -> Capabilities:
        return self.able

    async def get_model(self, name: str) -> RegisteredModel:
        self.asked.append(name)
        await self.go.wait()
        if name == "gone":
            raise ModelNotFound("gone")
        if name in self.broken:
            raise TooLarge(name)
        return replace(model(name), latest_versions=(*self.newest, version("2")))

    async def search_versions(self, name: str) -> list[Version]:
        return [version("1"), version("2")]

    async def search_models(self, names: Sequence[str]) -> dict[str, RegisteredModel]:
        self.asked.append(" ".join(names))
        await self.go.wait()
        if self.away:
            raise RegistryUnavailable("away")
        if self.broken & set(names):
            raise TooLarge("one of them")
        return {name: model(name) for name in names if name != "gone"}

    async def search_versions_of(self, names: Sequence[str]) -> dict[str, list[Version]]:
        return {name: [version("1"), version("2")] for name in names}


def reading(mlflow: Mlflow) -> Reading:
    return Reading(cast(RegistryClient, mlflow), SYSTEM)


async def started(reads: Reading, *names: str) -> list[asyncio.Task[Snapshot]]:
    tasks = [asyncio.create_task(reads.read(name)) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_one_alone_is_read_at_once_and_those_meanwhile_go_together() -> None:
    mlflow = Mlflow()
    reads = reading(mlflow)
    tasks = [t for name in "abcde" for t in await started(reads, name)]
    assert mlflow.asked == ["a", "b"]
    mlflow.go.set()
    found = await asyncio.gather(*tasks)
    assert mlflow.asked == ["a", "b", "c d e"]
    assert [f.model.name for f in found if f.model] == list("abcde")
    assert all(f.complete and set(f.versions) == {"1", "2"} for f in found)


async def test_two_that_ask_for_the_same_before_it_is_sent_share_the_answer() -> None:
    mlflow = Mlflow()
    reads = reading(mlflow)
    tasks = await started(reads, "a", "b", "c", "c", "d")
    mlflow.go.set()
    found = await asyncio.gather(*tasks)
    assert mlflow.asked == ["a", "b", "c d"]
    assert found[2] is found[3]


async def test_who_asks_when_it_is_on_its_way_gets_an_answer_that_began_later() -> None:
    mlflow = Mlflow()
    reads = reading(mlflow)
    (first,) = await started(reads, "a")
    (again,) = await started(reads, "a")
    mlflow.go.set()
    assert mlflow.asked == ["a", "a"]
    assert (await first).read_at < (await again).read_at


async def test_a_model_that_is_gone_is_none_alone_and_among_others() -> None:
    mlflow = Mlflow()
    mlflow.go.set()
    reads = reading(mlflow)
    tasks = await started(reads, "gone", "a", "gone", "b")
    found = await asyncio.gather(*tasks)
    assert [f.model and f.model.name for f in found] == [None, "a", None, "b"]
    assert found[2].versions == {}


async def test_one_that_cannot_be_read_spoils_nobody_elses_read() -> None:
    mlflow = Mlflow()
    mlflow.broken = {"huge"}
    reads = reading(mlflow)
    tasks = await started(reads, "a", "b", "c", "huge", "d")
    mlflow.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[3], TooLarge)
    assert [f.model.name for f in found if isinstance(f, Snapshot) and f.model] == list("abcd")


async def test_a_server_that_is_away_is_told_to_all_without_asking_for_each() -> None:
    mlflow = Mlflow()
    mlflow.away = True
    reads = reading(mlflow)
    tasks = await started(reads, "a", "b", "c", "d", "e")
    mlflow.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(f) for f in found[2:]] == [RegistryUnavailable] * 3
    assert mlflow.asked == ["a", "b", "c d e"]


async def test_one_pass_that_ends_leaves_the_answer_to_the_others() -> None:
    mlflow = Mlflow()
    reads = reading(mlflow)
    tasks = await started(reads, "a", "b", "c", "c")
    tasks[2].cancel()
    mlflow.go.set()
    assert (await tasks[3]).model == model("c")
    with pytest.raises(asyncio.CancelledError):
        await tasks[2]


async def test_closing_leaves_nobody_waiting() -> None:
    mlflow = Mlflow()
    reads = reading(mlflow)
    tasks = await started(reads, "a", "b", "c", "d")
    await reads.close()
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(isinstance(f, RegistryError) for f in found)


async def test_a_server_that_takes_no_lists_of_names_is_asked_for_each() -> None:
    mlflow = Mlflow(replace(ABLE, versions_name_in=False))
    mlflow.go.set()
    reads = reading(mlflow)
    await asyncio.gather(*await started(reads, "a", "b", "c", "d"))
    assert sorted(mlflow.asked) == list("abcd")


async def test_versions_from_before_the_model_hide_no_newest_version() -> None:
    """Found by a random schedule: a stale answer hid the new version until the next change."""
    mlflow = Mlflow()
    mlflow.newest = [version("3")]
    mlflow.go.set()
    assert (await reading(mlflow).read("m0")).versions.keys() == {"1", "2", "3"}
