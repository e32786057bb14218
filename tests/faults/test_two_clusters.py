"""Two clusters on one MLflow (DESIGN section 3, rule 7): the older claim on an alias wins, and the
other cluster writes nothing to the registry and to its targets."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from podium.engine import ledger as ledgers
from podium.engine.observation import Claim
from testbed.cluster import Cluster
from testbed.mlflow import MlflowServer
from tests.faults.calls import System
from tests.faults.line import Line, Sent, lines
from tests.faults.relay import Servers
from tests.faults.replica import Replica
from tests.faults.scene import Promotions, make_registry, namespace, new_world
from tests.faults.stories import API, GOOD, at
from tests.faults.world import State

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(240)]


@dataclass
class Side:
    """One cluster, its operator, and promotion `p` there."""

    line: Line
    replica: Replica
    promotions: Promotions

    async def promote(self) -> None:
        await self.promotions.play.promote()

    async def state(self) -> State:
        return await self.promotions.state()

    async def wait(self, what: str, reason: str, seconds: float = 90.0) -> State:
        """Until condition Stalled has that reason."""
        return await self.promotions.play.wait(
            what, lambda state: state.condition("Stalled").endswith(f"/{reason}"), seconds
        )

    async def settle(self, versions: int) -> None:
        self.promotions.versions = versions
        await self.promotions.settle(90.0)

    def writes(self, since: float) -> list[Sent]:
        """To MLflow and to Deployments."""
        return [
            each
            for each in self.line.sent
            if each.at > since
            and each.writes
            and (each.system is System.MLFLOW or "/deployments" in each.path)
        ]

    async def delete(self) -> None:
        world = self.promotions.world
        await asyncio.to_thread(world.cluster.call, "DELETE", world.path("modelpromotions", "p"))


@dataclass
class Both:
    """Two sides whose model is one and the same."""

    first: Side
    second: Side

    async def register(self) -> None:
        await self.first.promotions.play.register(GOOD)

    async def claim(self) -> Claim | None:
        state = await self.first.state()
        tags = {tag["key"]: tag["value"] for tag in state.model.get("tags", [])}
        return ledgers.parse_claim(tags.get(ledgers.owner_tag_key("champion")))

    async def owner(self) -> Side:
        """The side whose namespace the claim names."""
        claim = await self.claim()
        assert claim is not None
        for side in (self.first, self.second):
            if side.promotions.world.namespace == claim.namespace:
                return side
        raise AssertionError(f"the claim is of {claim}")

    async def share_key(self) -> None:
        """Copies the Secret that signs the ledger to the second cluster, as an operator's
        administrator would before the promotion comes."""
        first, second = (each.promotions.world for each in (self.first, self.second))
        name = "podium-ledger-key"
        path = first.path("secrets", name, "v1")
        for _ in range(300):  # until the first leads
            if (secret := await asyncio.to_thread(first.cluster.call, "GET", path)) is not None:
                break
            await asyncio.sleep(0.1)
        assert secret is not None
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "data": secret["data"],
        }
        self.second.replica.kill()
        await asyncio.to_thread(second.apply, "secrets", body, "v1")

    def other(self, side: Side) -> Side:
        return self.second if side is self.first else self.first


@contextlib.asynccontextmanager
async def side(real: Servers, folder: Path, name: str) -> AsyncIterator[Side]:
    world = new_world(real, f"claims-{name}")
    async with lines(real, name) as (line,), namespace(world):
        made = Side(line, Replica(line, world.namespace, folder), Promotions(world))
        await made.promotions.play.deploy()
        await make_registry(world, line)
        async with made.replica.kept():
            yield made


@contextlib.asynccontextmanager
async def two_sides(one: Servers, two: Servers, folder: Path) -> AsyncIterator[Both]:
    """Version 1 of a model is champion; nobody claims it yet."""
    async with side(one, folder, "one") as first, side(two, folder, "two") as second:
        second.promotions.world.model = first.promotions.world.model
        made, play = Both(first, second), first.promotions.play
        await play.do(first.promotions.world.registry.create, first.promotions.world.model)
        await made.register()
        await play.set_alias("1")
        await play.set_stage("1", "Production")
        yield made


@pytest.fixture
async def both(
    apart: Cluster, second_cluster: Cluster, registry_server: MlflowServer, tmp_path: Path
) -> AsyncIterator[Both]:
    clusters = (apart, second_cluster)
    one, two = [await Servers.of(each.kubeconfig, registry_server.uri) for each in clusters]
    async with two_sides(one, two, tmp_path) as made:
        yield made


async def quiet(side: Side, since: float, state: State, seconds: float = 4.0) -> None:
    """It writes nothing to the registry and to targets, and its target is as it was."""
    await asyncio.sleep(seconds)
    assert not side.writes(since), [each.name for each in side.writes(since)]
    now = await side.state()
    assert (
        now.deployments[API]["metadata"]["generation"]
        == (state.deployments[API]["metadata"]["generation"])
    )


async def test_the_older_claim_wins_until_it_is_released(both: Both) -> None:
    """The other is told who, and takes over when the owner's promotion is deleted: here with the
    same key for the ledger in both clusters, so that nobody need accept the other's entries."""
    await both.share_key()
    await both.first.promote()
    await both.first.settle(1)
    before, began = await both.second.state(), time.time()
    await both.second.promote()
    told = await both.second.wait("it stands back", "AliasClaimed")
    said = next(c for c in told.status["conditions"] if c["type"] == "Stalled")["message"]
    world = both.first.promotions.world
    assert f"{world.namespace}/p" in said and "Release" in said
    await both.register()
    await both.first.settle(2)
    await quiet(both.second, began, before)
    await both.first.delete()
    await both.register()
    await both.second.settle(3)
    assert await both.owner() is both.second
    assert (await both.first.state()).annotation(API, "model-version") == "2", "nothing is undone"


