"""The benchmark of many promotions, with few of them: it runs to its end and has figures to show.

Judges no speed: that is `make scale`'s, on a machine with nothing else to do.
"""

import os
from pathlib import Path

import pytest

from benchmarks import scale

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(600)]

PARTS = "first-start,at-rest,one-by-one,at-once,bare-writes"


def test_twenty_promotions_are_measured_and_nothing_is_written_at_rest(tmp_path: Path) -> None:
    name = f"{os.environ.get('PODIUM_TEST_CLUSTER', 'pytest')}-scale"
    small = [
        "20",
        "--rolling=0",
        "--namespaces=2",
        "--rest=5",
        "--changes=2",
        "--spread=2",
        "--poll=1",
    ]
    given = [*small, f"--parts={PARTS}", f"--name={name}", f"--folder={tmp_path}"]
    settings = scale.settings(given)
    report = scale.begun(settings)
    scale.run(settings, report)
    report.write(tmp_path / "figures.json")
    found = {(figure.part, figure.name): figure.value for figure in report.figures}
    assert found["at rest", "API writes but the Lease"] == 0
    assert found["at rest", "writes to MLflow"] == 0
    assert found["at once", "promotions"] == 20
    assert found["bare writes", "Podium's rate / bare rate"] > 0
    assert found["first start", "resident"] > 20
    assert all(value >= 0 for value in found.values())
