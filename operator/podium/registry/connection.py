"""One registry's HTTP: credentials, deadlines, retries, pacing, and what each answer means.

Knows MLflow's way of answering and of failing, but none of its objects: those are the client's.
Everything that leaves for the server passes `RegistryConnection._send`.
"""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TypeVar

import aiohttp
import tenacity
from aiohttp import hdrs
from yarl import URL

from podium.clock import SYSTEM, Clock
from podium.registry import answers
from podium.registry.answers import Answer, Call
from podium.registry.errors import (
    AmbiguousWrite,
    CredentialsUnavailable,
    InvalidAddress,
    RegistryError,
    RegistryThrottled,
    RegistryUnavailable,
    TlsFailed,
    TooLarge,
    Unauthenticated,
)
from podium.registry.model import Credentials
from podium.registry.pacing import CircuitBreaker, RateLimit, Throttle

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_LISTING_BYTES = 64 * 1024 * 1024  # all pages of one listing that is kept
MAX_CONNECTIONS = 8
# uvicorn, which serves MLflow 3, closes a connection after 5 idle seconds: reusing one at that
# moment would turn a write into an ambiguous one.
IDLE_CONNECTION_SECONDS = 4.0
DNS_CACHE_SECONDS = 10
CREDENTIALS_MAX_AGE_SECONDS = 60.0
READ_ATTEMPTS = 3
MAX_WAIT_FOR_TURN_SECONDS = 30.0
WORKSPACE_HEADER = "X-MLFLOW-WORKSPACE"

ReadCredentials = Callable[[], Awaitable[Credentials | None]]
OnRequest = Callable[[str, float, str], None]
T = TypeVar("T")
Parse = Callable[[Answer], T]


def checked_address(tracking_uri: str) -> URL:
    """The tracking URI as a URL, or InvalidAddress with a message that does not repeat it."""
    try:
        url = URL(tracking_uri.strip().rstrip("/"))
    except ValueError:
        raise InvalidAddress("The tracking URI is not a URL. Write https://HOST:PORT.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidAddress(
            "The tracking URI must be the http or https address of an MLflow server, "
            "like https://mlflow.ml.svc:5000."
        )
    if url.user is not None or url.password is not None:
        raise InvalidAddress(
            "The tracking URI holds a user name or password. Put them into a Secret, name it in "
            "spec.credentialsSecretRef, and leave them out of the URI."
        )
    if url.query_string or url.fragment:
        raise InvalidAddress("The tracking URI must end with the path: no `?` and no `#`.")
    return url


