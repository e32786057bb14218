"""Makes a failing schedule short: leaves out what it fails without."""

from collections.abc import Callable
from dataclasses import replace

from tests.faults.schedules.schedule import OnCall, Schedule


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """A schedule that still fails and from which nothing can be left out. Tries the second replica
    too."""
    smaller = True
    while smaller:
        smaller = False
        for index in reversed(range(len(schedule.injections))):
            shorter = schedule.without(index)
            if fails(shorter):
                schedule, smaller = shorter, True
    if schedule.replicas == 2 and not _names(schedule, "b"):
        alone = replace(schedule, replicas=1)
        if fails(alone):
            return alone
    return schedule


def _names(schedule: Schedule, replica: str) -> bool:
    return any(
        getattr(one, "replica", None) == replica
        for one in schedule.injections
        if not isinstance(one, OnCall)
    )
