"""An event loop whose time jumps to the next timer when nothing is left to do.

It knows processes: a share of the loop's work that can be stopped (SIGSTOP), let go on (SIGCONT)
and thrown away (SIGKILL). There is no I/O and no other thread, so a run repeats exactly.
"""

import asyncio
import heapq
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")
START = 1000.0  # seconds; no clock is near its zero
MOST_AT_ONCE = 50_000  # steps at one instant: then something turns without end
RESOLUTION = 1e-6  # seconds
_PROCESS: ContextVar["Process | None"] = ContextVar("process", default=None)


class Livelock(AssertionError):  # noqa: N818
    """Steps without end at one instant."""


class Deadlock(AssertionError):  # noqa: N818
    """Nothing is ready and nothing will ever be."""


class Process:
    """What one replica runs. `dead`: nothing of it reaches a server any more."""

    def __init__(self, loop: "VirtualLoop", name: str, identity: str) -> None:
        self.name = name
        self.identity = identity  # as the Lease names its holder
        self.dead = False
        self.paused = False
        self._loop = loop
        self._parked: list[asyncio.Handle] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._context: Context = copy_context()
        self._context.run(_PROCESS.set, self)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._loop.create_task(work, context=self._context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def park(self, handle: asyncio.Handle) -> None:
        self._parked.append(handle)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        """What fell due meanwhile comes first, in the order in which it did."""
        if not self.paused:
            return
        self.paused = False
        parked, self._parked = self._parked, []
        self._loop.first(parked)

    async def kill(self) -> None:
        """Ends all its tasks. What they still do when cancelled reaches nobody."""
        self.dead = True
        self.resume()
        for _ in range(100):
            if not self._tasks:
                return
            for task in list(self._tasks):
                task.cancel()
            await asyncio.sleep(0)
        raise AssertionError(f"{self.name} does not end: {list(self._tasks)}")


def current() -> Process | None:
    """Whose step this is; None: the world's."""
    return _PROCESS.get()


class VirtualLoop(BaseEventLoop):
    """Runs what is ready; when nothing is, time is what the next timer says."""

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._now = START
        self._at_once = 0
        self.steps = 0
        self.set_task_factory(_owned_task)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._now

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """A real clock moves on while one looks at it; else a wait for what is left of a rounding
        error would never end."""
        if when > self._now:
            when = max(when, self._now + RESOLUTION)
        return super().call_at(when, callback, *args, context=context)

    def first(self, handles: list[asyncio.Handle]) -> None:
        self._ready.extendleft(reversed(handles))

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready:
            if not scheduled:
                raise Deadlock("nothing is ready and no timer is set")
            if scheduled[0].when() > self._now:
                self._now = scheduled[0].when()
                self._at_once = 0
        while scheduled and scheduled[0].when() <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer.cancelled():
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is not None and process.paused:
                process.park(handle)
                continue
            handle._run()
            self._at_once += 1
            self.steps += 1
        if self._at_once > MOST_AT_ONCE:
            raise Livelock(f"{self._at_once} steps at {self._now:.3f} s")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are left out when their time comes."""

    def _write_to_self(self) -> None:
        """There is no other thread."""

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Any, *args: Any
    ) -> None:
        """Nobody sends signals in simulated time."""


def _owned_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: Context | None = None
) -> asyncio.Task[T]:
    task = asyncio.Task(work, loop=loop, context=context)
    process = (context or copy_context()).get(_PROCESS)
    if process is not None:
        process.adopt(task)
    return task


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in a loop of simulated time."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