class RegistryConnection:
    """The requests of one ModelRegistry, paced and bounded. `RegistryClient` builds on it."""

    def __init__(
        self,
        *,
        tracking_uri: str,
        workspace: str | None,
        credentials: ReadCredentials,
        ca_pem: bytes | None,
        request_timeout: float = 5.0,
        rate_limit_per_second: float = 50.0,
        clock: Clock = SYSTEM,
        on_request: OnRequest | None = None,
        rng: random.Random | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """`request_timeout` (seconds) bounds each read's try, and each write as a whole.

        `on_request` is told of every exchange: the operation, its seconds, and `ok` or a reason.
        Raises InvalidAddress for a tracking URI or CA bundle that cannot be used.
        """
        self._base = checked_address(tracking_uri)
        self._workspace = workspace
        self._tls = _tls_context(ca_pem) if self._base.scheme == "https" else None
        self._timeout = request_timeout
        self._clock = clock
        self._on_request = on_request
        self._max_answer_bytes = max_answer_bytes
        self._read_credentials = credentials
        self._credentials: Credentials | None = None
        self._credentials_read_at: float | None = None
        rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._rate_limit = RateLimit(rate_limit_per_second, self._clock)
        self._breaker = CircuitBreaker(self._clock, rng)
        self._throttle = Throttle(self._clock)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    @property
    def address(self) -> str:
        """Where the registry is, fit for messages."""
        return str(self._base)

    @property
    def wants_rest(self) -> float:
        """For how many seconds the server has asked to be left alone (429, or 503 with
        Retry-After)."""
        return self._throttle.remaining

    async def close(self) -> None:
        """Close the connections, for good: a pass that still holds a replaced client would else
        open connections that nobody closes."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _deadline(self) -> float:
        """When a write that begins now must be over, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout

    async def _call(self, call: Call, answer_type: type[T], deadline: float | None = None) -> T:
        """Perform the call and decode its answer, or raise a RegistryError.

        A write is over by `deadline` (by default the request timeout from now).
        """

        def parse(answer: Answer) -> T:
            return answers.decode(answer, answer_type, call, self.address)

        if call.writes:
            return await self._write(call, parse, deadline or self._deadline())
        return await self._read(call, parse)

    async def _sized(self, call: Call, answer_type: type[T]) -> tuple[T, int]:
        """Perform a read, and give the bytes of its answer too."""

        def parse(answer: Answer) -> tuple[T, int]:
            decoded = answers.decode(answer, answer_type, call, self.address)
            return decoded, len(answer.body)

        return await self._read(call, parse)

    async def _raw(self, call: Call) -> Answer:
        """Perform a read whose answer is not JSON."""
        return await self._read(call, lambda answer: answer)

    async def _before(self, deadline: float, reading: Awaitable[T]) -> T:
        """What a write needs to read first, within the write's own deadline."""
        try:
            async with asyncio.timeout_at(deadline):
                return await reading
        except TimeoutError:
            raise RegistryUnavailable(
                f"The registry at {self.address} took over {self._timeout:g} s for what had to be "
                "read before a write; nothing was written. Check that the server is well."
            ) from None

    async def _read(self, call: Call, parse: Parse[T]) -> T:
        retrying = tenacity.AsyncRetrying(
            sleep=self._clock.sleep,
            stop=tenacity.stop_after_attempt(READ_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
            retry=tenacity.retry_if_exception(_worth_repeating),
            reraise=True,
        )
        return await retrying(self._exchange, call, parse, MAX_WAIT_FOR_TURN_SECONDS, None)

    async def _write(self, call: Call, parse: Parse[T], deadline: float) -> T:
        """A write is bounded as a whole, its wait for a turn too: nothing of it outlives this."""
        left = deadline - asyncio.get_running_loop().time()
        trip = _Trip(self._clock, self._clock.monotonic() + left)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._exchange(call, parse, self._timeout, trip)
        except TimeoutError:
            raise self._no_answer(call, trip, f"within {self._timeout:g} s") from None

    async def _exchange(
        self, call: Call, parse: Parse[T], wait_at_most: float, trip: _Trip | None
    ) -> T:
        """One turn: pacing, credentials, the request, and once more after a stale credential."""
        trip = trip or _Trip(self._clock)
        self._throttle.admit()
        await self._rate_limit.wait(at_most=wait_at_most)
        credentials = await self._current_credentials(fresh=False)
        try:
            return await self._attempt(call, parse, credentials, trip)
        except Unauthenticated:
            renewed = await self._current_credentials(fresh=True)
            if renewed == credentials:
                raise
            return await self._attempt(call, parse, renewed, trip)

    async def _attempt(
        self, call: Call, parse: Parse[T], credentials: Credentials | None, trip: _Trip
    ) -> T:
        """One request, its outcome told to the breaker and the observer."""
        self._breaker.admit()
        started = self._clock.monotonic()
        outcome = "cancelled"
        try:
            answer = await self._send(call, _headers(credentials, self._workspace), trip)
            self._raise_for_status(answer, call, credentials)
            parsed = parse(answer)
        except RegistryError as error:
            outcome = error.reason.value
            if isinstance(error, RegistryUnavailable | AmbiguousWrite):
                self._breaker.failed()
            else:
                self._breaker.succeeded()
            raise
        except asyncio.CancelledError:
            # A write's deadline arrives as a cancellation: silence counts against the server.
            if trip.sent and call.writes:
                outcome = AmbiguousWrite.reason.value
            self._breaker.failed() if trip.sent else self._breaker.abandoned()
            raise
        except BaseException:
            # Else a breaker that was trying this request would try no other for ever.
            self._breaker.abandoned()
            raise
        else:
            outcome = "ok"
            self._breaker.succeeded()
            return parsed
        finally:
            if self._on_request is not None:
                self._on_request(call.operation, self._clock.monotonic() - started, outcome)

    def _raise_for_status(
        self, answer: Answer, call: Call, credentials: Credentials | None
    ) -> None:
        if answer.status == 429:
            seconds = self._throttle.throttled(answer.retry_after)
            raise RegistryThrottled(
                f"The registry at {self.address} asked for fewer requests (429). Podium waits for "
                "as long as it asked.",
                retry_after=seconds,
            )
        if answer.status == 503 and answer.retry_after:
            self._throttle.throttled(answer.retry_after, away=True)
            if not call.writes:
                self._throttle.admit()
        answers.raise_for_status(answer, call, self.address, _secrets(credentials))

    async def _send(self, call: Call, headers: dict[str, str], trip: _Trip) -> Answer:
        """Send one HTTP request and read its answer. The only place that speaks to the server."""
        try:
            async with self._open_session().request(
                call.method,
                call.url(self._base),
                data=call.body,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=trip,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            ) as response:
                body = await self._bounded_body(response, call)
                return Answer(
                    status=response.status,
                    content_type=response.content_type,
                    retry_after=response.headers.get(hdrs.RETRY_AFTER),
                    location=response.headers.get(hdrs.LOCATION),
                    body=body,
                )
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise TlsFailed(
                f"No trusted connection to the registry at {self.address}: {_tls_cause(error)}. "
                "Check the host name and spec.tls.caSecretRef."
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise RegistryUnavailable(
                f"The registry at {self.address} cannot be reached: "
                f"{error.os_error.strerror or type(error.os_error).__name__}. Check "
                "spec.trackingURI and that the server runs.",
                repeatable=True,
            ) from None
        except TimeoutError:
            raise self._no_answer(call, trip, f"within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._no_answer(call, trip, f"({type(error).__name__})") from None

    async def _bounded_body(self, response: aiohttp.ClientResponse, call: Call) -> bytes:
        limit = self._max_answer_bytes
        body = bytearray()
        async for portion in response.content.iter_chunked(256 * 1024):
            body += portion
            if len(body) > limit:
                response.close()
                raise TooLarge(
                    f"The registry at {self.address} answered {call.subject} with more than "
                    f"{limit // (1024 * 1024)} MiB. Shorten its tags and descriptions."
                )
        return bytes(body)

    def _no_answer(self, call: Call, trip: _Trip, how: str) -> RegistryError:
        if call.writes and trip.sent:
            return AmbiguousWrite(
                f"The registry at {self.address} was asked to {call.what}, and did not answer "
                f"{how}. It may or may not have been done; Podium reads it again until it is "
                "settled."
            )
        timed_out = how.startswith("within")
        return RegistryUnavailable(
            f"The registry at {self.address} did not answer {how} when asked to {call.what}. "
            "Check that the server is well.",
            repeatable=not timed_out,
        )

    async def _current_credentials(self, *, fresh: bool) -> Credentials | None:
        now = self._clock.monotonic()
        read_at = self._credentials_read_at
        if not fresh and read_at is not None and now - read_at < CREDENTIALS_MAX_AGE_SECONDS:
            return self._credentials
        try:
            self._credentials = await self._read_credentials()
        except RegistryError:
            raise
        except Exception as error:
            raise CredentialsUnavailable(
                f"The credentials for the registry at {self.address} could not be read "
                f"({type(error).__name__}). Check spec.credentialsSecretRef and the operator's "
                "right to read that Secret."
            ) from error
        self._credentials_read_at = now
        return self._credentials

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RegistryUnavailable(
                f"The connection to the registry at {self.address} was replaced, because the "
                "ModelRegistry changed; Podium goes on with the new one."
            )
        if self._session is None or self._session.closed:
            self._session = self._new_session()
        return self._session

    def _new_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        # From here on the server may have the request: aiohttp may join head and body.
        trace.on_connection_create_end.append(_about_to_send)
        trace.on_connection_reuseconn.append(_about_to_send)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS,
                keepalive_timeout=IDLE_CONNECTION_SECONDS,
                ttl_dns_cache=DNS_CACHE_SECONDS,
                ssl=self._tls or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )
        # aiohttp sends a DELETE again by itself when the connection breaks; a write must
        # not be repeated behind our back. No public option exists (as of 3.14).
        session._retry_connection = False
        return session


class _Trip:
    """Whether one request may have reached the server. A write begins before `until`, or never."""

    def __init__(self, clock: Clock, until: float | None = None) -> None:
        self._clock = clock
        self._until = until
        self.sent = False

    def begin(self) -> None:
        """A connection is in hand and the bytes go next."""
        if self._until is not None and self._clock.monotonic() >= self._until:
            # The process slept (SIGSTOP, a suspended machine) since the fence was asked.
            raise TimeoutError
        self.sent = True


async def _about_to_send(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: object
) -> None:
    trip: _Trip = context.trace_request_ctx
    trip.begin()


def _secrets(credentials: Credentials | None) -> list[str]:
    """What no message may hold: a server can put into its answer what it was sent."""
    if credentials is None:
        return []
    sent = _headers(credentials, None).get(hdrs.AUTHORIZATION, "").partition(" ")[2]
    return [text for text in (credentials.password, credentials.token, sent) if text]


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, RegistryUnavailable) and error.repeatable


def _headers(credentials: Credentials | None, workspace: str | None) -> dict[str, str]:
    headers: dict[str, str] = {
        hdrs.ACCEPT: "application/json",
        hdrs.CONTENT_TYPE: "application/json",
        hdrs.USER_AGENT: "podium",
    }
    if workspace is not None:
        headers[WORKSPACE_HEADER] = workspace
    if credentials is None:
        return headers
    if credentials.token:
        headers[hdrs.AUTHORIZATION] = f"Bearer {credentials.token}"
    elif credentials.username is not None:
        pair = f"{credentials.username}:{credentials.password or ''}".encode()
        headers[hdrs.AUTHORIZATION] = f"Basic {base64.b64encode(pair).decode()}"
    return headers


def _tls_context(ca_pem: bytes | None) -> ssl.SSLContext:
    if ca_pem is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError):
        raise InvalidAddress(
            "The CA bundle of spec.tls.caSecretRef holds no PEM certificate that can be read."
        ) from None


def _tls_cause(
    error: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError,
) -> str:
    cause = (
        error.certificate_error
        if isinstance(error, aiohttp.ClientConnectorCertificateError)
        else error.os_error
    )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    return getattr(cause, "reason", None) or type(cause).__name__


def seconds_until_worthwhile(error: RegistryError) -> float | None:
    """How long asking the same registry again is pointless, where the error tells (seconds)."""
    if isinstance(error, RegistryThrottled | RegistryUnavailable):
        return error.retry_after
    return None
