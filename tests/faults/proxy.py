"""What stands between the operators and the two servers: counts the calls, and breaks some. Says
nothing about what is right: that is `invariants`.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from aiohttp import web

from tests.faults import calls
from tests.faults.calls import Asked, Call, Counting, System
from tests.faults.fault import ANSWERS, Answer, Fault
from tests.faults.process import SEAT_HEADER
from tests.faults.relay import Relay, Servers, cut, response

HANG_SECONDS = 6.0  # longer than any deadline of a write
ACTS_SECONDS = 6.0  # the next operator has led for so long: what it has to write, it wrote
LEADS_SECONDS = 60.0  # within which the next one leads: a Lease of 12 s runs out, and more
LOOK_SECONDS = 0.05
AWAY_SECONDS = 5.0
LAG_SECONDS = 4.0
_PROMOTIONS = "/modelpromotions"
T = TypeVar("T")


class Trial(Protocol):
    """What the proxy needs of the trial that it is part of."""

    async def kill(self) -> None:
        """SIGKILL of the operator, and a new one."""

    async def pause(self) -> None:
        """SIGSTOP of the operator, and a second one beside it."""

    async def resume(self) -> None:
        """SIGCONT of the one that was paused."""

    async def delete(self) -> None:
        """A user deletes the promotion."""

    async def sends(self, asked: Asked, seat: str, leader: str | None, away: float | None) -> None:
        """A write arrives from the operator of this seat, while that of `leader` holds the Lease
        and MLflow has been away for so many seconds."""

    async def wrote(self, asked: Asked, late: bool) -> None:
        """A write took effect; its answer waits. `late`: it was held until another one acted."""


class Proxy(Relay):
    """Of one trial."""

    def __init__(
        self,
        servers: Servers,
        trial: Trial,
        at: Collection[Call] = (),
        fault: Fault | None = None,
    ) -> None:
        super().__init__(servers)
        self._trial = trial
        self._at, self._fault = frozenset(at), fault
        self._counting: Counting | None = None
        self._answers: dict[str, list[Answer]] = {}  # of reads: those that differ, oldest first
        self._background: set[asyncio.Task[Any]] = set()
        self._wrote = asyncio.Event()
        self._held: list[Callable[[], Awaitable[Answer]]] = []  # to take effect in the end
        self._away_since: float | None = None
        self._grace = 0.0
        self._next_wrote: dict[str, asyncio.Event] = {}  # by the seat whose call is held
        self._past: list[tuple[Call, Answer]] = []  # LISTs of promotions, to be shown in the end
        self._shown: tuple[Call, Answer] | None = None  # the one that is shown
        self._listed = asyncio.Event()  # it was
        self._lagging: asyncio.Event | None = None
        self._leader: str | None = None
        self.deleted = asyncio.Event()
        self.seen: list[Call] = []
        self.staleable: set[Call] = set()
        self.fired: set[Call] = set()
        self.writes = 0
        self.late: list[Asked] = []  # what took effect late

    async def __aexit__(self, *_: object) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await super().__aexit__()

    def arm(self) -> None:
        """From here calls are counted, and those of `at` broken."""
        self._counting = Counting()

    # What the trial does at rest

    def holds_late(self) -> bool:
        return bool(self._held)

    async def release(self) -> None:
        """What was held longest takes effect now, long after its sender's end."""
        await self._held.pop(0)()

    def shows_the_past(self) -> bool:
        return bool(self._past)

    async def lag(self) -> None:
        """A new operator sees promotions as they were, until its watch catches up. A read of the
        one promotion is never old: the API server's are quorum reads."""
        self._shown = self._past.pop(0)
        self._lagging, self._listed = asyncio.Event(), asyncio.Event()
        await self._trial.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listed.wait(), LEADS_SECONDS)
        await self._catch_up()

    async def _catch_up(self) -> None:
        await asyncio.sleep(LAG_SECONDS)
        if self._lagging is not None:
            self._lagging.set()
            self._lagging = None

    async def writes_beyond(self, number: int, seconds: float) -> bool:
        """Whether there are more writes than that within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.writes <= number:
                    self._wrote.clear()
                    await self._wrote.wait()
        return self.writes > number

    def holds_back(self) -> bool:
        """A call that is to take effect when another operator has acted."""
        return bool(self._background)

    async def delivered(self) -> None:
        await asyncio.gather(*self._background, return_exceptions=True)

    # Requests

    async def _on_kubernetes(self, request: web.BaseRequest) -> web.StreamResponse:
        path, query = request.rel_url.raw_path, dict(request.rel_url.query)
        if query.get("watch"):
            return await self._stream(request, path)
        body = await request.read()
        lists = request.method == "GET" and path.endswith(_PROMOTIONS)
        if lists and self._lagging is not None and self._shown is not None:
            call, shown = self._shown
            if "fieldSelector" in query:  # kopf's, for its resourceVersion
                return response(_without_items(shown))
            self.fired.add(call)
            self._listed.set()
            return response(shown)
        if "/leases" in path:
            return response(await self._lease(request, body))
        own = request.headers.get("User-Agent", "").startswith("podium-operator")
        asked = calls.kubernetes(request.method, path, query, body) if own else None
        return await self._serve(System.KUBERNETES, request, body, asked)

    async def _on_mlflow(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if self._away is not None:
            return cut(request)
        path, query = request.rel_url.raw_path, dict(request.rel_url.query)
        asked = calls.mlflow(request.method, path, query, body)
        return await self._serve(System.MLFLOW, request, body, asked)

    async def _lease(self, request: web.BaseRequest, body: bytes) -> Answer:
        """Notes who holds it. One that was killed still does until the next one has it, though the
        trial deletes the Lease: what it sent before may arrive yet."""
        answer = await self.forward(System.KUBERNETES, request, body)
        if request.method != "GET" and answer.status < 300:
            holder = (json.loads(answer.body).get("spec") or {}).get("holderIdentity") or ""
            self._leader = holder.partition("_")[0] or None
        return answer

    async def _serve(
        self, system: System, request: web.BaseRequest, body: bytes, asked: Asked | None
    ) -> web.StreamResponse:
        if asked is None:
            return response(await self.forward(system, request, body))
        if asked.writes:
            seat = request.headers.get(SEAT_HEADER, "")
            await self._trial.sends(asked, seat, self._leader, self._away)
        if self._counting is None:
            return response(await self._do(system, request, body, asked))
        call = self._counting.name(asked)
        self.seen.append(call)
        if call in self._at and call not in self.fired and self._fault is not None:
            return await self._break(call, self._fault, system, request, body, asked)
        answer = await self._do(system, request, body, asked)
        if not asked.writes and self._older(request, answer):
            self.staleable.add(call)
        return response(answer)

    async def _do(
        self,
        system: System,
        request: web.BaseRequest,
        body: bytes,
        asked: Asked,
        *,
        late: bool = False,
    ) -> Answer:
        answer = await self.forward(system, request, body)
        if asked.writes:
            self.writes += 1
            if answer.status < 300:
                await self._trial.wrote(asked, late)
                self._wrote.set()
                for seat, wrote in self._next_wrote.items():
                    if seat != request.headers.get(SEAT_HEADER, ""):
                        wrote.set()
        elif answer.status < 300:
            known = self._answers.setdefault(request.raw_path, [])
            if not known or known[-1].body != answer.body:
                self._answers[request.raw_path] = [*known[-1:], answer]
        return answer

    def _older(self, request: web.BaseRequest, answer: Answer) -> Answer | None:
        """What the same read gave before, if that was something else."""
        known = self._answers.get(request.raw_path, [])
        return next((each for each in known if each.body != answer.body), None)

    async def _break(
        self,
        call: Call,
        fault: Fault,
        system: System,
        request: web.BaseRequest,
        body: bytes,
        asked: Asked,
    ) -> web.StreamResponse:
        if fault is Fault.STALE:
            answer = await self._do(system, request, body, asked)
            older = self._older(request, answer)
            if older is not None:
                self.fired.add(call)
            return response(older or answer)
        if fault is Fault.LAGGING:
            answer = await self._do(system, request, body, asked)
            self._past.append((call, await self._list_promotions(request.rel_url.raw_path)))
            return response(answer)
        if fault in (Fault.AWAY, Fault.KILL_AWAY) and self._away is not None:
            return response(await self._do(system, request, body, asked))
        if fault in (Fault.DELAYED, Fault.PAUSED):
            return await self._hold(
                call, fault, partial(self._do_late, system, request, body, asked), request
            )
        self.fired.add(call)
        if fault is Fault.LATE:
            self._held.append(partial(self._do_late, system, request, body, asked))
            return await self._end(request)
        if fault is Fault.KILL_BEFORE:
            return await self._end(request)
        if fault in (Fault.CONFLICT, Fault.THROTTLED, Fault.ERROR):
            return response(ANSWERS[fault])
        answer = await self._do(system, request, body, asked)
        match fault:
            case Fault.KILL_AFTER:
                return await self._end(request)
            case Fault.BROKEN:
                return response(ANSWERS[fault])
            case Fault.HANG:
                await asyncio.sleep(HANG_SECONDS)
            case Fault.DELETED:
                self._lagging = asyncio.Event()
                await self._trial.delete()
                self._go_on(self._catch_up())
                self.deleted.set()
                return response(answer)
            case Fault.AWAY:
                self._go_away(1.5)  # a pass that has seen all may end
                return response(answer)
            case Fault.KILL_AWAY:
                self._go_away(0.0)
                return await self._end(request)
        return cut(request)  # LOST, and HANG

    async def _end(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._trial.kill()
        return cut(request)

    # Calls that take effect later

    async def _hold(
        self,
        call: Call,
        fault: Fault,
        commit: Callable[[], Awaitable[Answer]],
        request: web.BaseRequest,
    ) -> web.StreamResponse:
        seat = request.headers.get(SEAT_HEADER, "")
        self._next_wrote.setdefault(seat, asyncio.Event())
        if fault is Fault.DELAYED:
            self._go_on(self._after_the_next(call, seat, commit))
            return await self._end(request)
        await self._trial.pause()
        answer = await self._go_on(self._after_the_next(call, seat, commit))
        await self._trial.resume()
        return response(answer)

    def _go_on(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _after_the_next(
        self, call: Call, seat: str, commit: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """After another operator than that of `seat` has acted; what never arrives did not fire."""
        acted = await self._another_acted(seat)
        answer = await commit()
        if acted:
            self.fired.add(call)
        return answer

    async def _another_acted(self, seat: str) -> bool:
        """Has written, or led for a while and found nothing to write. False: nobody else leads."""
        wrote = self._next_wrote[seat]
        try:
            async with asyncio.timeout(LEADS_SECONDS):
                while self._leader in (None, seat) and not wrote.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wrote.wait(), ACTS_SECONDS)
        return True

    async def _do_late(
        self, system: System, request: web.BaseRequest, body: bytes, asked: Asked
    ) -> Answer:
        answer = await self._do(system, request, body, asked, late=True)
        if answer.status < 300:
            self.late.append(asked)
        return answer

    # MLflow away

    @property
    def _away(self) -> float | None:
        """For how many seconds MLflow has been away, those left out in which what was seen before
        may still be acted on; None: it is there."""
        if self._away_since is None:
            return None
        since = asyncio.get_running_loop().time() - self._away_since
        return None if since > AWAY_SECONDS else max(0.0, since - self._grace)

    def _go_away(self, grace: float) -> None:
        self._away_since, self._grace = asyncio.get_running_loop().time(), grace

    # The servers

    async def _list_promotions(self, path: str) -> Answer:
        """`path` is that of a promotion's status."""
        async with self.ask(path[: path.index(_PROMOTIONS)] + _PROMOTIONS) as answer:
            return Answer(answer.status, "application/json", await answer.read())

    async def _stream(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        async with self.upstream(System.KUBERNETES, request, b"") as answer:
            stream = web.StreamResponse(status=answer.status)
            stream.content_type = answer.content_type
            with contextlib.suppress(ConnectionError):  # the operator was killed
                await stream.prepare(request)
                async for chunk in answer.content.iter_any():
                    await self._told_in_time(path)
                    await stream.write(chunk)
            return stream

    async def _told_in_time(self, path: str) -> None:
        """What a watch of promotions shows, it shows late while it lags."""
        if path.endswith(_PROMOTIONS) and self._lagging is not None:
            await self._lagging.wait()


def _without_items(listed: Answer) -> Answer:
    return replace(listed, body=json.dumps({**json.loads(listed.body), "items": []}).encode())
