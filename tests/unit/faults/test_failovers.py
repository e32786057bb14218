"""What of a failover is wrong, and what is not."""

import random
from dataclasses import replace

import pytest

from tests.faults.failover import SERVES, TARGET_SECONDS, Failover, Kind, Plan, Result, plan
from tests.faults.failovers import tables, wrong

HEAD = "post registered-models/set-tag podium.dev/head: 200"
PLAN = Plan(Kind.PAUSED, "registered-models/alias", 1, delayed=True, overtaken=True, early=False)
FINE = Failover(
    PLAN,
    taken=11.0,
    read=11.2,
    late=["post registered-models/alias 2: 200"],
    harmed=True,
    found=1.2,
    repaired=30.0,  # pods take their time
)


@pytest.mark.parametrize(
    "fine",
    [
        FINE,
        replace(FINE, found=3.9),  # a poll, and a machine full of operators
        replace(FINE, harmed=False, found=None, repaired=None),
        replace(FINE, late=[HEAD], repaired=6.9),
    ],
)
def test_a_late_commit_that_is_found_within_a_poll_is_fine(fine: Failover) -> None:
    assert not wrong([Result([fine], writes=9, violations=[])])


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            replace(FINE, found=4.1),
            "I7: ['post registered-models/alias 2: 200'] was found after 4.1 s, not within 4.0 s",
        ),
        (
            replace(FINE, late=[HEAD], repaired=7.1),
            f"I7: ['{HEAD}'] was repaired after 7.1 s, not within 7.0 s",
        ),
        (replace(FINE, read=TARGET_SECONDS + 0.1), "took 15.1 s"),
        (replace(FINE, violations=["not repaired"]), "not repaired"),
    ],
)
def test_what_is_wrong_with_a_failover_is_said(bad: Failover, says: str) -> None:
    [said] = wrong([Result([FINE, bad], writes=9, violations=[])])
    assert says in said


def test_what_came_late_is_told_by_what_came_of_it() -> None:
    timed = replace(FINE, timed=True)
    fine = replace(timed, harmed=False, found=None, repaired=None)
    refused = replace(fine, late=["post registered-models/alias 2: 409"])
    worked = replace(fine, timed=False)
    _, late = tables([Result([timed, fine, fine, refused, worked, worked, worked], 9, [])])
    cells = {str(column.header): list(column.cells) for column in late.columns}
    assert cells == {
        "what": ["post registered-models/alias"],
        "n": ["7"],
        "refused": ["1"],
        "while the next worked": ["3"],
        "no harm": ["2"],
        "repaired": ["1"],
        "found max": ["1.2 s"],
        "repaired max": ["30.0 s"],
    }


@pytest.mark.parametrize("kind", Kind)
def test_what_serves_comes_late_after_one_more_version(kind: Kind) -> None:
    """Else it is what is wanted, and does no harm."""
    rng = random.Random(1)
    drawn = [plan(kind, rng) for _ in range(200)]
    serving = [each for each in drawn if each.what in SERVES]
    assert len(serving) > 20
    assert all(e.delayed and e.overtaken and not e.early and e.nth == 1 for e in serving)


def test_what_is_wrong_with_a_pair_is_said() -> None:
    assert wrong([Result([FINE], 9, ["b sent x"])]) == ["b sent x"]
