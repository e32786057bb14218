"""The API server as a benchmark speaks to it: raw requests over one pool, and nothing read twice.

Not Podium's own client: what is measured must not be measured with itself.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import msgspec

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
PAGE = 500
Raw = Mapping[str, Any]
T = TypeVar("T")


class Kube:
    """One identity (a bearer token) at one API server, between `async with` and its end."""

    def __init__(self, server: str, token: str, ca: Path) -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {token}", "Accept": JSON}
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Kube":
        connector = aiohttp.TCPConnector(limit=64, ssl=self._tls)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=60),
            read_bufsize=2**20,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.close()

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "used outside of its `async with`"
        return self._session

    async def send(
        self,
        method: str,
        path: str,
        body: Raw | None = None,
        *,
        kind: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The answer. Raises RuntimeError with the server's words for anything but 2xx."""
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": kind}
        async with self._open.request(
            method, self._server + path, data=data, headers=headers, params=query
        ) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
            return msgspec.json.decode(content, type=dict[str, Any])

    async def pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """A list, page by page."""
        query = {"limit": str(PAGE)}
        while True:
            page = await self.send("GET", path, query=query)
            yield page
            going_on = page["metadata"].get("continue")
            if not going_on:
                return
            query["continue"] = going_on

    async def watch(self, path: str, version: str) -> AsyncIterator[bytes]:
        """Each event of a watch, one JSON object in bytes, until the server ends it."""
        query = {"watch": "true", "resourceVersion": version}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._open.get(self._server + path, params=query, timeout=timeout) as answer:
            answer.raise_for_status()
            rest = b""
            async for portion in answer.content.iter_any():
                *lines, rest = (rest + portion).split(b"\n")
                for line in lines:
                    yield line


async def in_parallel(
    items: Iterable[T], do: Callable[[T], Awaitable[object]], workers: int = 16
) -> None:
    """Does something with each item, `workers` at a time; the first failure ends it."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await do(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(work())
