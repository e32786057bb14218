"""A few calls of some stories broken; `make faults` breaks them all (docs/testing.md)."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults import harness
from tests.faults.__main__ import points, servers
from tests.faults.proxy import Servers, faults_of
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
def test_what_must_hold_holds_though_a_call_breaks(real: Servers, name: str) -> None:
    story = STORIES[name]
    recorded = harness.run(real, story)
    assert not recorded.violations, f"without any fault: {recorded.violations}\n{recorded.log}"
    # How often status is written in one phase depends on how fast the pods are.
    writes = [call for call in points(recorded.calls) if call.writes and call.nth == 1]
    chosen = random.Random(name)
    cases = [(call, chosen.choice(faults_of(call))) for call in chosen.sample(writes, CASES)]
    with ThreadPoolExecutor(CASES) as pool:
        outcomes = pool.map(lambda case: harness.run(real, story, *case), cases)
        for (call, fault), outcome in zip(cases, outcomes, strict=True):
            assert outcome.fired, f"{call}: {fault}: did not fire; {outcome.violations}"
            assert not outcome.violations, f"{call}: {fault}\n{outcome.violations}\n{outcome.log}"
