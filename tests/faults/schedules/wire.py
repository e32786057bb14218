"""What lies between real replicas and the two real servers: `network`, for schedules that are
played with processes and in real time.

Requests are counted and broken as there. A replica is known by the header of its seat. What is cut
off is kept and goes on when the line is whole again, as TCP repeats it.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.faults import calls
from tests.faults.calls import System
from tests.faults.fault import ANSWERS, Answer, Fault
from tests.faults.process import SEAT_HEADER
from tests.faults.relay import Relay, Servers, cut, response
from tests.faults.schedules.network import (
    DELAYED_MOST_SECONDS,
    Break,
    Breaking,
    Outage,
    Sender,
    Sort,
    fits,
)
from tests.faults.schedules.watching import KINDS, Bad

LOOK_SECONDS = 0.05  # how often what waits for a line looks whether it is whole
UNHEARD_SECONDS = 60.0  # longer than any deadline of a request
_GONE = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'
_AWAY = Answer(503, "text/plain", b"no server is available")
_CANNED = {
    Break.CONFLICT: ANSWERS[Fault.CONFLICT],
    Break.THROTTLED: ANSWERS[Fault.THROTTLED],
    Break.ERROR: ANSWERS[Fault.ERROR],
    Break.UNAVAILABLE: _AWAY,
}
_EVENTS = ("ADDED", "MODIFIED", "DELETED")


@dataclass(eq=False)
class Seat:
    """One process of a replica. `dead`: it was killed."""

    name: str
    identity: str
    bad: Bad
    pause: Callable[[], None]
    resume: Callable[[], None]
    dead: bool = False


@dataclass
class _Request:
    seat: Seat
    system: System
    raw: web.BaseRequest
    body: bytes
    named: calls.Asked | None
    sort: Sort
    breaking: Breaking | None = None
    late: bool = False  # the network held it back

    @property
    def how(self) -> Break | None:
        return self.breaking.how if self.breaking else None

    @property
    def key(self) -> tuple[System, str]:
        return self.system, self.raw.raw_path

    @property
    def label(self) -> str:
        return self.named.name if self.named else f"{self.raw.method} {self.raw.rel_url.raw_path}"


@dataclass(eq=False)
class _Open:
    """An open watch."""

    raw: web.BaseRequest
    stream: web.StreamResponse


@dataclass
class Judge:
    """Who is told of what comes by. `sends`: a write arrives; `wrote`: it took effect, which may
    block; the last is whether the network had held it back."""

    sends: Callable[[Sender, calls.Asked, bool], None]
    wrote: Callable[[Sender, calls.Asked, bool], None]
    kill: Callable[[Seat], None]
    freeze: Callable[[Seat, float], None]
    note: Callable[[str], None]


class Wire(Relay):
    """`seats`: whoever may speak."""

    judge: Judge

    def __init__(self, servers: Servers) -> None:
        super().__init__(servers)
        self.seats: dict[str, Seat] = {}
        self.breaks: dict[tuple[Sort, int], Breaking] = {}
        self.fired: dict[tuple[Sort, int], tuple[Break, str]] = {}
        self.cuts: set[tuple[str, System]] = set()
        self.outages: dict[System, Outage] = {}
        self.armed = False
        self.writes = 0  # that took effect, the Lease's left out
        self.arrived: Counter[System] = Counter()  # requests, the Lease's left out
        self.holder: str | None = None  # of the Lease, by its seat; None: nobody ever held it
        self._seen: Counter[Sort] = Counter()
        self._last: dict[tuple[System, str], Answer] = {}
        self._judging = asyncio.Lock()
        self._wrote: dict[str, asyncio.Event] = {}  # by who waits for another's write
        self._watches: set[_Open] = set()

    # What can happen to all

    async def compact(self) -> None:
        """Watches are told that what they stand at is gone."""
        for watch in list(self._watches):
            with contextlib.suppress(ConnectionError):
                await watch.stream.write(_GONE)
            cut(watch.raw)

    # Requests

    async def _on_kubernetes(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._on(System.KUBERNETES, request)

    async def _on_mlflow(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._on(System.MLFLOW, request)

    async def _on(self, system: System, raw: web.BaseRequest) -> web.StreamResponse:
        seat = self.seats.get(raw.headers.get(SEAT_HEADER, ""))
        if seat is None:
            return cut(raw)
        if raw.rel_url.query.get("watch"):
            return await self._watch(seat, raw)
        request = self._request(seat, system, raw, await raw.read())
        answer = await self._carry(request)
        return cut(raw) if answer is None else response(answer)

    def _request(self, seat: Seat, system: System, raw: web.BaseRequest, body: bytes) -> _Request:
        path, query = raw.rel_url.raw_path, dict(raw.rel_url.query)
        own = system is System.MLFLOW or raw.headers["User-Agent"].startswith("podium-operator")
        name = calls.kubernetes if system is System.KUBERNETES else calls.mlflow
        named = name(raw.method, path, query, body) if own else None
        lease = "/leases" in path
        sort = Sort.LEASE if lease else Sort.WRITE if named and named.writes else Sort.READ
        request = _Request(seat, system, raw, body, named, sort)
        if self.armed and (named is not None or lease):
            self._seen[sort] += 1
            key = (sort, self._seen[sort])
            breaking = self.breaks.get(key)
            writes = raw.method != "GET" and sort is not Sort.READ
            if breaking and fits(breaking.how, system, writes, request.key in self._last):
                request.breaking = breaking
                self.fired[key] = breaking.how, request.label
                self.judge.note(f"{seat.name}: {request.label}: {breaking.how}")
        return request

    async def _carry(self, request: _Request) -> Answer | None:
        """There and back. None: no answer comes."""
        seat, how = request.seat, request.how
        seconds = request.breaking.seconds if request.breaking else 0.0
        match how:
            case Break.KILLED_BEFORE:
                await self._end(seat)
                return None
            case Break.FROZEN:
                self.judge.freeze(seat, seconds)
                await self._held(request, seconds)
            case Break.FROZEN_AFTER:
                self.judge.freeze(seat, seconds)
            case Break.DELAYED:
                await self._end(seat)
                await self._until_another_wrote(request)
            case Break.LATE:
                await self._held(request, seconds)
        if request.system in self.outages and how not in (Break.DELAYED, Break.LATE):
            return await self._away(request.system)
        await self._whole(request)
        if how in _CANNED:
            return _CANNED[how]
        if how is Break.STALE:
            if request.named:  # whoever is told something old has asked all the same
                self.judge.sends(seat, request.named, request.late)
            return self._last[request.key]
        answer = await self._perform(request)
        match how:
            case Break.KILLED_AFTER:
                await self._end(seat)
                return None
            case Break.LOST | Break.DELAYED | Break.LATE:
                return None
            case Break.HANGS:
                await asyncio.sleep(UNHEARD_SECONDS)
                return None
            case Break.BROKEN:
                return ANSWERS[Fault.BROKEN]
        await self._whole(request)  # the answer's way back
        return answer

    async def _perform(self, request: _Request) -> Answer:
        seat, named = request.seat, request.named
        if request.sort is not Sort.LEASE:
            self.arrived[request.system] += 1
        late = request.late or seat.dead
        if named:
            self.judge.sends(seat, named, late)
        answer = await self.forward(request.system, request.raw, request.body)
        self.judge.note(f"{seat.name}: {request.label}: {answer.status}{', late' * late}")
        if request.sort is Sort.READ:
            self._last[request.key] = answer
        if request.sort is Sort.LEASE and request.raw.method != "GET" and answer.status < 300:
            held_by = (json.loads(answer.body).get("spec") or {}).get("holderIdentity") or ""
            self.holder = held_by.partition("_")[0]  # empty: it was released
        if request.sort is Sort.WRITE and named and answer.status < 300:
            self.writes += 1
            async with self._judging:
                await asyncio.to_thread(self.judge.wrote, seat, named, late)
            for identity, wrote in self._wrote.items():
                if identity != seat.identity:
                    wrote.set()
        return answer

    # Waiting

    async def _held(self, request: _Request, seconds: float) -> None:
        request.late = True
        await asyncio.sleep(seconds)

    async def _until_another_wrote(self, request: _Request) -> None:
        request.late = True
        wrote = self._wrote[request.seat.identity] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wrote.wait(), DELAYED_MOST_SECONDS)

    async def _whole(self, request: _Request) -> None:
        if self._is_cut(request.seat, request.system):
            request.late = True
            await _until(lambda: not self._is_cut(request.seat, request.system))

    async def _away(self, system: System) -> Answer | None:
        if self.outages.get(system) is Outage.UNAVAILABLE:
            return _AWAY
        await _until(lambda: self.outages.get(system) is not Outage.SILENT)
        return None

    async def _end(self, seat: Seat) -> None:
        self.judge.kill(seat)
        await _until(lambda: seat.dead)

    def _is_cut(self, seat: Seat, system: System) -> bool:
        return (seat.name, system) in self.cuts

    # Watches

    async def _watch(self, seat: Seat, raw: web.BaseRequest) -> web.StreamResponse:
        await _until(lambda: not self._is_cut(seat, System.KUBERNETES))
        if System.KUBERNETES in self.outages:
            answer = await self._away(System.KUBERNETES)
            return cut(raw) if answer is None else response(answer)
        plural = raw.rel_url.raw_path.rpartition("/")[2]
        async with self.upstream(System.KUBERNETES, raw, b"") as answer:
            stream = web.StreamResponse(status=answer.status)
            stream.content_type = answer.content_type
            watch = _Open(raw, stream)
            with contextlib.suppress(ConnectionError):  # the operator was killed
                await stream.prepare(raw)
                self._watches.add(watch)
                try:
                    await self._tell(seat, plural, answer.content, watch)
                finally:
                    self._watches.discard(watch)
            return stream

    async def _tell(self, seat: Seat, plural: str, lines: Any, watch: _Open) -> None:
        """Each event when it is due; what comes from the server is read at once."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        reading = asyncio.create_task(self._read(seat, plural, lines, due))
        try:
            while watch.raw.transport is not None and System.KUBERNETES not in self.outages:
                try:
                    at, line = await asyncio.wait_for(due.get(), 1.0)
                except TimeoutError:
                    if reading.done() and due.empty():
                        return
                    continue
                await asyncio.sleep(at - asyncio.get_running_loop().time())
                await _until(lambda: not self._is_cut(seat, System.KUBERNETES))
                for _ in range(self._times(seat, plural, line)):
                    await watch.stream.write(line)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        cut(watch.raw)

    async def _read(
        self, seat: Seat, plural: str, lines: Any, due: "asyncio.Queue[tuple[float, bytes]]"
    ) -> None:
        rest = b""
        async for chunk in lines.iter_any():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lag = seat.bad.lag.get(plural, 0.0)
                due.put_nowait((asyncio.get_running_loop().time() + lag, line + b"\n"))

    def _times(self, seat: Seat, plural: str, line: bytes) -> int:
        """How often the event comes."""
        bad = seat.bad
        if not bad.armed or plural not in KINDS or json.loads(line)["type"] not in _EVENTS:
            return 1
        bad.seen[plural] += 1
        key = (plural, bad.seen[plural])
        return 0 if key in bad.dropped else 2 if key in bad.twice else 1


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)
