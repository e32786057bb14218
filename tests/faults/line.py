"""The network between one operator and both servers: it can be cut, be slow, and be listened to.

Every request that leaves the operator is written down with its time before it goes on to the real
API server or the real MLflow. A `Line` knows nothing of promotions and judges nothing; which call
of a story is broken is the work of `proxy`.

Two operators of one namespace read the same ModelRegistry, so they come to MLflow by the same
address. Each reads its credentials there from the Secret `line`; the line answers that one itself,
with its own name as the token, and by the token a request to MLflow is known to be of that line.
"""

import asyncio
import base64
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from tests.faults import calls
from tests.faults.calls import System
from tests.faults.relay import HOP, Servers, cut

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time: closing sends RST


@dataclass
class Sent:
    """One request as it left the operator. Times are those of `time.time`."""

    line: str
    epoch: int  # which process of that line: a restart is another
    system: System
    method: str
    path: str
    query: dict[str, str]
    authorization: str
    body: bytes = field(repr=False)
    at: float
    name: str
    writes: bool
    forwarded: float | None = None
    answered: float | None = None
    status: int | None = None
    answer: bytes = field(default=b"", repr=False)
    late: bool = False  # held back on its way, and committed when it was let go

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def lease(self) -> bool:
        return "/leases" in self.path

    @property
    def took_effect(self) -> bool:
        return self.status is not None and self.status < 300


@dataclass(frozen=True)
class Answer:
    """What the line says in the server's place."""

    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Held:
    """One write that the network keeps. `caught`: it is on its way; `done`: the server has it."""

    wanted: Callable[[Sent], bool]
    caught: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    sent: Sent | None = None


@dataclass(eq=False)
class _Stream:
    """An open watch."""

    request: web.Request
    task: "asyncio.Task[Any] | None"
    audible: asyncio.Event = field(default_factory=asyncio.Event)


SECRET = "line"  # credentialsSecretRef of a ModelRegistry whose trackingURI is `Line.mlflow`


