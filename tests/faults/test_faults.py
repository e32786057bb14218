"""A few calls of some stories broken, and a few random schedules, on the real servers;
`make faults` breaks all of them (docs/testing.md)."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.faults import harness
from tests.faults.__main__ import play, servers
from tests.faults.harness import Outcome
from tests.faults.relay import Servers
from tests.faults.results import Case, Recording, Result, Word
from tests.faults.schedules import real as schedules
from tests.faults.schedules.schedule import OnCall, draw
from tests.faults.stories import STORIES

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(600)]
NAMES = ("second-champion-alias", "rolled-back-in-verifying", "deleted-in-mid-attempt")
CASES = 3  # of each story
TRIES = 3  # how often status is written while pods start depends on how fast they are
AT_ONCE = 5  # they mostly wait
SEEDS = ("5", "39", "67", "70")


@pytest.fixture(scope="module")
def real() -> Iterator[Servers]:
    """A cluster of its own: on the others' an operator for all namespaces may run."""
    with servers() as made:
        yield made


async def test_what_must_hold_holds_though_a_call_breaks(real: Servers) -> None:
    recorded = await asyncio.gather(*(harness.run(real, STORIES[name]) for name in NAMES))
    cases = []
    for name, outcome in zip(NAMES, recorded, strict=True):
        assert not outcome.violations, f"{name}: {outcome.violations}\n{outcome.log}"
        recording = Recording(outcome.calls, outcome.staleable)
        cases += _drawn(name, recording.cases(name))
    turn = asyncio.Semaphore(AT_ONCE)

    async def in_turn(case: Case) -> tuple[Result, Outcome]:
        async with turn:
            for _ in range(TRIES):
                [(result, outcome)] = await play(real, [case])
                if result.came:
                    break
            return result, outcome

    played = await asyncio.gather(*(in_turn(case) for case in cases))
    for result, outcome in played:
        case = result.case
        said = f"{case.story}: {case.call}: {case.fault}: {result.word}: {outcome.violations}"
        assert result.word is Word.HELD, f"{said}\n{outcome.log}"


async def test_what_must_hold_holds_in_random_schedules_too(real: Servers) -> None:
    """A few; `make faults N=100 ARGS=--real` plays more."""
    played = await asyncio.gather(*(schedules.play(real, draw(seed)) for seed in SEEDS))
    for outcome in played:
        words = [*outcome.schedule.words(), *outcome.violations, *outcome.told]
        assert not outcome.violations, "\n".join(words)
    asked = sum(isinstance(one, OnCall) for each in played for one in each.schedule.injections)
    assert sum(len(outcome.fired) for outcome in played) > asked / 2


def _drawn(name: str, cases: list[Case]) -> list[Case]:
    """The same in each run, of writes that each run makes: how often status is written in one
    phase depends on how fast the pods are."""
    steady = [case for case in cases if case.call.writes and case.call.nth == 1]
    return random.Random(name).sample(steady, CASES)
