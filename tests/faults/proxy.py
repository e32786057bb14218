"""What stands between the operator and the two servers: counts the calls, and breaks one.

The operator speaks plain HTTP to two ports on loopback; from there each request goes on to the
real API server (with the administrator's certificate) or the real MLflow, and the answer back.
Nothing in the operator knows of it, so what is broken is what a bad network would break.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from podium.cluster.access import Access, load_access
from tests.faults import calls
from tests.faults.calls import Asked, Call, Counting, System
from tests.faults.world import Cluster

_HOP = {"connection", "content-length", "transfer-encoding", "host", "content-encoding"}


class Fault(StrEnum):
    """What happens to one call."""

    KILL_BEFORE = "killed before it is sent"
    KILL_AFTER = "killed after it took effect"
    LOST = "took effect, the answer is lost"
    HANG = "took effect, no answer in time"
    CONFLICT = "409"
    THROTTLED = "429"
    ERROR = "500"
    BROKEN = "took effect, a broken body comes back"
    STALE = "the answer of the time before"
    DELAYED = "killed; takes effect after the next operator acted"


WRITE_FAULTS = tuple(fault for fault in Fault if fault is not Fault.STALE)
READ_FAULTS = (
    Fault.KILL_BEFORE,
    Fault.LOST,
    Fault.THROTTLED,
    Fault.ERROR,
    Fault.BROKEN,
    Fault.STALE,
)
HANG_SECONDS = 8.0  # longer than any deadline of a request
DELAYED_SECONDS = 6.0  # a delayed call commits by then, though nothing else was written


def faults_of(call: Call) -> tuple[Fault, ...]:
    """The faults that make sense for a call. MLflow knows no optimistic locking, so no 409."""
    if not call.writes:
        return READ_FAULTS
    if call.system is System.MLFLOW:
        return tuple(f for f in WRITE_FAULTS if f is not Fault.CONFLICT)
    return WRITE_FAULTS


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


_KUBERNETES_CONFLICT = (
    b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409,'
    b'"message":"the object has been modified"}'
)
_ANSWERS = {
    Fault.CONFLICT: Answer(409, "application/json", _KUBERNETES_CONFLICT),
    Fault.THROTTLED: Answer(429, "application/json", b"{}", (("Retry-After", "1"),)),
    Fault.ERROR: Answer(500, "application/json", b'{"error_code":"INTERNAL_ERROR","message":"x"}'),
    Fault.BROKEN: Answer(200, "application/json", b'{"model_versions": [{"na'),
}


@dataclass(frozen=True)
class Servers:
    """The real ones, and the administrator's credentials."""

    access: Access
    authorization: str = field(repr=False)
    mlflow: str

    @classmethod
    def of(cls, kubeconfig: Path, mlflow: str) -> "Servers":
        access = asyncio.run(load_access(str(kubeconfig)))
        return cls(access, asyncio.run(access.authorization()) or "", mlflow)

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.access.server, self.access.tls, self.authorization)


