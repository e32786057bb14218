"""What a poll costs, counted on real servers: requests per hundred models."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from podium.api.meta import ObjectMeta
from podium.api.model_registry import ModelRegistry, ModelRegistrySpec
from podium.api.values import Duration
from podium.registry import Credentials, RegistryClient
from podium.runtime.connected import Connected, Wanted
from tests.integration.registry.conftest import Servers
from tests.integration.registry.mlflow_api import MlflowApi
from tests.integration.registry.stub import Stub, says
from tests.integration.registry.test_misbehaving import WHOLE

pytestmark = [pytest.mark.mlflow, pytest.mark.timeout(240)]


class Poll:
    """A `Connected` that polls when told, and the requests that it made meanwhile."""

    def __init__(self, uri: str, wanted: list[Wanted], interval: float = 15.0) -> None:
        self.requests: Counter[str] = Counter()
        self.changed: list[str | None] = []
        self.client = RegistryClient(
            tracking_uri=uri,
            workspace=None,
            credentials=_nobody,
            ca_pem=None,
            request_timeout=20.0,
            rate_limit_per_second=10_000,
            on_request=self._count,
        )
        spec = ModelRegistrySpec(tracking_uri=uri, poll_interval=Duration(interval))
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


def now() -> datetime:
    return datetime.now(UTC)


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
    plain = Poll(server.uri, [Wanted(name, False) for name in names])
    assert await plain() == {"search_models": 2}
    assert plain.changed == [None], "the first poll wakes everybody, once"
    plain.changed.clear()
    assert await plain() == {"search_models": 2}
    assert plain.changed == []
    api.post("registered-models/alias", name=names[7], alias="champion", version="1")
    assert await plain() == {"search_models": 2, "search_versions": 1}, "all versions of one"
    assert plain.changed == [names[7]]
    by_tag = Poll(server.uri, [Wanted(name, True) for name in names])
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
    poll = Poll(server.uri, [Wanted(name, True) for name in names])
    assert await poll() == {"get_model": 5, "search_versions": 5}
    await poll.connected.close()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_poll_waits_for_as_long_as_the_server_asks(status: int, form: str) -> None:
    """Though the interval is much shorter."""
    wait = "3" if form == "seconds" else format_datetime(now() + timedelta(seconds=4), usegmt=True)
    asked: list[float] = []
    enough = asyncio.Event()

    async def busy_once(request: web.Request) -> web.StreamResponse:
        asked.append(time.monotonic())
        enough.set() if len(asked) == 4 else None
        answer = says(status, "{}", Retry_After=wait) if len(asked) == 1 else says(200, "{}")
        return await answer(request)

    async with Stub(busy_once) as stub:
        poll = Poll(stub.uri, [Wanted("churn", False)], interval=0.2)
        poll.client._capabilities = WHOLE
        poll.connected.start()
        await asyncio.wait_for(enough.wait(), 30)
        await poll.connected.close()
    assert 2.5 < asked[1] - asked[0] < 6.0
    assert asked[3] - asked[2] < 2.0, "the interval again"
    assert poll.changed == [None, "churn", None], "unwell, polled, well again"
