"""What lies between the replicas and the two servers: latency, and everything that can go wrong.

One request of the operator is one `exchange`; what happens to it is decided here, once, by the
breaks and outages that the director has set.
"""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import aiohttp

from tests.faults import calls
from tests.faults.calls import System
from tests.faults.schedules.loop import Process
from tests.models.http import Answered, Asked

DELAYED_MOST_SECONDS = 25.0  # a commit of a dead replica is there by then, though nobody acted


class Break(StrEnum):
    """What happens to one request."""

    KILLED_BEFORE = "killed before it is sent"
    KILLED_AFTER = "killed after it took effect"
    DELAYED = "killed; it takes effect after the next leader acted"
    LOST = "takes effect, the answer is lost"
    HANGS = "takes effect, no answer comes"
    LATE = "no answer comes, and it takes effect much later"
    CONFLICT = "409"
    THROTTLED = "429"
    ERROR = "500"
    UNAVAILABLE = "503"
    BROKEN = "takes effect, a broken body comes back"
    STALE = "the answer of the time before"
    FROZEN = "the process is stopped with the request in hand"
    FROZEN_AFTER = "sent, then the process is stopped"


class Outage(StrEnum):
    REFUSED = "refuses connections"
    UNAVAILABLE = "answers 503"
    SILENT = "does not answer"


class Sort(StrEnum):
    """What the n-th of is counted."""

    WRITE = "write"
    READ = "read"
    LEASE = "Lease request"


KILLS = frozenset({Break.KILLED_BEFORE, Break.KILLED_AFTER, Break.DELAYED})
FREEZES = frozenset({Break.FROZEN, Break.FROZEN_AFTER})
_CONFLICT = (
    b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409,'
    b'"message":"the object has been modified"}'
)
_CANNED = {
    Break.CONFLICT: Answered(409, _CONFLICT),
    Break.THROTTLED: Answered(429, b"{}", headers={"Retry-After": "1"}),
    Break.ERROR: Answered(500, b'{"error_code":"INTERNAL_ERROR","message":"x"}'),
    Break.UNAVAILABLE: Answered(503, b"no server is available", "text/plain"),
}
_BROKEN = Answered(200, b'{"model_versions": [{"na')


@dataclass(frozen=True)
class Breaking:
    """`seconds`: how late a LATE commit is, how long a FROZEN process stands still."""

    how: Break
    seconds: float


class Sender(Protocol):
    """A process of the operator; `identity` is what the Lease names its holder by."""

    name: str
    identity: str


def fits(how: Break, system: System, writes: bool, known: bool) -> bool:
    """Whether that can happen to a request; `known`: the same was answered before."""
    if how is Break.STALE:
        return not writes and known
    if how is Break.CONFLICT:
        return writes and system is System.KUBERNETES
    return writes or how not in (Break.LATE, Break.DELAYED)


@dataclass
class _Request:
    process: Process
    system: System
    asked: Asked
    named: calls.Asked | None
    sort: Sort
    breaking: Breaking | None
    answered: "asyncio.Future[Answered]"

    @property
    def how(self) -> Break | None:
        return self.breaking.how if self.breaking else None

    @property
    def label(self) -> str:
        if self.named is not None:
            return self.named.name
        return f"{self.asked.method} {self.asked.path}"


