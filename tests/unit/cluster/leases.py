"""A Lease with the API server's resourceVersion rules, and time that a test moves by hand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from podium.cluster import AlreadyExists, AmbiguousWrite, ApiUnavailable, Conflict, LeaseRecord

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Shelf:
    """What etcd has."""

    record: LeaseRecord | None = None
    version: int = 0
    writes: list[str] = field(default_factory=list)

    def put(self, record: LeaseRecord) -> LeaseRecord:
        self.version += 1
        self.record = replace(record, version=str(self.version))
        self.writes.append(record.holder)
        return self.record


@dataclass
class FakeLeaseStore:
    """One replica's way to the shelf. `down`: nothing arrives; `deaf`: writes arrive, their
    answers do not; `before_write` runs while a write is on its way."""

    shelf: Shelf
    down: bool = False
    deaf: bool = False
    before_write: Callable[[], None] = lambda: None

    async def read(self) -> LeaseRecord | None:
        self._check()
        return self.shelf.record

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        self._check()
        self.before_write()
        if self.shelf.record is not None:
            raise AlreadyExists("exists")
        return self._answer(self.shelf.put(record))

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        self._check()
        self.before_write()
        if self.shelf.record is None or self.shelf.record.version != record.version:
            raise Conflict("changed")
        return self._answer(self.shelf.put(record))

    def _check(self) -> None:
        if self.down:
            raise ApiUnavailable("down")

    def _answer(self, record: LeaseRecord) -> LeaseRecord:
        if self.deaf:
            raise AmbiguousWrite("no answer")
        return record


class HandClock:
    """Time that passes only by `advance`; who sleeps wakes in order."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.seconds + seconds, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Lets time pass in small steps, with everything due done in between."""
        until = self.seconds + seconds
        await settle()
        while True:
            self._sleepers = [one for one in self._sleepers if not one[1].done()]
            due = sorted(at for at, _ in self._sleepers if at <= until)
            if not due:
                break
            self.seconds = max(self.seconds, due[0])
            for at, woken in self._sleepers:
                if at <= self.seconds and not woken.done():
                    woken.set_result(None)
            await settle()
        self.seconds = until


async def settle() -> None:
    """Until no task has anything left to do at this moment."""
    for _ in range(30):
        await asyncio.sleep(0)
