"""What an ApiConnection makes of servers that fail, over real sockets on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from podium.clock import SystemClock
from podium.cluster import (
    AmbiguousWrite,
    ApiConnection,
    ApiUnavailable,
    NotLeader,
    Unauthenticated,
)
from podium.cluster.client import KubernetesClient
from podium.cluster.request import Request, Verb
from podium.cluster.resources import DEPLOYMENTS

READ = Request(Verb.GET, DEPLOYMENTS, "ml", "churn")
PUT = Request(Verb.UPDATE, DEPLOYMENTS, "ml", "churn", "status", body={"status": {}})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PlainAccess:
    """Tokens `t0`, `t1`, ...: the next one each time the last was refused."""

    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None

    def __init__(self, server: str) -> None:
        self.server = server
        self.reads = 0

    async def authorization(self, *, again: bool = False) -> str | None:
        self.reads += again
        return f"Bearer t{self.reads}"


@dataclass
class Server:
    """Answers with what `answers` has in turn, the last one for ever."""

    url: str = ""
    answers: list[Handler] = field(default_factory=list)
    seen: list[web.Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


def says(status: int, body: object = None, **headers: str) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(body or {"kind": "Status"}, status=status, headers=named)

    return answer


OK = says(200, {"kind": "Deployment"})


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def is_silent(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(1)
    return web.Response()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[ApiConnection]:
    opened = ApiConnection(PlainAccess(server.url))
    yield opened
    await opened.close()


async def test_a_read_is_asked_again_at_most_twice(
    server: Server, connection: ApiConnection
) -> None:
    server.answers = [says(500), says(503), OK]
    assert await connection.read(READ) == {"kind": "Deployment"}
    server.answers = [says(500)]
    server.seen.clear()
    with pytest.raises(ApiUnavailable):
        await connection.read(READ)
    assert len(server.seen) == 3


async def test_a_read_waits_as_long_as_it_is_asked_to(
    server: Server, connection: ApiConnection
) -> None:
    server.answers = [says(429, Retry_After="1"), OK]
    started = asyncio.get_running_loop().time()
    await connection.read(READ)
    assert asyncio.get_running_loop().time() - started >= 1


async def test_a_wait_past_the_deadline_is_left_to_the_caller(
    server: Server, connection: ApiConnection
) -> None:
    server.answers = [says(429, Retry_After="60")]
    with pytest.raises(ApiUnavailable) as met:
        await connection.read(READ)
    assert met.value.retry_after == 60
    assert len(server.seen) == 1


async def test_a_read_survives_a_server_that_was_restarted(
    server: Server, connection: ApiConnection
) -> None:
    server.answers = [OK]
    await connection.read(READ)
    server.answers = [hangs_up, OK]
    assert await connection.read(READ) == {"kind": "Deployment"}


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize("verb", [Verb.UPDATE, Verb.PATCH, Verb.CREATE])
async def test_a_write_that_lost_its_connection_is_not_repeated(
    server: Server, connection: ApiConnection, verb: Verb, kept: bool
) -> None:
    server.answers = [OK]
    if kept:
        await connection.read(READ)
        server.seen.clear()
    server.answers = [hangs_up, OK]
    request = Request(verb, DEPLOYMENTS, "ml", "churn", body={"a": 1})
    with pytest.raises(AmbiguousWrite, match="Deployment ml/churn"):
        await connection.write(request, fence=None)
    assert len(server.seen) == 1


async def test_a_write_without_an_answer_is_ambiguous(
    server: Server, connection: ApiConnection
) -> None:
    server.answers = [is_silent]
    with pytest.raises(AmbiguousWrite, match="no answer in time"):
        await connection.write(PUT, fence=None, deadline=0.3)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_write_that_failed_at_the_server_is_ambiguous(
    server: Server, connection: ApiConnection, status: int
) -> None:
    server.answers = [says(status)]
    with pytest.raises(AmbiguousWrite):
        await connection.write(PUT, fence=None)
    assert len(server.seen) == 1


async def test_a_throttled_write_was_not_done_and_is_not_repeated(
    server: Server, connection: ApiConnection
) -> None:
    server.answers = [says(429, {"kind": "Status", "details": {"retryAfterSeconds": 7}})]
    with pytest.raises(ApiUnavailable) as met:
        await connection.write(PUT, fence=None)
    assert met.value.retry_after == 7
    assert len(server.seen) == 1


async def test_a_write_to_nobody_was_not_sent() -> None:
    connection = ApiConnection(PlainAccess("http://127.0.0.1:9"))
    with pytest.raises(ApiUnavailable, match="cannot be reached"):
        await connection.write(PUT, fence=None)
    await connection.close()


async def test_a_refused_token_is_read_again_once(
    server: Server, connection: ApiConnection
) -> None:
    server.answers = [says(401), OK]
    await connection.write(PUT, fence=None)
    assert [one.headers["Authorization"] for one in server.seen] == ["Bearer t0", "Bearer t1"]
    server.answers = [says(401)]
    server.seen.clear()
    with pytest.raises(Unauthenticated) as met:
        await connection.read(READ)
    assert len(server.seen) == 2
    assert "Bearer" not in str(met.value)


async def test_the_fence_is_asked_with_the_deadline_before_anything_is_sent(
    server: Server, connection: ApiConnection
) -> None:
    asked: list[float] = []

    def fence(seconds: float) -> None:
        asked.append(seconds)
        raise NotLeader("no")

    server.answers = [OK]
    with pytest.raises(NotLeader):
        await connection.write(PUT, fence=fence)
    assert asked == [5.0]
    assert server.seen == []


async def test_a_process_that_slept_past_the_deadline_sends_nothing(
    server: Server,
) -> None:
    slept = 0.0

    class SleptThrough(SystemClock):
        def monotonic(self) -> float:
            return super().monotonic() + slept

    class SleepyAccess(PlainAccess):
        async def authorization(self, *, again: bool = False) -> str | None:
            nonlocal slept
            slept = 60.0  # as after SIGSTOP: the fence was asked, the bytes are not sent yet
            return await super().authorization(again=again)

    connection = ApiConnection(SleepyAccess(server.url), clock=SleptThrough())
    server.answers = [OK]
    with pytest.raises(ApiUnavailable):
        await connection.write(PUT, fence=None)
    await connection.close()
    assert server.seen == []


async def test_every_try_is_told_to_the_observer(server: Server) -> None:
    told: list[tuple[str, str, str]] = []
    connection = ApiConnection(
        PlainAccess(server.url),
        on_request=lambda verb, resource, _seconds, outcome: told.append((verb, resource, outcome)),
    )
    server.answers = [says(500), OK]
    await connection.read(READ)
    await connection.close()
    assert told == [("get", "deployments", "ApiUnavailable"), ("get", "deployments", "ok")]


async def test_something_else_that_answers_is_no_object(
    server: Server, connection: ApiConnection
) -> None:
    async def html(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>login</html>", content_type="text/html")

    server.answers = [html]
    with pytest.raises(ApiUnavailable, match="no JSON object"):
        await connection.read(READ, deadline=0.9)


@pytest.mark.parametrize("body", ['{"items": [{"a": 1e999}]}', '{"items": [7]}', '{"items": 7}'])
async def test_a_list_with_something_else_in_it_is_no_answer(server: Server, body: str) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body)

    server.answers = [answer]
    connection = ApiConnection(PlainAccess(server.url))
    client = KubernetesClient(connection, fence=lambda _: None)
    with pytest.raises(ApiUnavailable, match="no JSON object"):
        _ = [each async for each in client.list_deployments("ml")]
    server.answers = [says(200, {"metadata": {}, "items": None})]
    assert [each async for each in client.list_deployments("ml")] == []
    await connection.close()