class Line:
    """One operator's; made by `lines`. `kubernetes` and `mlflow` are the servers' addresses on it.

    `instead` may answer a request in the server's place. `noticed` is told of every request when
    it comes.
    """

    def __init__(self, servers: Servers, name: str) -> None:
        self.name = name
        self.epoch = 0
        self.mlflow = ""
        self.sent: list[Sent] = []
        self.instead: Callable[[Sent], Answer | None] = lambda _: None
        self.noticed: Callable[[Sent], None] = lambda _: None
        self._servers = servers
        self._whole = asyncio.Event()
        self._whole.set()
        self._held: list[Held] = []
        self._streams: set[_Stream] = set()
        self._busy: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "Line":
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0),
        )
        # aiohttp sends an idempotent request again by itself, which no network does.
        self._session._retry_connection = False
        self._runner, self.kubernetes = await _listen(
            lambda request: self.serve(request, System.KUBERNETES)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._whole.set()
        for held in self._held:
            held.let_go.set()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        await self._session.close()

    # What can happen to a network

    def cut(self) -> None:
        """Nothing comes through either way, and nobody is told: packets are lost."""
        self._whole.clear()

    def heal(self) -> None:
        """Packets come through again, those that were sent meanwhile too: TCP repeats them."""
        self._whole.set()

    def hold(self, wanted: Callable[[Sent], bool]) -> Held:
        """Keep the next write for which `wanted` holds until it is let go."""
        held = Held(wanted)
        self._held.append(held)
        return held

    def mute_watches(self) -> int:
        """Those that are open stay open and say nothing: half-open connections. Gives how many."""
        for stream in self._streams:
            stream.audible.clear()
        return len(self._streams)

    def end_watches(self, last: bytes = b"", *, reset: bool = False) -> int:
        """End those that are open, after a last line; with a TCP reset. Gives how many."""
        ended = 0
        for stream in list(self._streams):
            self._streams.discard(stream)
            transport = stream.request.transport
            if transport is None or transport.is_closing():
                continue
            ended += 1
            if reset:
                raw: socket.socket = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                transport.abort()
            else:
                size = f"{len(last):x}".encode()
                transport.write(size + b"\r\n" + last + b"\r\n0\r\n\r\n" if last else b"0\r\n\r\n")
                transport.close()
            if stream.task is not None:
                stream.task.cancel()
        return ended

    @property
    def watches(self) -> int:
        return len(self._streams)

    # Requests on their way

    async def serve(self, request: web.Request, system: System) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            return await self._serve(request, system)
        finally:
            self._busy.discard(task)

    async def _serve(self, request: web.Request, system: System) -> web.StreamResponse:
        sent = self._note(request, system, await request.read())
        held = self._keeper(sent)
        if held is not None:
            held.sent, sent.late = sent, True
            held.caught.set()
            await held.let_go.wait()
        elif not self._whole.is_set():
            sent.late = True
            await self._whole.wait()
        if (said := self._own(sent) or self.instead(sent)) is not None:
            sent.status = said.status
            return _response(said.status, "application/json", said.body, said.headers)
        try:
            if sent.watch:
                return await self._stream(request, sent)
            answer = await self._exchange(request, sent)
            if held is not None:
                held.done.set()
            await self._whole.wait()  # the answer's way back
            return answer
        except (aiohttp.ClientError, OSError):
            return cut(request)
        finally:
            if held is not None:
                held.done.set()

    def _own(self, sent: Sent) -> Answer | None:
        """The Secret by which MLflow's side knows the line."""
        if sent.system is System.MLFLOW or not sent.path.endswith(f"/secrets/{SECRET}"):
            return None
        token = base64.b64encode(self.name.encode()).decode()
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "data": {"token": token},
        }
        return Answer(200, json.dumps(secret).encode())

    def _note(self, request: web.Request, system: System, body: bytes) -> Sent:
        path, query = request.rel_url.raw_path, dict(request.query)
        of = calls.kubernetes if system is System.KUBERNETES else calls.mlflow
        asked = of(request.method, path, query, body)
        sent = Sent(
            line=self.name,
            epoch=self.epoch,
            system=system,
            method=request.method,
            path=path,
            query=query,
            authorization=request.headers.get("Authorization", ""),
            body=body,
            at=time.time(),
            name=asked.name if asked else f"{request.method} {path}",
            writes=asked.writes if asked else request.method != "GET",
        )
        self.sent.append(sent)
        self.noticed(sent)
        return sent

    def _keeper(self, sent: Sent) -> Held | None:
        if not sent.writes or sent.lease:
            return None
        for held in self._held:
            if held.sent is None and not held.let_go.is_set() and held.wanted(sent):
                return held
        return None

    async def _exchange(self, request: web.Request, sent: Sent) -> web.Response:
        sent.forwarded = time.time()
        async with self._upstream(request, sent) as answer:
            body = await answer.read()
            kind = answer.headers.get("Content-Type", "application/json")
            headers = _headers(answer)
        sent.answered, sent.status = time.time(), answer.status
        if sent.lease and sent.writes:
            sent.answer = body
        return _response(answer.status, kind, body, headers)

    async def _stream(self, request: web.Request, sent: Sent) -> web.StreamResponse:
        async with self._upstream(request, sent) as answer:
            sent.status = answer.status
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            stream = _Stream(request, asyncio.current_task())
            stream.audible.set()
            with contextlib.suppress(ConnectionError):  # the operator is gone
                await response.prepare(request)
                self._streams.add(stream)
                try:
                    async for chunk in answer.content.iter_any():
                        await stream.audible.wait()
                        await self._whole.wait()
                        await response.write(chunk)
                finally:
                    self._streams.discard(stream)
            return response

    def _upstream(self, request: web.Request, sent: Sent) -> Any:
        to_kubernetes = sent.system is System.KUBERNETES
        base = self._servers.access.server if to_kubernetes else self._servers.mlflow
        headers = {n: v for n, v in request.headers.items() if n.lower() not in HOP}
        if to_kubernetes:
            headers["Authorization"] = self._servers.authorization
        return self._session.request(
            request.method,
            URL(base + request.raw_path, encoded=True),
            data=sent.body or None,
            headers=headers,
            ssl=(self._servers.access.tls or True) if to_kubernetes else True,
            allow_redirects=False,
        )


@contextlib.asynccontextmanager
async def lines(servers: Servers, *names: str) -> AsyncIterator[list[Line]]:
    """One line for each name."""
    async with contextlib.AsyncExitStack() as stack:
        made = {name: await stack.enter_async_context(Line(servers, name)) for name in names}

        async def to_mlflow(request: web.Request) -> web.StreamResponse:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            return await made[token].serve(request, System.MLFLOW)

        runner, address = await _listen(to_mlflow)
        stack.push_async_callback(runner.cleanup)
        for line in made.values():
            line.mlflow = address
        yield list(made.values())


async def _listen(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> tuple[web.AppRunner, str]:
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.2, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def _headers(answer: aiohttp.ClientResponse) -> tuple[tuple[str, str], ...]:
    passed = HOP | {"content-type"}
    return tuple((n, v) for n, v in answer.headers.items() if n.lower() not in passed)


def _response(
    status: int, kind: str, body: bytes, headers: tuple[tuple[str, str], ...]
) -> web.Response:
    response = web.Response(status=status, body=body)
    response.headers["Content-Type"] = kind
    for name, value in headers:
        response.headers[name] = value
    return response
