"""kopf as the watch: the only file that imports it.

No finalizers, annotations, timers, daemons or retries of kopf's own: handlers hand the event on
and return. What an event means is `hints`. Nor does kopf list: `repair` does, each time that a
watch begins anew.
"""

import asyncio
import contextlib
import sys
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp

from podium.cluster.access import Access
from podium.runtime.hints import Hints


@contextlib.contextmanager
def _not_loaded(package: str) -> Iterator[None]:
    """Imports inside do not find the package, unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # Python's sign for "not there"
    try:
        yield
    finally:
        del sys.modules[package]


# kopf takes objects of the official client too and loads all of it to know them: 22 MB and half a
# second of each start, for what Podium never hands it.
with _not_loaded("kubernetes"):
    import kopf
    from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory


# The path of a watch that the API server granted, and whether it begins anew: what came before it
# nobody was told.
Opened = Callable[[str, bool], None]


class Watch(Protocol):
    """See `watch`."""

    async def __call__(
        self,
        access: Access,
        hints: Hints,
        opened: Opened,
        namespaces: tuple[str, ...],
        stop: asyncio.Event,
        ready: asyncio.Event,
    ) -> None: ...


GROUP, VERSION = "podium.dev", "v1alpha1"
# kopf opens a watch again without a pause when it ended well, and logs in again at once after a
# 401: behind a proxy that ends watches, or with a token that stays expired, that is a hot loop.
REOPEN_SECONDS = 1.0
LOGIN_SECONDS = 2.0
ENDING_SECONDS = 2.0  # for kopf's tasks; some do not end when they are cancelled
NOBODY = "podium-lists-by-itself"  # an object of that name would be an event too many, no more


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    # An idle worker per object is what costs memory: 193 -> 59 MB at 10,000 objects (measured).
    settings.queueing.idle_timeout = 0.05
    settings.queueing.exit_timeout = 2.0
    settings.watching.chunk_size = 500  # so that a LIST is known by its `limit`
    # A watch whose connection died silently is replaced by its deadline, or by silence.
    settings.watching.server_timeout = 300  # Kubernetes takes whole seconds only
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10.0
    settings.watching.reconnect_backoff = REOPEN_SECONDS  # before a LIST that begins anew
    settings.networking.request_timeout = 30.0
    # Two minutes of 5xx, as while an API server starts; and no watch sleeps long when it is back.
    settings.networking.error_backoffs = (1, 2, 3, 5, 8, *(10,) * 11)
    return settings


class _Pace:
    """At most one of a kind in so many seconds: who comes sooner waits."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    async def turn(self, kind: str, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        due = max(now, self._last.get(kind, now - seconds) + seconds)
        self._last[kind] = due
        await asyncio.sleep(due - now)


class ResourceGoneError(Exception):
    """The API server does not know a resource that is watched."""


class _Sessions:
    """kopf's HTTP sessions, made here to see how each watch is answered, and to close them."""

    def __init__(self, access: Access, opened: Opened) -> None:
        self._access = access
        self._opened = opened
        self._listed: set[str] = set()  # paths whose next watch begins anew
        self._pace = _Pace()
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # a path
        self._made: list[aiohttp.ClientSession] = []

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        """A session with the credentials as they are now; kopf asks again after a 401."""
        await self._pace.turn("login", LOGIN_SECONDS)
        authorization = await self._access.authorization(again=bool(self._made))
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._not_too_soon)
        trace.on_request_end.append(self._note)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._access.tls or True),
            headers={"Authorization": authorization} if authorization else {},
            proxy=self._access.proxy,
            trace_configs=[trace],
            middlewares=[_list_nothing],
        )
        self._made = [each for each in self._made if not each.closed] + [session]
        return kopf.AiohttpSession(server=self._access.server, aiohttp_session=session)

    async def _not_too_soon(
        self,
        session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        asked: aiohttp.TraceRequestStartParams,
    ) -> None:
        if asked.url.query.get("watch") == "true":
            await self._pace.turn(asked.url.path, REOPEN_SECONDS)
            if session.closed:  # meanwhile, by kopf, for another watch's 401
                # What aiohttp says itself when asked, and kopf knows: it logs in again. After this
                # point aiohttp asserts that there is a connector, and kopf would give up.
                raise RuntimeError("Session is closed")

    async def _note(
        self,
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        answered: aiohttp.TraceRequestEndParams,
    ) -> None:
        path, status = answered.url.path, answered.response.status
        if answered.url.query.get("watch") != "true":
            if status == 200:
                self._listed.add(path)
            return
        if status == 200:
            self._opened(path, path in self._listed)
            self._listed.discard(path)
        if status == 404 and not self.gone.done():
            self.gone.set_result(path)

    async def close(self) -> None:
        for session in self._made:
            await session.close()