async def test_both_claim_in_the_same_instant(both: Both) -> None:
    """Both have read that nobody claims the alias before either writes; the network sees to that.
    One owns it in the end, and the other has moved nothing."""
    sides = (both.first, both.second)
    held = [each.line.hold(_is_claim) for each in sides]
    began = time.time()
    before = {id(each): await each.state() for each in sides}
    await asyncio.gather(*(each.promote() for each in sides))
    for each in held:
        async with asyncio.timeout(90):
            await each.caught.wait()
    for each in held:
        each.let_go.set()
    await asyncio.gather(*(each.done.wait() for each in held))
    await both.register()
    for _ in range(100):
        states = {id(each): await each.state() for each in sides}
        stalled = [e for e in sides if "AliasClaimed" in states[id(e)].condition("Stalled")]
        if len(stalled) == 1 and both.other(stalled[0]) is await both.owner():
            break
        await asyncio.sleep(0.2)
    else:
        raise AssertionError("nobody stands back")
    (loser,) = stalled
    winner = both.other(loser)
    await winner.settle(2)
    moved = [e for e in loser.writes(began) if not _is_claim(e)]
    assert not moved, [each.name for each in moved]
    await quiet(loser, time.time(), before[id(loser)])


async def test_an_owner_whose_cluster_is_gone_yields_to_a_release_only(both: Both) -> None:
    await both.first.promote()
    await both.first.settle(1)
    both.first.line.cut()  # for good, as far as the second can see
    both.first.replica.kill()
    before, began = await both.second.state(), time.time()
    await both.second.promote()
    await both.second.wait("it stands back", "AliasClaimed")
    await both.register()
    await quiet(both.second, began, before, seconds=16.0)  # longer than any Lease
    await both.second.promotions.play.decide("mine", "Release", reason="its cluster is gone")
    await until_owner(both, both.second)


async def until_owner(both: Both, side: Side) -> None:
    """The ledger has entries of two signers by then, so only the rest is looked at."""
    agree = at("2", API, stages={"1": "Archived", "2": "Production"})
    await side.promotions.play.wait("the second serves version 2", agree)
    assert await both.owner() is side


def _is_claim(sent: Sent) -> bool:
    return sent.name.endswith("set-tag podium.dev/owner")
