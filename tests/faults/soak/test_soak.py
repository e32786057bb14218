"""A soak of one minute; `make soak` takes half an hour (docs/testing.md)."""

from pathlib import Path

import pytest

from tests.faults.soak.__main__ import show, town
from tests.faults.soak.soak import Soak

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(600)]
SECONDS = 60.0


def test_a_minute_of_churn_and_restarts_ends_well(tmp_path: Path) -> None:
    """Memory is not judged: a minute says nothing about it."""
    with town(count=6, name="soak-minute", folder=tmp_path) as made:
        report = Soak(made, SECONDS, seed=1, pace=0.7).run()
        log = made.operator.log.read_text(errors="replace").splitlines()[-60:]
    show(report)
    assert not report.violations, "\n".join([*report.violations, *log])
    restarts = {name.split()[0] for name in report.outages}
    assert restarts >= {"operator", "MLflow", "API"}, report.outages
    assert report.looks >= 5
    assert report.promoted >= 6
    assert report.last_process
