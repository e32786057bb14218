"""Who leads, and for how long that is sure: against a Lease with the API server's rules."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from podium.cluster import LeaderElection, LeaseRecord, NotLeader, WentBackError, new_identity
from tests.unit.cluster.leases import FakeLeaseStore, HandClock, Shelf, settle


class Replicas:
    """Elections over one shelf, each with its own clock unless told otherwise."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.shelf = Shelf()
        self.lost: list[str] = []
        self.stores: dict[str, FakeLeaseStore] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def stand(
        self, name: str, clock: HandClock | None = None, able: Callable[[], bool] = lambda: True
    ) -> LeaderElection:
        clock = clock or self.clock
        self.stores[name] = FakeLeaseStore(self.shelf)
        election = LeaderElection(
            self.stores[name],
            identity=name,
            able=able,
            on_lost=lambda: self.lost.append(name),
            clock=clock,
        )
        self.tasks[name] = asyncio.create_task(election.run())
        return election

    async def kill(self, name: str) -> None:
        """As kill -9 does: nothing is released."""
        self.tasks[name].cancel()
        with suppress(asyncio.CancelledError, WentBackError):
            await self.tasks[name]


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    made = Replicas()
    yield made
    for name in made.tasks:
        await made.kill(name)


async def test_the_first_leads_and_keeps_leading(replicas: Replicas) -> None:
    first = replicas.stand("a")
    await settle()
    assert first.is_leader
    second = replicas.stand("b")
    await replicas.clock.advance(120)
    assert first.is_leader
    assert not second.is_leader
    assert set(replicas.shelf.writes) == {"a"}
    assert 55 <= len(replicas.shelf.writes) <= 62  # one every 2 s
    assert replicas.lost == []


async def test_who_cannot_do_the_work_yet_takes_no_lease_and_sees_how_old_it_is(
    replicas: Replicas,
) -> None:
    """A process that was killed is followed by one that fills its cache while the Lease ends."""
    filled: list[bool] = []
    replicas.stand("a")
    await settle()
    second = replicas.stand("b", able=lambda: bool(filled))
    await settle()
    await replicas.kill("a")
    await replicas.clock.advance(11)
    assert second.heard_ago() is not None
    await replicas.clock.advance(9)
    assert not second.is_leader and set(replicas.shelf.writes) == {"a"}
    filled.append(True)
    await replicas.clock.advance(1)
    assert second.is_leader
    filled.clear()
    await replicas.clock.advance(30)
    assert second.is_leader, "what it leads it keeps"


async def test_a_killed_leader_is_followed_within_15_seconds(replicas: Replicas) -> None:
    replicas.stand("a")
    await settle()
    second = replicas.stand("b")
    await replicas.clock.advance(31)
    await replicas.kill("a")
    await replicas.clock.advance(9.9)
    assert not second.is_leader  # the Lease may still be the first one's
    await replicas.clock.advance(5.1)
    assert second.is_leader
    assert replicas.shelf.record is not None
    assert replicas.shelf.record.transitions == 1


async def test_never_two_at_once(replicas: Replicas) -> None:
    first = replicas.stand("a")
    await settle()
    second = replicas.stand("b")
    third = replicas.stand("c")
    await replicas.clock.advance(10)
    replicas.stores["a"].down = True
    leaders = set()
    for _ in range(300):
        await replicas.clock.advance(0.1)
        now = [one.identity for one in (first, second, third) if one.is_leader]
        assert len(now) <= 1
        leaders.update(now)
    assert "a" in leaders
    assert len(leaders) == 2
    assert replicas.lost == ["a"]


async def test_a_stopped_leader_gives_the_lease_away(replicas: Replicas) -> None:
    first = replicas.stand("a")
    await settle()
    second = replicas.stand("b")
    await replicas.clock.advance(5)
    await first.stop()
    assert not first.is_leader
    assert replicas.shelf.record is not None
    assert replicas.shelf.record.holder == ""
    await replicas.clock.advance(2.1)
    assert second.is_leader


async def test_a_paused_leader_knows_at_once(replicas: Replicas) -> None:
    paused = HandClock()
    first = replicas.stand("a", paused)
    await settle()
    second = replicas.stand("b")
    await replicas.clock.advance(16)
    assert second.is_leader
    paused.seconds += 16  # it wakes; nothing of it has run yet
    assert first.valid_for() <= 0
    assert not first.is_leader
    with pytest.raises(NotLeader):
        first.fence(0.1)
    await paused.advance(0)
    assert replicas.lost == ["a"]
    assert not first.is_leader
    assert replicas.shelf.record is not None
    assert replicas.shelf.record.holder == "b"


async def test_a_lease_that_ran_out_while_it_was_got_is_told_of_when_it_is_renewed(
    replicas: Replicas,
) -> None:
    """Found by a random schedule: stopped in the midst of it, it led for ever and did nothing."""
    paused = HandClock()
    first = replicas.stand("a", paused)

    def asleep() -> None:
        paused.seconds += 20

    replicas.stores["a"].before_write = asleep
    told = asyncio.create_task(first.wait_for_leadership())
    await settle()
    assert not first.is_leader
    replicas.stores["a"].before_write = lambda: None
    await paused.advance(2.1)
    assert first.is_leader
    assert told.done()
    assert replicas.lost == []


