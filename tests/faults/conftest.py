"""A cluster that nothing but these tests uses: on the others' an operator for all namespaces may
run, and this one's API server may be killed, set back and robbed of the CRDs."""

import os
from collections.abc import Iterator

import pytest

from testbed import cluster as testbed_cluster
from testbed.cluster import Cluster
from testbed.mlflow import MlflowServer
from tests.conftest import is_up, with_crds
from tests.kubectl import Kubectl


def _apart(suffix: str) -> Iterator[Cluster]:
    """What was up before the tests stays up."""
    if os.environ.get("PODIUM_TEST_USE_KUBECONFIG") == "1":
        pytest.skip("a cluster that is not the test bed's is not ours to break")
    parts = [os.environ.get("PODIUM_TEST_CLUSTER", "pytest"), suffix]
    parts += filter(None, [os.environ.get("PYTEST_XDIST_WORKER")])
    name = "-".join(parts)
    keep = is_up(name)
    cluster = testbed_cluster.up(name=name, size="control")
    with_crds(Kubectl(cluster.programs["kubectl"], cluster.kubeconfig))
    yield cluster
    if not keep:
        cluster.down()


@pytest.fixture(scope="session")
def apart() -> Iterator[Cluster]:
    yield from _apart("apart")


@pytest.fixture(scope="session")
def second_cluster() -> Iterator[Cluster]:
    yield from _apart("second")


@pytest.fixture(scope="session")
def registry_server() -> Iterator[MlflowServer]:
    with MlflowServer() as server:
        yield server
