"""What stories with lines begin with: a namespace, a registry on the line, a champion taken over.

Does not start operators: that is `replica`.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.faults.invariants import Watch
from tests.faults.line import SECRET, Line
from tests.faults.relay import Servers
from tests.faults.replica import Replica
from tests.faults.stories import API, GOOD, STORIES, Play, at
from tests.faults.world import State, World
from tests.integration.operator.conftest import Registry

POLL_SECONDS = 1.0
PATIENCE = 120.0


def new_world(real: Servers, prefix: str) -> World:
    return World(real.cluster, Registry(real.mlflow), f"{prefix}-{secrets.token_hex(4)}")


@contextlib.asynccontextmanager
async def namespace(world: World) -> AsyncIterator[None]:
    path = f"/api/v1/namespaces/{world.namespace}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
    await asyncio.to_thread(world.cluster.call, "POST", "/api/v1/namespaces", body)
    try:
        yield
    finally:
        await asyncio.to_thread(world.cluster.call, "DELETE", path)


async def make_registry(world: World, line: Line) -> None:
    """A ModelRegistry by which operators come to MLflow each on its own line."""
    spec = {
        "trackingURI": line.mlflow,
        "pollInterval": f"{POLL_SECONDS:.0f}s",
        "credentialsSecretRef": {"name": SECRET},
    }
    kind = {"apiVersion": "podium.dev/v1alpha1", "kind": "ModelRegistry"}
    body = {**kind, "metadata": {"name": "mlflow"}, "spec": spec}
    await asyncio.to_thread(world.apply, "modelregistries", body)


class Promotions:
    """Promotion `p` and its model, version after version."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.play = Play(world, lambda: None)
        self.watch = Watch(world, STORIES["second-champion-alias"])
        self.versions = 0

    async def state(self) -> State:
        return await self.play.do(self.world.state)

    def right(self, state: State) -> bool:
        """Everything agrees on the newest version, and MLflow has the whole ledger."""
        newest = str(self.versions)
        stages = {str(number): "Archived" for number in range(1, self.versions)}
        moved = [API] if self.versions > 1 else []  # to take a version over restarts nothing
        wanted = at(newest, *moved, stages={**stages, newest: "Production"})
        return wanted(state) and _has_ledger(state) and not self.watch.end(state)

    async def adopt(self, line: Line, **spec: Any) -> None:
        """Version 1 is champion before Podium comes."""
        await self.play.do(self.world.registry.create, self.world.model)
        await self.register()
        await self.play.set_alias("1")
        await self.play.set_stage("1", "Production")
        await make_registry(self.world, line)
        await self.play.deploy()
        await self.play.promote(**spec)

    async def register(self) -> None:
        await self.play.register(GOOD)
        self.versions += 1

    async def settle(self, seconds: float = PATIENCE) -> None:
        await self.play.wait(f"version {self.versions} is served", self.right, seconds)


def _has_ledger(state: State) -> bool:
    return any(tag["key"].startswith("podium.dev/head/") for tag in state.model.get("tags", []))


async def all_ready(replicas: list[Replica]) -> None:
    for replica in replicas:
        async with asyncio.timeout(PATIENCE):
            while not await replica.ready():
                assert replica.alive, f"{replica.name} ended by itself\n{replica.said()}"
                await asyncio.sleep(0.2)


async def until(what: str, true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.02)
    return found