async def test_who_waits_for_a_lease_that_ran_out_unnoticed_is_told_when_it_is_renewed(
    replicas: Replicas,
) -> None:
    """Found by a random schedule: stopped while it read its key, it led on and did nothing."""
    paused = HandClock()
    first = replicas.stand("a", paused)
    await settle()
    paused.seconds += 13
    told = asyncio.create_task(first.wait_for_leadership())
    await settle()
    assert not told.done()
    await paused.advance(2.1)
    assert first.is_leader
    assert told.done()


async def test_the_lease_counts_from_before_the_renewal_was_sent(replicas: Replicas) -> None:
    first = replicas.stand("a")
    store = replicas.stores["a"]

    def slow() -> None:
        replicas.clock.seconds += 2.5

    store.before_write = slow
    await settle()
    assert first.valid_for() == pytest.approx(12 - 2.5)


async def test_the_fence_wants_the_lease_to_outlast_the_write(replicas: Replicas) -> None:
    first = replicas.stand("a")
    with pytest.raises(NotLeader):
        first.fence(0.0 + 1)
    await settle()
    first.fence(5)
    replicas.stores["a"].down = True
    replicas.clock.seconds += 8
    assert first.is_leader
    with pytest.raises(NotLeader, match=r"4\.0 s"):
        first.fence(5)


async def test_an_unanswered_renewal_counts_for_nothing(replicas: Replicas) -> None:
    first = replicas.stand("a")
    await settle()
    replicas.stores["a"].deaf = True
    await replicas.clock.advance(11.9)
    assert first.is_leader
    await replicas.clock.advance(0.2)
    assert not first.is_leader
    replicas.stores["a"].deaf = False
    await replicas.clock.advance(2.1)
    assert first.is_leader  # its own record is still there, and is renewed


async def test_two_that_take_an_expired_lease_at_once(replicas: Replicas) -> None:
    replicas.stand("a")
    await settle()
    second, third = replicas.stand("b"), replicas.stand("c")
    await replicas.clock.advance(1)
    await replicas.kill("a")
    await replicas.clock.advance(20)
    assert [second.is_leader, third.is_leader].count(True) == 1


async def test_a_deleted_lease_is_made_again(replicas: Replicas) -> None:
    first = replicas.stand("a")
    await settle()
    replicas.shelf.record = None
    await replicas.clock.advance(6)
    assert first.is_leader
    assert replicas.shelf.record is not None


async def test_one_whose_lease_was_taken_stops_leading(replicas: Replicas) -> None:
    first = replicas.stand("a")
    await settle()
    replicas.shelf.put(LeaseRecord("intruder", 12, "later"))
    await replicas.clock.advance(2.1)
    assert not first.is_leader
    assert replicas.lost == ["a"]


async def test_waiting_ends_with_leadership(replicas: Replicas) -> None:
    replicas.stand("a")
    await settle()
    second = replicas.stand("b")
    waiting = asyncio.create_task(second.wait_for_leadership())
    await replicas.clock.advance(10)
    assert not waiting.done()
    await replicas.kill("a")
    await replicas.clock.advance(15)
    assert waiting.done()


def test_identities_differ() -> None:
    assert new_identity("podium-0") != new_identity("podium-0")


@pytest.mark.parametrize("started", [0.1, 0.5, 0.9, 1.3, 1.7])
@pytest.mark.parametrize("killed", [0.01, 0.6, 1.1, 1.9])
async def test_whenever_a_leader_dies_another_leads_within_13_seconds(
    replicas: Replicas, started: float, killed: float
) -> None:
    """The Lease's 12 s, and at most one for the last renewal to be seen; 2 leave little of the
    target of 15 for the work to begin."""
    replicas.stand("a")
    await replicas.clock.advance(started)
    second = replicas.stand("b")
    await replicas.clock.advance(20 - started + killed)
    await replicas.kill("a")
    waited = 0.0
    while not second.is_leader:
        await replicas.clock.advance(0.1)
        waited += 0.1
    assert 9.9 < waited < 13.2


async def test_an_api_server_that_knows_less_than_before_ends_each_replica(
    replicas: Replicas,
) -> None:
    """etcd restored from a backup in which `b` led: it must not go on where it was."""
    first, second = replicas.stand("a"), replicas.stand("b")
    await replicas.clock.advance(60)
    assert first.is_leader
    old = LeaseRecord("b", 12, "then", version="3")
    replicas.shelf.record, replicas.shelf.version = old, 3
    await replicas.clock.advance(3)
    for election, name in ((first, "a"), (second, "b")):
        assert not election.is_leader
        assert replicas.tasks[name].done()
        assert isinstance(replicas.tasks[name].exception(), WentBackError)
    assert replicas.shelf.record == old, "nobody wrote"


async def test_a_lease_that_is_made_anew_is_no_step_back(replicas: Replicas) -> None:
    first = replicas.stand("a")
    await replicas.clock.advance(10)
    replicas.shelf.record = None  # kubectl delete lease
    await replicas.clock.advance(10)
    assert first.is_leader


async def test_a_backup_without_the_lease_is_a_step_back(replicas: Replicas) -> None:
    replicas.stand("a")
    await replicas.clock.advance(60)
    replicas.shelf.record, replicas.shelf.version = None, 3
    await replicas.clock.advance(6)
    assert isinstance(replicas.tasks["a"].exception(), WentBackError)