async def _list_nothing(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """kopf's LISTs find nothing but the resourceVersion from which its watch goes on.

    It hands on each object of a LIST as an event of its own, at a millisecond of CPU (measured):
    with 10,000 promotions the operator was ready after 42 s. Podium lists once the watch is open.
    """
    if "limit" in request.url.query:
        request.url = request.url.update_query(fieldSelector=f"metadata.name={NOBODY}")
    return await send(request)


class _Memories(ResourceMemories):  # type: ignore[misc]
    """Keeps nothing. kopf remembers a kilobyte of each object for daemons, timers and retries:
    20 MB for 10,000 promotions and their Deployments (measured), and Podium has none of these."""

    async def recall(self, raw_body: Any, **given: Any) -> ResourceMemory:
        return await super().recall(raw_body, **{**given, "ephemeral": True})


def _registry(hints: Hints, sessions: _Sessions) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(sessions.login)

    @kopf.on.event(GROUP, VERSION, "modelpromotions", registry=registry)  # type: ignore[untyped-decorator]
    async def promotion(event: Mapping[str, Any], **_: Any) -> None:
        hints.promotion(event["type"], event["object"])

    @kopf.on.event(GROUP, VERSION, "promotiondecisions", registry=registry)  # type: ignore[untyped-decorator]
    async def decision(event: Mapping[str, Any], **_: Any) -> None:
        hints.decision(event["type"], event["object"])

    @kopf.on.event(GROUP, VERSION, "modelregistries", registry=registry)  # type: ignore[untyped-decorator]
    async def model_registry(event: Mapping[str, Any], **_: Any) -> None:
        hints.registry(event["type"], event["object"])

    @kopf.on.event("apps", "v1", "deployments", registry=registry)  # type: ignore[untyped-decorator]
    async def deployment(event: Mapping[str, Any], **_: Any) -> None:
        hints.deployment(event["type"], event["object"])

    return registry


async def watch(
    access: Access,
    hints: Hints,
    opened: Opened,
    namespaces: tuple[str, ...],
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watches until `stop`. Ends with an error when kopf gives up: the process then restarts.

    `opened` is told of each watch that the API server grants.
    """
    sessions = _Sessions(access, opened)
    # Not kopf.operator: when a watch has failed for good it first waits for every task of the
    # loop, ours among them, and can wait for ever (seen after a 404 and after a 500).
    tasks = await kopf.spawn_tasks(
        registry=_registry(hints, sessions),
        settings=_settings(),
        memories=_Memories(),
        # Else kopf asks for the name of the user, and a container's user may have none.
        identity="podium-operator",
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        ready_flag=ready,
    )
    try:
        done, _ = await asyncio.wait({*tasks, sessions.gone}, return_when=FIRST_COMPLETED)
        if sessions.gone in done:
            raise ResourceGoneError(
                f"the API server does not know {sessions.gone.result()} any more: were the CRDs "
                "removed? The process ends; the next one waits until they are there again."
            )
        for task in tasks:
            if task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=ENDING_SECONDS)
        await sessions.close()