@dataclass
class Network:
    """`begin` gives a request to its server; what it returns does the writes. `sends` is told of
    each request that arrives (a read also where an old answer comes back), `wrote` of each write
    that took effect: whose it was, what, and whether the network had held it back."""

    begin: Callable[[System, Asked], Callable[[], Answered]]
    sends: Callable[[Process, calls.Asked, bool], None]
    wrote: Callable[[Process, calls.Asked, bool], None]
    kill: Callable[[Process], None]
    freeze: Callable[[Process, float], None]
    rng: random.Random
    note: Callable[[str], None]
    breaks: dict[tuple[Sort, int], Breaking] = field(default_factory=dict)
    fired: dict[tuple[Sort, int], tuple[Break, str]] = field(default_factory=dict)
    cuts: set[tuple[str, System]] = field(default_factory=set)
    outages: dict[System, Outage] = field(default_factory=dict)
    armed: bool = False
    writes: int = 0  # that took effect, the Lease's left out
    arrived: Counter[System] = field(default_factory=Counter)  # requests, the Lease's left out
    _seen: Counter[Sort] = field(default_factory=Counter)
    _last: dict[tuple[System, str], Answered] = field(default_factory=dict)
    _held: list[_Request] = field(default_factory=list)
    _context: contextvars.Context = field(default_factory=contextvars.copy_context)

    async def exchange(
        self, process: Process, system: System, asked: Asked, begin: Callable[[], None]
    ) -> Answered:
        """The server's answer, or what aiohttp raises. `begin` is called as the bytes leave."""
        loop = asyncio.get_running_loop()
        request = self._request(process, system, asked, loop.create_future())
        if request.how is Break.KILLED_BEFORE:
            self._end(request)
            return await request.answered
        if request.breaking and request.how is Break.FROZEN:
            self._freeze(request, request.breaking.seconds)
            await asyncio.sleep(0)
        if self.outages.get(system) is Outage.REFUSED:
            raise aiohttp.ClientConnectorError(_Key(), OSError(111, "Connection refused"))  # type: ignore[arg-type]
        begin()
        if (process.name, system) not in self.cuts:
            self._post(self._latency(), self._arrive, request)
        if request.breaking and request.how is Break.FROZEN_AFTER:
            self._freeze(request, request.breaking.seconds)
        if request.how is Break.DELAYED:
            self._held.append(request)
            self._end(request)
            self._post(DELAYED_MOST_SECONDS, self._release, request)
        return await request.answered

    def is_cut(self, process: Process, system: System) -> bool:
        return (process.name, system) in self.cuts or system in self.outages

    def _request(
        self,
        process: Process,
        system: System,
        asked: Asked,
        answered: "asyncio.Future[Answered]",
    ) -> _Request:
        name = calls.kubernetes if system is System.KUBERNETES else calls.mlflow
        named = name(asked.method, asked.path, asked.query, asked.body)
        lease = "/leases" in asked.path
        sort = Sort.LEASE if lease else Sort.WRITE if named and named.writes else Sort.READ
        request = _Request(process, system, asked, named, sort, None, answered)
        if self.armed and (named is not None or lease):
            self._seen[sort] += 1
            key = (sort, self._seen[sort])
            breaking = self.breaks.get(key)
            writes = asked.method != "GET" and sort is not Sort.READ
            if breaking and fits(breaking.how, system, writes, self._key(request) in self._last):
                request.breaking = breaking
            if request.breaking is not None:
                self.fired[key] = request.breaking.how, request.label
                self.note(f"{process.name}: {request.label}: {request.how}")
        return request

    def _arrive(self, request: _Request) -> None:
        if request.how is Break.DELAYED or request.process.dead:
            return
        if request.breaking and request.how is Break.LATE:
            self._post(request.breaking.seconds, self._perform, request, True)
            return
        outage = self.outages.get(request.system)
        if outage is Outage.UNAVAILABLE:
            self._reply(request, _CANNED[Break.UNAVAILABLE])
        elif outage is None:
            self._answer(request)

    def _answer(self, request: _Request) -> None:
        how = request.how
        if how in _CANNED:
            self._reply(request, _CANNED[how])
            return
        if how is Break.STALE:
            if request.named:  # whoever is told something old has asked all the same
                self.sends(request.process, request.named, False)
            self._reply(request, self._last[self._key(request)])
            return
        self._perform(request, late=False)

    def _go_on(self, request: _Request, answer: Answered) -> None:
        """After it took effect."""
        how = request.how
        if how is Break.KILLED_AFTER:
            self._end(request)
        elif how is Break.LOST:
            self._post(self._latency(), self._lose, request)
        elif how is Break.BROKEN:
            self._reply(request, _BROKEN)
        elif how is not Break.HANGS:
            self._reply(request, answer)

    def _perform(self, request: _Request, late: bool) -> None:
        if request.sort is not Sort.LEASE:
            self.arrived[request.system] += 1
        if request.named:
            self.sends(request.process, request.named, late)
        commit = self.begin(request.system, request.asked)
        if request.system is System.MLFLOW and request.sort is Sort.WRITE:
            # Its transactions read before they write and lock nothing.
            self._post(self._latency(), self._commit, request, commit, late)
        else:
            self._commit(request, commit, late)

    def _commit(self, request: _Request, commit: Callable[[], Answered], late: bool) -> None:
        answer = commit()
        held = ", held back" if late else ""
        self.note(f"{request.process.name}: {request.label}: {answer.status}{held}")
        if request.sort is Sort.READ:
            self._last[self._key(request)] = answer
        if request.sort is Sort.WRITE and request.named and answer.status < 300:
            self.writes += 1
            self.wrote(request.process, request.named, late)
            for held_back in [one for one in self._held if one.process is not request.process]:
                self._post(self._latency(), self._release, held_back)
        if not late:
            self._go_on(request, answer)

    def _release(self, request: _Request) -> None:
        if request in self._held:
            self._held.remove(request)
            self._perform(request, late=True)

    def _reply(self, request: _Request, answer: Answered) -> None:
        self._post(self._latency(), self._hand_over, request, answer)

    def _hand_over(self, request: _Request, answer: Answered) -> None:
        cut = (request.process.name, request.system) in self.cuts
        if not request.answered.done() and not cut:
            request.answered.set_result(answer)

    def _lose(self, request: _Request) -> None:
        if not request.answered.done():
            request.answered.set_exception(aiohttp.ServerDisconnectedError())

    def _end(self, request: _Request) -> None:
        request.process.dead = True
        self._post(0.0, self.kill, request.process)

    def _freeze(self, request: _Request, seconds: float) -> None:
        self._context.run(self.freeze, request.process, seconds)

    def _key(self, request: _Request) -> tuple[System, str]:
        asked = request.asked
        return request.system, f"{asked.path}?{sorted(asked.query.items())}"

    def _latency(self) -> float:
        return self.rng.uniform(0.001, 0.004)

    def _post(self, delay: float, do: Callable[..., Any], *about: Any) -> None:
        """Later, as a step of the world and not of the process that asks."""
        asyncio.get_running_loop().call_later(delay, do, *about, context=self._context)


class _Key:
    """What aiohttp's message about a refused connection names."""

    host, port, ssl, is_ssl = "server", 443, None, False
