"""The operator's HTTP sessions in simulated time: as much of aiohttp.ClientSession as it uses.

The clients above them are the real ones, with their deadlines, retries, breakers and fences.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from podium.cluster.connection import ApiConnection
from podium.registry.client import RegistryClient
from tests.faults.calls import System
from tests.faults.schedules.loop import Process
from tests.faults.schedules.network import Network
from tests.models.http import Answered, Asked, query_of

API_SERVER = "https://kubernetes"
MLFLOW = "http://mlflow:5000"


class _Trip(Protocol):
    def begin(self) -> None: ...


class Access:
    """Where the simulated API server is."""

    server = API_SERVER
    tls = None
    server_name = None
    proxy = None

    async def authorization(self, *, again: bool = False) -> str | None:
        return "Bearer simulated"


class Session:
    """One replica's way to one server."""

    def __init__(self, network: Network, process: Process, system: System) -> None:
        self._network, self._process, self._system = network, process, system
        self.closed = False

    def request(
        self,
        method: str,
        url: str | URL,
        *,
        trace_request_ctx: _Trip,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        **_: Any,
    ) -> "_Exchange":
        where = URL(url)
        query = {**query_of(where.raw_query_string), **(params or {})}
        asked = Asked(method, where.raw_path, query, headers, data or b"")
        seconds = timeout.total if timeout else None
        return _Exchange(self, asked, trace_request_ctx, seconds)

    async def send(self, asked: Asked, trip: _Trip) -> Answered:
        return await self._network.exchange(self._process, self._system, asked, trip.begin)

    async def close(self) -> None:
        self.closed = True


class _Exchange:
    """`async with session.request(...) as response`."""

    def __init__(self, session: Session, asked: Asked, trip: _Trip, seconds: float | None) -> None:
        self._session, self._asked, self._trip = session, asked, trip
        self._seconds = seconds

    async def __aenter__(self) -> "_Response":
        async with asyncio.timeout(self._seconds):
            return _Response(await self._session.send(self._asked, self._trip))

    async def __aexit__(self, *_: object) -> None: ...


class _Response:
    def __init__(self, answer: Answered) -> None:
        self._body = answer.body
        self.status = answer.status
        self.content_type = answer.content_type.partition(";")[0]
        self.headers = CIMultiDict(answer.headers)
        self.content = self

    async def read(self) -> bytes:
        return self._body

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        yield self._body

    def close(self) -> None: ...


class SimulatedConnection(ApiConnection):
    """To the model of the API server."""

    def __init__(self, network: Network, process: Process, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._way = (network, process)

    def _new_session(self) -> aiohttp.ClientSession:
        return Session(*self._way, System.KUBERNETES)  # type: ignore[return-value]


class SimulatedRegistryClient(RegistryClient):
    """To the model of MLflow."""

    def __init__(self, network: Network, process: Process, **named: Any) -> None:
        super().__init__(**named)
        self._way = (network, process)

    def _new_session(self) -> aiohttp.ClientSession:
        return Session(*self._way, System.MLFLOW)  # type: ignore[return-value]
