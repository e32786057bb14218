"""Some changed resources; `make mutations` plays hundreds (docs/testing.md)."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.mutated import cases
from tests.faults.mutated.__main__ import console, run, servers, table
from tests.faults.mutated.changes import MID_ATTEMPT

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(900)]
COUNT, SEED = 16, 1  # of the schemas, and half as many others


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[Path, str]]:
    """A cluster of its own: on the others' an operator for all namespaces may run."""
    with servers("mutated-ci", None) as made:
        yield made


def test_each_change_is_refused_with_a_sentence_or_converges(
    real: tuple[Path, str], tmp_path: Path
) -> None:
    kubeconfig, mlflow = real
    chosen = cases.chosen(COUNT, SEED)
    results = list(run(kubeconfig, mlflow, chosen, tmp_path))
    console.print(table(results))
    violated = [str(result) for result in results if result.violations]
    assert not violated, "\n\n".join(violated)
    assert len(results) == len(chosen) > COUNT
    # That the check looks where it should: few came too late, and each phase had its share.
    words = Counter(result.word for result in results)
    assert words["refused"] >= COUNT / 5
    assert words["missed"] <= 1
    held = Counter(result.case.moment for result in results if result.word == "held")
    assert sum(bool(held[moment]) for moment in MID_ATTEMPT) >= len(MID_ATTEMPT) - 1, held
