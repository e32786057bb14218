"""Passes requests of operators on to the real API server and the real MLflow, and the answers back.

An operator speaks plain HTTP to two ports on loopback; from there each request goes on with the
administrator's credentials. Nothing in the operator knows of it, so what a Relay breaks is what a
bad network would break. What is broken, those decide that are made of it: `proxy`,
`schedules.wire`.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

from podium.cluster.access import Access, load_access
from tests.faults.calls import System
from tests.faults.fault import Answer
from tests.faults.process import SEAT_HEADER
from tests.faults.world import Cluster

HOP = {"connection", "content-length", "transfer-encoding", "host", "content-encoding"}


@dataclass(frozen=True)
class Servers:
    """The real ones, and the administrator's credentials."""

    access: Access
    authorization: str = field(repr=False)
    mlflow: str

    @classmethod
    async def of(cls, kubeconfig: Path, mlflow: str) -> "Servers":
        access = await load_access(str(kubeconfig))
        return cls(access, await access.authorization() or "", mlflow)

    @cached_property
    def cluster(self) -> Cluster:
        return Cluster(self.access.server, self.access.tls, self.authorization)


class Relay:
    """`async with Relay(...)`: `kubernetes` and `mlflow` are the addresses for the operator."""

    kubernetes = ""
    mlflow = ""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._runners: list[web.ServerRunner] = []
        self._busy: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._session = _session()
        # uvicorn closes what was idle for 5 s: a request that meets that moment would be a fault
        # that nobody planned.
        self._to_mlflow = _session(force_close=True)
        self.kubernetes = await self._listen(self._on_kubernetes)
        self.mlflow = await self._listen(self._on_mlflow)
        return self

    async def __aexit__(self, *_: object) -> None:
        for runner in self._runners:
            await runner.cleanup()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        await self._session.close()
        await self._to_mlflow.close()

    async def _on_kubernetes(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    async def _on_mlflow(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    async def _listen(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> str:
        async def passed_on(request: web.BaseRequest) -> web.StreamResponse:
            task = asyncio.current_task()
            assert task is not None
            self._busy.add(task)  # aiohttp forgets it when its client is gone
            try:
                return await handler(request)
            except (aiohttp.ClientError, OSError):  # the server did not answer
                return cut(request)
            finally:
                self._busy.discard(task)

        server = web.Server(passed_on)
        runner = web.ServerRunner(server, shutdown_timeout=0.2, handle_signals=False)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def forward(self, system: System, request: web.BaseRequest, body: bytes) -> Answer:
        async with self.upstream(system, request, body) as answer:
            headers = tuple(
                (name, value)
                for name, value in answer.headers.items()
                if name.lower() not in HOP | {"content-type"}
            )
            kind = answer.headers.get("Content-Type", "application/json")
            return Answer(answer.status, kind, await answer.read(), headers)

    def upstream(self, system: System, request: web.BaseRequest, body: bytes) -> Any:
        to_kubernetes = system is System.KUBERNETES
        base = self._servers.access.server if to_kubernetes else self._servers.mlflow
        dropped = HOP | {SEAT_HEADER.lower()}
        headers = {n: v for n, v in request.headers.items() if n.lower() not in dropped}
        if to_kubernetes:
            headers["Authorization"] = self._servers.authorization
        session = self._session if to_kubernetes else self._to_mlflow
        return session.request(
            request.method,
            URL(base + request.raw_path, encoded=True),
            data=body or None,
            headers=headers,
            ssl=(self._servers.access.tls or True) if to_kubernetes else True,
            allow_redirects=False,
        )

    def ask(self, path: str) -> Any:
        """The API server, as the administrator."""
        headers = {"Authorization": self._servers.authorization}
        tls = self._servers.access.tls or True
        return self._session.get(self._servers.access.server + path, headers=headers, ssl=tls)

    @contextlib.asynccontextmanager
    async def watching_pods(
        self,
        namespace: str,
        saw: Callable[[dict[str, Any]], Awaitable[None]],
        failed: Callable[[str], None],
    ) -> AsyncIterator[None]:
        """`saw` is given each pod that comes or changes; `failed` is told when no more is seen."""
        watch = asyncio.create_task(self._watch_pods(namespace, saw, failed))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch_pods(
        self,
        namespace: str,
        saw: Callable[[dict[str, Any]], Awaitable[None]],
        failed: Callable[[str], None],
    ) -> None:
        why = "it ended"
        try:
            async with self.ask(f"/api/v1/namespaces/{namespace}/pods?watch=true") as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        await saw(event["object"])
        except Exception as error:
            why = repr(error)
        failed(f"the watch of pods, of the tests' own: {why}")


def response(answer: Answer) -> web.Response:
    made = web.Response(status=answer.status, body=answer.body)
    made.headers["Content-Type"] = answer.kind
    for name, value in answer.headers:
        made.headers[name] = value
    return made


def cut(request: web.BaseRequest) -> web.StreamResponse:
    """Closes the connection without an answer."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)


def _session(force_close: bool = False) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None),
        connector=aiohttp.TCPConnector(limit=0, force_close=force_close),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    # aiohttp sends an idempotent request again by itself, which no network does.
    session._retry_connection = False
    return session
