"""The work queue: which object is looked at next, and when.

Keyed: a key is never handled twice at once, and being added again while it waits or runs
costs nothing. Knows keys and times; what handling means is the reconciler's.
"""

import asyncio
import contextlib
import heapq
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
Clock = Callable[[], float]

BACKOFF_FIRST = 1.0  # seconds
BACKOFF_MOST = 60.0
JITTER = 0.1  # ratio


class Backoff(Generic[K]):
    """How long each key waits after its n-th failure in a row: 1 s, doubling, jittered."""

    def __init__(self, rng: random.Random) -> None:
        self._failures: dict[K, int] = {}
        self._rng = rng

    def failed(self, key: K, most: float = BACKOFF_MOST) -> float:
        """Seconds to wait before the next try."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest = min(most, BACKOFF_FIRST * 2.0 ** min(failures, 16))
        return jittered(longest, self._rng)

    def succeeded(self, key: K) -> None:
        self._failures.pop(key, None)


def jittered(seconds: float, rng: random.Random) -> float:
    """Ten percent more or less, so that many keys do not come back at once."""
    return seconds * rng.uniform(1 - JITTER, 1 + JITTER)


@dataclass(frozen=True)
class QueueStats:
    """`waiting` keys are due and have no worker. In seconds: `oldest`, how long the first of them
    has waited; `stuck`, for how long none was handed out though one waits."""

    waiting: int
    scheduled: int
    running: int
    oldest: float
    stuck: float
    longest_run: float


class KeyedQueue(Generic[K]):
    """Hands out each due key to one of `workers` at a time, in the order in which they fell due.

    The number of keys is bounded by the number of objects: each is there at most once.
    """

    def __init__(
        self,
        workers: int,
        clock: Clock = time.monotonic,
        waited: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """`waited` is told for how long each key was due before a worker took it."""
        self._workers = workers
        self._clock = clock
        self._waited = waited
        self._due: dict[K, float] = {}  # keys that wait, with the time from when they may run
        self._heap: list[tuple[float, int, K]] = []  # the same, with entries that no longer hold
        self._sequence = 0
        self._running: dict[K, float] = {}
        self._again: dict[K, float] = {}  # keys that were added while they ran
        self._wake = asyncio.Event()
        self._paused = True
        self._resumed_at = 0.0
        self._handed_out_at = 0.0
        self._stopping = False

    def add(self, key: K, delay: float = 0.0) -> None:
        """Have the key handled after `delay` seconds; an earlier time already set stays."""
        due = self._clock() + max(0.0, delay)
        if key in self._running:
            self._again[key] = min(due, self._again.get(key, due))
            return
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        self._wake.set()

    def drop(self, key: K) -> None:
        """Forget a key that waits."""
        self._due.pop(key, None)
        self._again.pop(key, None)

    def pause(self) -> None:
        """Hand out nothing more; what runs goes on."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._resumed_at = self._clock()
        self._wake.set()

    def stop(self) -> None:
        """Hand out nothing more; `run` returns when what runs has ended."""
        self._stopping = True
        self._wake.set()

    @property
    def halted(self) -> bool:
        """Whether nothing is handed out: what runs should end soon."""
        return self._paused or self._stopping

    def stats(self) -> QueueStats:
        now = self._clock()
        # /metrics asks from another thread, and a copy is made without a break.
        due = [at for at in self._due.copy().values() if at <= now]
        # What fell due in a pause has waited since its end only: no worker could take it.
        waits = bool(due) and not self._paused
        since = max(min(due), self._resumed_at) if waits else now
        return QueueStats(
            waiting=len(due),
            scheduled=len(self._due) - len(due),
            running=len(self._running),
            oldest=now - since,
            stuck=now - max(since, self._handed_out_at) if waits else 0.0,
            longest_run=now - min([now, *self._running.copy().values()]),
        )

    async def run(self, handle: Callable[[K], Awaitable[float | None]]) -> None:
        """Work until `stop`. `handle` gives the seconds until its key is due again, or None.

        An exception from `handle` ends this: it is the handler's work to let none out.
        """
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping:
                key = self._next()
                if key is None:
                    await self._sleep()
                    continue
                self._running[key] = self._clock()
                tasks.create_task(self._handle(key, handle))

    def _next(self) -> K | None:
        if self._paused or len(self._running) >= self._workers:
            return None
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._handed_out_at = now
                self._waited(now - max(due, self._resumed_at))
                return key
        return None

    async def _sleep(self) -> None:
        self._wake.clear()
        timeout = None
        if self._heap and not self._paused and len(self._running) < self._workers:
            timeout = max(0.0, self._heap[0][0] - self._clock())
        # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the wake-up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    async def _handle(self, key: K, handle: Callable[[K], Awaitable[float | None]]) -> None:
        delay: float | None = None
        try:
            delay = await handle(key)
        finally:
            del self._running[key]
            again = self._again.pop(key, None)
            if delay is not None:
                self.add(key, delay)
            if again is not None:
                self.add(key, again - self._clock())
            self._wake.set()
