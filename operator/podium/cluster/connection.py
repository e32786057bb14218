"""HTTP to one API server: deadlines, credentials, retries of reads, and what each answer means.

Knows how Kubernetes answers and fails (metav1.Status), but none of its objects: those are the
client's. Everything that leaves for the server passes `ApiConnection._send`.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import aiohttp
import msgspec
import tenacity

from podium.clock import SYSTEM, Clock
from podium.cluster import answers
from podium.cluster.access import Access, AccessError
from podium.cluster.answers import Answer
from podium.cluster.errors import (
    AmbiguousWrite,
    ApiUnavailable,
    ClusterError,
    Unauthenticated,
)
from podium.cluster.request import Request, Verb
from podium.cluster.resources import Raw

READ_DEADLINE = 10.0  # seconds, all tries together
WRITE_DEADLINE = 5.0
READ_TRIES = 3

OnRequest = Callable[[str, str, float, str], None]  # verb, resource, seconds, outcome
Fence = Callable[[float], None]


_METHODS = {
    Verb.GET: "GET",
    Verb.LIST: "GET",
    Verb.CREATE: "POST",
    Verb.UPDATE: "PUT",
    Verb.PATCH: "PATCH",
}


class _Trip:
    """How far a request came: what a lost answer means depends on it."""

    def __init__(self, clock: Clock, deadline: float, writes: bool) -> None:
        self._clock = clock
        self._deadline = deadline
        self._writes = writes
        self.sent = False

    def begin(self) -> None:
        """A connection is in hand and the bytes go next."""
        if self._clock.monotonic() >= self._deadline:
            # The process slept (SIGSTOP, a stalled loop) since the fence was asked.
            raise _NotSentError("the deadline passed before the request could be sent")
        if self.sent and self._writes:
            # aiohttp repeats a PUT when a kept connection turns out to be closed.
            raise aiohttp.ServerDisconnectedError("connection lost")
        self.sent = True


class _NotSentError(Exception):
    """The request was stopped with the connection in hand, before its first byte."""


class ApiConnection:
    """Requests to one API server over a pool of connections."""

    def __init__(
        self,
        access: Access,
        *,
        on_request: OnRequest | None = None,
        clock: Clock = SYSTEM,
        pool_size: int = 100,
        user_agent: str = "podium-operator",
    ) -> None:
        self._access = access
        self._observe = on_request or (lambda _verb, _resource, _seconds, _outcome: None)
        self._clock = clock
        self._pool_size = pool_size
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections. May be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def read(self, request: Request, *, deadline: float = READ_DEADLINE) -> Raw:
        """The answer within `deadline` seconds, asked again at most twice. Raises ClusterError."""
        until = self._clock.monotonic() + deadline
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(READ_TRIES),
            wait=_Wait(),
            sleep=self._clock.sleep,
            retry=tenacity.retry_if_exception(lambda error: self._worth_repeating(error, until)),
            reraise=True,
        )
        return await retrying(self._exchange, request, until)

    async def write(
        self, request: Request, *, fence: Fence | None, deadline: float = WRITE_DEADLINE
    ) -> Raw:
        """The answer within `deadline` seconds. Never sent twice, but after a 401.

        `fence` is asked just before, with the seconds that the write may take.
        """
        until = self._clock.monotonic() + deadline
        if fence is not None:
            fence(deadline)
        return await self._exchange(request, until)

    async def _exchange(self, request: Request, until: float) -> Raw:
        """One request, and once more with a token read anew when the first is refused."""
        try:
            return await self._attempt(request, until, again=False)
        except Unauthenticated:
            return await self._attempt(request, until, again=True)

    async def _attempt(self, request: Request, until: float, *, again: bool) -> Raw:
        started = self._clock.monotonic()
        outcome = "cancelled"
        try:
            answer = await self._bounded(request, until, again=again)
            parsed = answers.parse(request, answer)
            outcome = "ok"
            return parsed
        except ClusterError as error:
            outcome = type(error).__name__
            raise
        finally:
            seconds = self._clock.monotonic() - started
            self._observe(request.verb.value, request.resource.plural, seconds, outcome)

    async def _bounded(self, request: Request, until: float, *, again: bool) -> Answer:
        trip = _Trip(self._clock, until, request.verb.writes)
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.monotonic())):
                authorization = await self._access.authorization(again=again)
                return await self._send(request, authorization, trip)
        except (TimeoutError, aiohttp.ClientError, OSError, AccessError, _NotSentError) as error:
            raise self._no_answer(request, trip, error) from error

    async def _send(self, request: Request, authorization: str | None, trip: _Trip) -> Answer:
        """The one place where bytes leave for the API server and come back."""
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        if authorization is not None:
            headers["Authorization"] = authorization
        content = None
        if request.body is not None:
            headers["Content-Type"] = request.content_type
            content = msgspec.json.encode(request.body)
        async with self._open_session().request(
            _METHODS[request.verb],
            self._access.server + request.path,
            params=dict(request.query),
            headers=headers,
            data=content,
            proxy=self._access.proxy,
            server_hostname=self._access.server_name,
            allow_redirects=False,
            trace_request_ctx=trip,
        ) as response:
            retry_after = response.headers.get("Retry-After")
            return Answer(response.status, retry_after, await response.read())

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._new_session()
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_about_to_send)
        trace.on_connection_reuseconn.append(_about_to_send)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._pool_size, ssl=self._access.tls or True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[trace],
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    def _worth_repeating(self, error: BaseException, until: float) -> bool:
        if not isinstance(error, ApiUnavailable) or isinstance(error, Unauthenticated):
            return False
        # With less than a second left another try could only end in a timeout.
        return self._clock.monotonic() + (error.retry_after or 0.0) + 1.0 < until

    def _no_answer(self, request: Request, trip: _Trip, error: Exception) -> ClusterError:
        cause = "no answer in time" if isinstance(error, TimeoutError) else _cause(error)
        said = f"{request.verb} of {request.what}: the API server at {self._access.server} "
        if trip.sent and request.verb.writes:
            return AmbiguousWrite(
                f"{said}was sent the change but did not answer ({cause}); Podium looks whether it "
                "took effect before it goes on."
            )
        return ApiUnavailable(f"{said}cannot be reached ({cause}); Podium tries again by itself.")


async def _about_to_send(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: object
) -> None:
    trip: _Trip = context.trace_request_ctx
    trip.begin()


class _Wait(tenacity.wait.wait_base):
    """What the server asks for (Retry-After), else a short random time."""

    _otherwise = tenacity.wait_random_exponential(multiplier=0.1, max=1.0)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        asked = error.retry_after if isinstance(error, ApiUnavailable) else None
        return self._otherwise(retry_state) if asked is None else asked


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate does not verify: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or type(error.os_error).__name__
    return str(error) or type(error).__name__
