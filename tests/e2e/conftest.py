"""One real node for the tests of the champion path: MLflow and the operator as pods in it.

The operator runs from the Dockerfile's image, with the permissions of manifests/.
"""

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.stage import RealStage
from testbed import cluster as clusters
from testbed.plan import Size
from tests.e2e.scene import Scene

CLUSTER = "champion-e2e"


@pytest.fixture(scope="module")
def stage() -> Iterator[RealStage]:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("a real node needs root on Linux")
    owner = Path("/run/podium-testbed/node-owner")
    if owner.exists() and Path(owner.read_text()).name != CLUSTER:
        pytest.skip(f"cluster {Path(owner.read_text()).name} holds this machine's real node")
    clusters.down(CLUSTER)
    try:
        made = RealStage(CLUSTER, Size.NODE)
        made.build()
        yield made
    finally:
        clusters.down(CLUSTER)


@pytest.fixture
def scene(stage: RealStage) -> Iterator[Scene]:
    """A model and a namespace of this test's own."""
    made = Scene(stage, f"iris-{secrets.token_hex(3)}")
    try:
        yield made
    finally:
        made.remove()