class Proxy:
    """`with Proxy(...)`: `kubernetes` and `mlflow` are the addresses to give to the operator.

    `kill` ends the operator and starts a new one; `wrote` is called after each write that took
    effect, before its answer goes back. Both run in the proxy's own thread.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        kill: Callable[[], Awaitable[None]],
        wrote: Callable[[Asked], Awaitable[None]],
        at: Call | None = None,
        fault: Fault | None = None,
    ) -> None:
        self._servers = servers
        self._kill, self._wrote = kill, wrote
        self._at, self._fault = at, fault
        self._counting: Counting | None = None
        self._last: dict[str, Answer] = {}
        self._late: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        self._background: set[asyncio.Task[None]] = set()
        self.seen: list[Call] = []
        self.fired = False
        self.writes = 0

    def __enter__(self) -> "Proxy":
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.kubernetes, self.mlflow = self.run(self._start()).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stop()).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def arm(self) -> None:
        """From here calls are counted, and the one is broken."""
        self._counting = Counting()

    async def _start(self) -> tuple[str, str]:
        self._late = asyncio.Event()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=True,
        )
        self._runners: list[web.AppRunner] = []
        kubernetes = await self._listen(self._on_kubernetes)
        return kubernetes, await self._listen(self._on_mlflow)

    async def _listen(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.5, handle_signals=False)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._session.close()

    async def _on_kubernetes(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            return await self._stream(request)
        body = await request.read()
        own = request.headers.get("User-Agent", "").startswith("podium-operator")
        path, query = request.rel_url.raw_path, dict(request.query)
        asked = calls.kubernetes(request.method, path, query, body) if own else None
        return await self._serve(request, body, asked)

    async def _on_mlflow(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path, query = request.rel_url.raw_path, dict(request.query)
        return await self._serve(request, body, calls.mlflow(request.method, path, query, body))

    async def _serve(
        self, request: web.Request, body: bytes, asked: Asked | None
    ) -> web.StreamResponse:
        if asked is None:
            return _response(await self._forward(request, body))
        if self._counting is None:
            return _response(await self._do(request, body, asked))
        call = self._counting.name(asked)
        self.seen.append(call)
        if call == self._at and not self.fired and self._fault is not None:
            key = request.raw_path
            if self._fault is not Fault.STALE or key in self._last:
                self.fired = True
                return await self._break(self._fault, request, body, asked)
        return _response(await self._do(request, body, asked))

    async def _do(self, request: web.Request, body: bytes, asked: Asked) -> Answer:
        answer = await self._forward(request, body)
        if asked.writes:
            self.writes += 1
            if answer.status < 300:
                await self._wrote(asked)
                if self._late is not None:
                    self._late.set()
        else:
            self._last[request.raw_path] = answer
        return answer

    async def _break(
        self, fault: Fault, request: web.Request, body: bytes, asked: Asked
    ) -> web.StreamResponse:
        if fault is Fault.KILL_BEFORE:
            return await self._end(request)
        if fault is Fault.STALE:
            return _response(self._last[request.raw_path])
        if fault in (Fault.CONFLICT, Fault.THROTTLED, Fault.ERROR):
            return _response(_ANSWERS[fault])
        if fault is Fault.DELAYED:
            task = asyncio.create_task(self._later(request, body, asked))
            self._background.add(task)
            return await self._end(request)
        await self._do(request, body, asked)
        if fault is Fault.KILL_AFTER:
            return await self._end(request)
        if fault is Fault.HANG:
            await asyncio.sleep(HANG_SECONDS)
        if fault in (Fault.LOST, Fault.HANG):
            return _cut(request)
        return _response(_ANSWERS[Fault.BROKEN])

    async def _end(self, request: web.Request) -> web.StreamResponse:
        await self._kill()
        return _cut(request)

    async def _later(self, request: web.Request, body: bytes, asked: Asked) -> None:
        """Commits what the dead operator sent, after the next one has written something."""
        assert self._late is not None
        self._late.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DELAYED_SECONDS):
                await self._late.wait()
        await self._do(request, body, asked)

    async def _forward(self, request: web.Request, body: bytes) -> Answer:
        async with self._upstream(request, body) as answer:
            headers = tuple(
                (name, value)
                for name, value in answer.headers.items()
                if name.lower() not in _HOP | {"content-type"}
            )
            kind = answer.headers.get("Content-Type", "application/json")
            return Answer(answer.status, kind, await answer.read(), headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        async with self._upstream(request, b"") as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            with contextlib.suppress(ConnectionError):  # the operator was killed
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            return response

    def _upstream(self, request: web.Request, body: bytes) -> Any:
        to_kubernetes = request.url.port == self._port(self.kubernetes)
        base = self._servers.access.server if to_kubernetes else self._servers.mlflow
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _HOP}
        if to_kubernetes:
            headers["Authorization"] = self._servers.authorization
        return self._session.request(
            request.method,
            URL(base + request.raw_path, encoded=True),
            data=body or None,
            headers=headers,
            ssl=(self._servers.access.tls or True) if to_kubernetes else True,
            allow_redirects=False,
        )

    @staticmethod
    def _port(address: str) -> int:
        return int(address.rsplit(":", 1)[1])


def _response(answer: Answer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body)
    response.headers["Content-Type"] = answer.kind
    for name, value in answer.headers:
        response.headers[name] = value
    return response


def _cut(request: web.Request) -> web.StreamResponse:
    """Closes the connection without an answer."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)
