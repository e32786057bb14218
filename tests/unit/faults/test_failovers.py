"""What of a failover is wrong, and what is not."""

from dataclasses import replace

import pytest

from tests.faults.failover import TARGET_SECONDS, Failover, Kind, Plan, Result
from tests.faults.failovers import wrong

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
        (replace(FINE, read=TARGET_SECONDS + 0.1), "took 15.1 s"),
        (replace(FINE, violations=["not repaired"]), "not repaired"),
    ],
)
def test_what_is_wrong_with_a_failover_is_said(bad: Failover, says: str) -> None:
    [said] = wrong([Result([FINE, bad], writes=9, violations=[])])
    assert says in said


def test_what_is_wrong_with_a_pair_is_said() -> None:
    assert wrong([Result([FINE], 9, ["b sent x"])]) == ["b sent x"]
