"""A few calls of some stories broken; `make faults` breaks them all (docs/testing.md)."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.faults import harness
from tests.faults.__main__ import play, servers
from tests.faults.proxy import Servers
from tests.faults.results import Case, Recording, Word
from tests.faults.stories import STORIES

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(600)]
NAMES = ("second-champion-alias", "rolled-back-in-verifying", "deleted-in-mid-attempt")
CASES = 3  # of each story


@pytest.fixture(scope="module")
def real() -> Iterator[Servers]:
    """A cluster of its own: on the others' an operator for all namespaces may run."""
    with servers() as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
async def test_what_must_hold_holds_though_a_call_breaks(real: Servers, name: str) -> None:
    recorded = await harness.run(real, STORIES[name])
    assert not recorded.violations, f"without any fault: {recorded.violations}\n{recorded.log}"
    cases = _drawn(name, Recording(recorded.calls, recorded.staleable).cases(name))
    outcomes = await asyncio.gather(*(play(real, case) for case in cases))
    for case, (result, outcome) in zip(cases, outcomes, strict=True):
        said = f"{case.call}: {case.fault}: {result.word}\n{outcome.violations}\n{outcome.log}"
        assert result.word is Word.HELD, said


def _drawn(name: str, cases: list[Case]) -> list[Case]:
    """The same in each run, of writes that each run makes: how often status is written in one
    phase depends on how fast the pods are."""
    steady = [case for case in cases if case.call.writes and case.call.nth == 1]
    return random.Random(name).sample(steady, CASES)
