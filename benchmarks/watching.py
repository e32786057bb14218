"""What became of promotions, seen by a watch of the benchmark's own."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import aiohttp
import msgspec

from benchmarks.kube import Kube

PATH = "/apis/podium.dev/v1alpha1/modelpromotions"
OVER = frozenset({"Promoted", "RolledBack", "Rejected", "Superseded", "Expired"})


class _Metadata(msgspec.Struct):
    name: str = ""


class _Champion(msgspec.Struct):
    version: str = ""


class _Attempt(msgspec.Struct):
    version: str = ""
    phase: str = ""


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    reason: str = ""


class _Status(msgspec.Struct):
    champion: _Champion | None = None
    attempt: _Attempt | None = None
    conditions: list[_Condition] = []


class Promotion(msgspec.Struct):
    """As much of a promotion as is looked at."""

    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def served(self) -> str | None:
        """The champion, once it is Ready and no attempt runs."""
        attempt, champion = self.status.attempt, self.status.champion
        running = attempt is not None and attempt.phase not in OVER
        ready = any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)
        return champion.version if champion and ready and not running else None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Watching(AbstractAsyncContextManager["Watching"]):
    """Follows all promotions between `async with` and its end."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[str, Promotion] = {}
        self._wanted: dict[str, str] = {}
        self._served_at: dict[str, float] = {}
        self._done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Watching":
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def expect(self, wanted: Mapping[str, str]) -> None:
        """From now on: which promotion is to serve which version."""
        self._wanted = dict(wanted)
        self._served_at = {}
        self._done.clear()
        for name, promotion in self._known.items():
            self._look(name, promotion)

    async def all_served(self, within: float) -> dict[str, float]:
        """When each of the expected came to serve (seconds since 1970). Raises TimeoutError, which
        names some of those that did not."""
        assert self._task is not None
        waiting = asyncio.create_task(self._done.wait())
        await asyncio.wait({waiting, self._task}, timeout=within, return_when="FIRST_COMPLETED")
        if self._task.done():
            self._task.result()
        if not waiting.done():
            waiting.cancel()
            some = {n: self._known[n].status for n in list(self._wanted)[:3] if n in self._known}
            raise TimeoutError(
                f"{len(self._wanted)} promotions do not serve what was expected after "
                f"{within:.0f} s, among them {some}"
            )
        return self._served_at

    @property
    def left(self) -> int:
        """How many of the expected do not serve yet."""
        return len(self._wanted)

    async def _follow(self) -> None:
        while True:
            version = ""
            async for page in self._kube.pages(PATH):
                version = page["metadata"]["resourceVersion"]
                for item in page["items"]:
                    self._see(msgspec.convert(item, Promotion))
            try:
                async for line in self._kube.watch(PATH, version):
                    event = msgspec.json.decode(line, type=_Event)
                    if event.type == "ERROR":
                        break
                    self._see(msgspec.json.decode(event.object, type=Promotion))
            except aiohttp.ClientError:
                await asyncio.sleep(1)

    def _see(self, promotion: Promotion) -> None:
        self._known[promotion.metadata.name] = promotion
        self._look(promotion.metadata.name, promotion)

    def _look(self, name: str, promotion: Promotion) -> None:
        wanted = self._wanted.get(name)
        if wanted is not None and promotion.served == wanted:
            del self._wanted[name]
            self._served_at[name] = time.time()
            if not self._wanted:
                self._done.set()
