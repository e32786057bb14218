"""The work queue: what it promises about order, repetition and delays."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from podium.runtime.queue import Backoff, KeyedQueue


async def run_until_idle(
    queue: KeyedQueue[str], handle: Callable[[str], Awaitable[float | None]], seconds: float = 0.2
) -> None:
    queue.resume()
    working = asyncio.create_task(queue.run(handle))
    await asyncio.sleep(seconds)
    for _ in range(500):
        if not queue.stats().waiting:
            break
        await asyncio.sleep(0.01)  # a slow machine
    queue.stop()
    await working


async def test_a_key_added_many_times_is_handled_once() -> None:
    queue: KeyedQueue[str] = KeyedQueue(workers=4)
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    for _ in range(100):
        queue.add("a")
    await run_until_idle(queue, handle)
    assert handled == ["a"]


async def test_a_key_never_runs_twice_at_once_and_none_is_lost() -> None:
    queue: KeyedQueue[str] = KeyedQueue(workers=8)
    running: set[str] = set()
    handled: list[str] = []

    async def handle(key: str) -> None:
        assert key not in running
        running.add(key)
        queue.add(key) if len(handled) < 20 else None
        await asyncio.sleep(0.001)
        running.discard(key)
        handled.append(key)

    queue.add("a")
    queue.add("b")
    await run_until_idle(queue, handle)
    assert {"a", "b"} == set(handled)
    assert len(handled) >= 20


async def test_the_earlier_time_wins() -> None:
    queue: KeyedQueue[str] = KeyedQueue(workers=1)
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    queue.add("late", 60)
    queue.add("late", 0.01)
    queue.add("late", 60)
    await run_until_idle(queue, handle)
    assert handled == ["late"]


async def test_fair_order_and_bounded_workers() -> None:
    queue: KeyedQueue[str] = KeyedQueue(workers=2)
    handled: list[str] = []
    at_once = most = 0

    async def handle(key: str) -> float | None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        handled.append(key)
        await asyncio.sleep(0.001)
        at_once -= 1
        return 0.0 if key == "greedy" and len(handled) < 50 else None

    for key in ("greedy", "b", "c", "d"):
        queue.add(key)
    await run_until_idle(queue, handle)
    assert most == 2
    assert max(handled.index(key) for key in "bcd") <= 5


async def test_paused_hands_out_nothing() -> None:
    queue: KeyedQueue[str] = KeyedQueue(workers=2)
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    working = asyncio.create_task(queue.run(handle))
    queue.add("a")
    await asyncio.sleep(0.02)
    assert (handled, queue.stats().waiting) == ([], 1)
    queue.resume()
    await asyncio.sleep(0.02)
    queue.pause()
    queue.add("b")
    await asyncio.sleep(0.02)
    assert handled == ["a"]
    queue.stop()
    await working


async def test_stop_waits_for_what_runs() -> None:
    queue: KeyedQueue[str] = KeyedQueue(workers=1)
    ended: list[str] = []

    async def handle(key: str) -> None:
        await asyncio.sleep(0.05)
        ended.append(key)

    queue.add("a")
    queue.add("b")
    queue.resume()
    working = asyncio.create_task(queue.run(handle))
    await asyncio.sleep(0.02)
    queue.stop()
    await working
    assert ended == ["a"]


async def test_a_requeue_of_the_handler_and_a_hint_while_it_ran_both_count() -> None:
    queue: KeyedQueue[str] = KeyedQueue(workers=1)
    handled: list[str] = []

    async def handle(key: str) -> float | None:
        handled.append(key)
        if len(handled) == 1:
            queue.add(key, 0.01)
            return 60.0
        return None

    queue.add("a")
    await run_until_idle(queue, handle)
    assert handled == ["a", "a"]


def test_backoff_doubles_to_a_minute_and_forgets() -> None:
    backoff: Backoff[str] = Backoff(random.Random(1))
    waits = [backoff.failed("a") for _ in range(10)]
    for wait, plain in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert wait == pytest.approx(plain, rel=0.11)
    backoff.succeeded("a")
    assert backoff.failed("a") < 1.2


async def test_how_long_a_key_waited_for_a_worker_is_told() -> None:
    took = 0.3  # so long that a machine with much else to do does not matter
    told: list[float] = []
    queue: KeyedQueue[str] = KeyedQueue(workers=1, waited=told.append)

    async def handle(key: str) -> None:
        await asyncio.sleep(took)

    queue.add("a")
    queue.add("b")
    queue.add("later", delay=3 * took)
    await run_until_idle(queue, handle, 5 * took)
    first, second, delayed = told
    assert first < took
    assert 0.9 * took <= second < 2 * took
    assert delayed < took, "a delay that was asked for is no wait"
