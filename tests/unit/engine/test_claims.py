"""Two who claim an alias at once. MLflow knows no compare-and-set: the last write stands, and the
older claim must win all the same, before the younger has moved anything."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from podium.engine import ledger
from podium.engine.observation import Claim
from tests.unit.engine.world import World

OWNER = ledger.owner_tag_key("champion")
POLL = timedelta(seconds=1)
SPEC: dict[str, object] = {
    "model": "churn",
    "candidate": {"latest": {}},
    "targets": [{"name": "api", "deployment": {"name": "api", "container": "server"}}],
}


def world() -> World:
    w = World(dict(SPEC))
    w.register("1")
    return w


def claim_of_another(since: datetime) -> str:
    return ledger.encode_claim(Claim("other", "ns", "p", since))


def claimed(w: World) -> World:
    """Our claim is written."""
    for _ in range(10):
        if OWNER in w.model_tags:
            return w
        w.step()
    raise AssertionError(f"no claim: {w.log}")


def moved(w: World) -> bool:
    return bool(w.aliases) or w.status.ledger_seq > 0 or w.status.attempt is not None


def test_the_older_writes_its_claim_again_before_the_younger_believes_its_own() -> None:
    """Both had read that nobody claims, and the younger wrote last. Counted from `since`, as it
    was, both believed in the same moment; entry 1 of the ledger was written by both."""
    older = claimed(world())
    mine = older.model_tags[OWNER]
    younger = claim_of_another(older.now)
    older.model_tags[OWNER], stands_since = younger, older.now
    believed = stands_since + POLL  # at the earliest, by whoever saw it from the first moment
    while older.model_tags[OWNER] == younger:
        assert older.now < believed
        waits = older.step().requeue_after or timedelta(0)
        older.now += waits * 1.1  # jitter
    assert older.model_tags[OWNER] == mine
    assert not moved(older)


def test_who_wrote_again_waits_again() -> None:
    """The younger may be in the middle of a pass that believed."""
    w = claimed(world())
    w.steps(3)
    w.model_tags[OWNER] = claim_of_another(w.now + timedelta(seconds=5))
    w.now += 5 * POLL
    w.steps(3)
    assert json.loads(w.model_tags[OWNER])["cluster"] == "c1"
    assert w.status.claim is not None and not w.status.claim.confirmed
    assert not moved(w)
    w.run()
    assert w.aliases == {"champion": "1"}


@pytest.mark.parametrize("late", [timedelta(seconds=0.2), timedelta(minutes=2)])
def test_a_claim_is_believed_when_it_has_stood_for_more_than_a_poll(late: timedelta) -> None:
    """However long the network kept it."""
    w = claimed(world())
    mine = w.model_tags.pop(OWNER)
    w.now += late
    w.model_tags[OWNER], shown = mine, w.now
    while not (w.status.claim and w.status.claim.confirmed):
        assert not moved(w)
        waits = w.step().requeue_after or timedelta(0)
        w.now += max(waits, timedelta(milliseconds=10))
    assert shown + 1.1 * POLL < w.now < shown + 4 * POLL


def test_the_younger_stands_back_when_the_older_shows() -> None:
    w = claimed(world())
    w.steps(3)
    w.model_tags[OWNER] = claim_of_another(w.now - timedelta(hours=1))
    w.run()
    assert w.condition("Stalled") == ("True", "AliasClaimed")
    assert not moved(w)


def test_a_claim_is_believed_in_time_when_the_clock_was_set_back_meanwhile() -> None:
    w = claimed(world())
    w.step()
    w.now -= timedelta(hours=1)
    for _ in range(20):
        w.step()
        w.now += POLL / 4
    assert moved(w)


def test_who_takes_over_what_another_released_is_the_younger() -> None:
    w = world()
    theirs = Claim("other", "ns", "p", w.now - timedelta(days=300), released=True)
    w.model_tags[OWNER] = ledger.encode_claim(theirs)
    began = w.now
    w.run()
    claimed = ledger.parse_claim(w.model_tags[OWNER])
    assert claimed and (claimed.cluster, claimed.released) == ("c1", False)
    assert claimed.since >= began


@pytest.mark.parametrize("released", [False, True])
def test_a_claim_is_read_as_it_was_written(released: bool) -> None:
    elsewhere = timezone(timedelta(hours=2))
    claim = Claim("c", "ns", "p", datetime(2026, 1, 1, tzinfo=elsewhere), released=released)
    assert ledger.parse_claim(ledger.encode_claim(claim)) == claim
