"""When the process is ready, and when kubelet is to restart it, by a clock in hand."""

import asyncio
from dataclasses import dataclass, field

from podium.runtime.health import Health
from podium.runtime.queue import KeyedQueue

WATCHED = ["/apis/podium.dev/v1alpha1/modelpromotions", "/apis/apps/v1/deployments"]


@dataclass
class World:
    """A Health with its clock, its queue, and an API server that answers about the Lease."""

    seconds: float = 1000.0
    heard_at: float | None = None
    queue: KeyedQueue[str] = field(init=False)
    health: Health = field(init=False)

    def __post_init__(self) -> None:
        self.queue = KeyedQueue(workers=1, clock=lambda: self.seconds)
        self.health = Health(self.queue.stats, WATCHED, self.heard_ago, lambda: self.seconds)

    def heard_ago(self) -> float | None:
        return None if self.heard_at is None else self.seconds - self.heard_at

    def up(self) -> None:
        self.health.synced = True
        self.heard_at = self.seconds
        for path in WATCHED:
            self.health.opened(path)

    def pass_time(self, seconds: float, *, watches: bool = True, api: bool = True) -> None:
        """In steps, with the watches opened again every five minutes and the Lease renewed."""
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds += 2.0
            if api:
                self.heard_at = self.seconds
            if watches and self.seconds % 300 < 2:
                for path in WATCHED:
                    self.health.opened(path)


def test_ready_are_full_caches_open_watches_and_a_lease_that_could_be_read() -> None:
    world = World()
    health = world.health
    assert "not open yet: /apis/apps/v1/deployments, /apis/podium" in (health.not_ready() or "")
    health.opened(WATCHED[0])
    assert health.not_ready() == f"watches are not open yet: {WATCHED[1]}"
    health.opened("/apis/apps/v1/namespaces/a/deployments")
    assert health.not_ready() is not None, "the watch of one namespace is not that of all"
    assert not health.all_opened
    health.opened(f"/behind/a/proxy{WATCHED[1]}")
    assert health.all_opened and "LIST" in (health.not_ready() or "")
    health.synced = True
    assert "Lease" in (health.not_ready() or "")
    world.heard_at = world.seconds
    assert health.not_ready() is None


def test_a_quiet_cluster_is_alive_and_ready() -> None:
    world = World()
    world.up()
    world.queue.resume()
    world.pass_time(24 * 3600)
    assert (world.health.not_alive(), world.health.not_ready()) == (None, None)


def test_a_watch_that_is_not_opened_again_is_dead() -> None:
    world = World()
    world.up()
    world.pass_time(700, watches=False)
    assert world.health.not_alive() is None
    world.health.opened(WATCHED[0])
    world.pass_time(100, watches=False)
    assert world.health.not_alive() == f"watches are dead: {WATCHED[1]}"


def test_watches_that_miss_what_lists_find_are_dead() -> None:
    world = World()
    world.up()
    world.health.stale_watches = frozenset({"modelpromotions"})
    assert world.health.not_alive() == "watches are dead: modelpromotions"


def test_without_the_api_server_a_restart_mends_nothing() -> None:
    world = World()
    world.up()
    for outage in (60, 3600):
        world.pass_time(outage, watches=False, api=False)
        assert world.health.not_alive() is None
        world.pass_time(10)
        for path in WATCHED:
            world.health.opened(path)
        assert world.health.not_alive() is None


async def test_a_queue_that_hands_nothing_out_is_stuck() -> None:
    world = World()
    world.up()
    world.queue.resume()
    world.queue.add("a")
    world.pass_time(590)
    assert world.health.not_alive() is None
    world.pass_time(20)
    assert "none has been taken" in (world.health.not_alive() or "")


async def test_a_pass_that_never_ends_is_stuck() -> None:
    world = World()
    world.up()
    world.queue.resume()
    world.queue.add("a")
    ended = asyncio.Event()

    async def handle(_: str) -> None:
        await ended.wait()

    working = asyncio.create_task(world.queue.run(handle))
    await asyncio.sleep(0.01)
    world.pass_time(590)
    assert world.health.not_alive() is None
    world.pass_time(20)
    assert "a pass has been running for 6" in (world.health.not_alive() or "")
    ended.set()
    await asyncio.sleep(0.01)
    assert world.health.not_alive() is None
    world.queue.stop()
    await working


async def test_many_keys_that_move_on_slowly_are_not_stuck() -> None:
    world = World()
    world.up()
    world.queue.resume()
    for number in range(5):
        world.queue.add(str(number))

    async def handle(_: str) -> None:
        world.pass_time(300)

    working = asyncio.create_task(world.queue.run(handle))
    troubles = []
    while world.queue.stats().waiting:
        await asyncio.sleep(0)
        troubles.append(world.health.not_alive())
    assert set(troubles) == {None}
    assert world.seconds >= 1000 + 1200
    world.queue.stop()
    await working


def test_keys_that_waited_for_the_lease_are_not_stuck_when_it_comes() -> None:
    """A replica that stood by for an hour must not be killed in the moment in which it leads."""
    world = World()
    world.up()
    world.queue.add("a")
    world.pass_time(3600)
    assert world.health.not_alive() is None
    world.queue.resume()
    world.pass_time(10)
    assert world.health.not_alive() is None
    assert world.queue.stats().oldest == 10
