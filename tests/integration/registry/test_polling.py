"""What a poll costs, counted on real servers: requests per hundred models."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter

import pytest

from podium.api.meta import ObjectMeta
from podium.api.model_registry import ModelRegistry, ModelRegistrySpec
from podium.registry import Credentials, RegistryClient
from podium.runtime.connected import Connected, Wanted
from testbed.mlflow import MlflowServer
from tests.integration.registry.conftest import Servers
from tests.integration.registry.mlflow_api import MlflowApi

pytestmark = [pytest.mark.mlflow, pytest.mark.timeout(240)]


class Poll:
    """A `Connected` that polls when told, and the requests that it made meanwhile."""

    def __init__(self, server: MlflowServer, wanted: list[Wanted]) -> None:
        self.requests: Counter[str] = Counter()
        self.changed: list[str | None] = []
        self.client = RegistryClient(
            tracking_uri=server.uri,
            workspace=None,
            credentials=_nobody,
            ca_pem=None,
            request_timeout=20.0,
            rate_limit_per_second=10_000,
            on_request=self._count,
        )
        spec = ModelRegistrySpec(tracking_uri=server.uri)
        self.connected = Connected(
            ModelRegistry(metadata=ObjectMeta(name="r", namespace="a"), spec=spec),
            self.client,
            lambda: wanted,
            self.changed.append,
            random.Random(1),
        )

    def _count(self, operation: str, seconds: float, outcome: str) -> None:
        self.requests[operation] += 1

    async def __call__(self) -> dict[str, int]:
        """The requests of one poll; the probe, which is made every five minutes, is not one."""
        await self.client.capabilities()
        self.requests.clear()
        await self.connected._poll()
        return dict(self.requests)


async def _nobody() -> Credentials | None:
    return None


async def _make(api: MlflowApi, count: int) -> list[str]:
    mark = secrets.token_hex(4)
    names = [f"{mark}-{number:03}" for number in range(count)]
    limit = asyncio.Semaphore(8)

    async def make(name: str) -> None:
        async with limit:
            await asyncio.to_thread(api.model, name, 1)

    await asyncio.gather(*(make(name) for name in names))
    return names


async def test_a_hundred_models_cost_one_request_and_by_tag_two(servers: Servers) -> None:
    server = servers.get("3.17-postgresql")
    api = MlflowApi(server.uri)
    names = await _make(api, 200)
    plain = Poll(server, [Wanted(name, False) for name in names])
    assert await plain() == {"search_models": 2}
    assert sorted(map(str, plain.changed)) == names
    plain.changed.clear()
    assert await plain() == {"search_models": 2}
    assert plain.changed == []
    api.post("registered-models/alias", name=names[7], alias="champion", version="1")
    assert await plain() == {"search_models": 2, "search_versions": 1}, "all versions of one"
    assert plain.changed == [names[7]]
    by_tag = Poll(server, [Wanted(name, True) for name in names])
    for _ in range(2):
        assert await by_tag() == {"search_models": 2, "search_versions_of": 2}
    by_tag.changed.clear()
    api.post("model-versions/set-tag", name=names[8], version="1", key="reviewed", value="true")
    await by_tag()
    assert by_tag.changed == [names[8]]
    for poll in (plain, by_tag):
        await poll.connected.close()


async def test_a_server_that_does_not_filter_by_names_is_asked_model_by_model(
    servers: Servers,
) -> None:
    server = servers.get("2.22")
    names = await _make(MlflowApi(server.uri), 5)
    poll = Poll(server, [Wanted(name, True) for name in names])
    assert await poll() == {"get_model": 5, "search_versions": 5}
    await poll.connected.close()
