"""What every kind of test shares: one real API server with Podium's CRDs, a namespace per test.

Environment:
PODIUM_TEST_USE_KUBECONFIG=1  use the cluster of KUBECONFIG instead of the test bed's
PODIUM_TEST_CLUSTER=name      name of the test bed's cluster, `pytest` unless told otherwise; each
                              worker of pytest-xdist has its own
PODIUM_TEST_KEEP=1            leave that cluster up at the end
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from testbed import cluster as testbed_cluster
from testbed.errors import TestbedError
from testbed.layout import cache_root
from tests.kubectl import Kubectl

ROOT = Path(__file__).parent.parent
RUN = "PODIUM_TEST_RUN"


def pytest_configure() -> None:
    os.environ.setdefault(RUN, secrets.token_hex(8))  # every process of this run inherits it


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends what a worker left that was interrupted or killed, so that it ran no fixture's end.

    Not the components of clusters: those that stay up are told apart by `testbed down`.
    """
    if hasattr(config, "workerinput"):
        return
    clusters = str(cache_root() / "clusters")
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(RUN) == os.environ[RUN] and process.pid != os.getpid()
            if ours and clusters not in " ".join(process.cmdline()):
                process.terminate()
                left.append(process)
    for process in psutil.wait_procs(left, timeout=10)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


class _ByFile(LoadScopeScheduling):
    """One worker takes a whole file, for its fixtures are dear, and one takes all of tests/e2e,
    for a machine has one real node. (Marks for this, xdist_group, are not seen with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "tests/e2e" if path.startswith("tests/e2e/") else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _ByFile(config, log)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds Kubernetes before the first test: what takes minutes once is no test's time limit."""
    if session.config.option.collectonly or os.environ.get("PODIUM_TEST_USE_KUBECONFIG") == "1":
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        for marker, size in (("cluster", "control"), ("node", "node")):
            if any(item.get_closest_marker(marker) for item in session.items):
                testbed_cluster.provide_programs(size)


@pytest.fixture(scope="session")
def control_cluster() -> Iterator[Kubectl]:
    """kubectl for a real API server with the CRDs. What was up before the tests stays up."""
    if os.environ.get("PODIUM_TEST_USE_KUBECONFIG") == "1":
        yield with_crds(_kubectl_of_environment())
        return
    name = os.environ.get("PODIUM_TEST_CLUSTER", "pytest")
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        name = f"{name}-{worker}"
    keep = os.environ.get("PODIUM_TEST_KEEP") == "1" or is_up(name)
    cluster = testbed_cluster.up(name=name, size="control")
    try:
        yield with_crds(Kubectl(cluster.programs["kubectl"], cluster.kubeconfig))
    finally:
        if not keep:
            testbed_cluster.down(name)


@pytest.fixture
def bed(control_cluster: Kubectl) -> testbed_cluster.Cluster:
    """The test bed's cluster, whose API server may be killed."""
    try:
        return testbed_cluster.find(control_cluster.kubeconfig.parent.name)
    except TestbedError:
        pytest.skip("a cluster that is not the test bed's is not ours to restart")


@pytest.fixture
def namespace(control_cluster: Kubectl) -> Iterator[str]:
    """A namespace of this test's own."""
    name = f"test-{secrets.token_hex(4)}"
    control_cluster("create", "namespace", name)
    yield name
    control_cluster("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def kubectl(control_cluster: Kubectl, namespace: str) -> Kubectl:
    """kubectl as administrator in this test's own namespace."""
    return Kubectl(control_cluster.program, control_cluster.kubeconfig, namespace)


def _kubectl_of_environment() -> Kubectl:
    program, kubeconfig = shutil.which("kubectl"), os.environ.get("KUBECONFIG")
    if not (program and kubeconfig):
        pytest.fail("PODIUM_TEST_USE_KUBECONFIG=1 needs kubectl on PATH and KUBECONFIG set")
    return Kubectl(Path(program), Path(kubeconfig))


def is_up(name: str) -> bool:
    try:
        components = testbed_cluster.find(name).health()
    except TestbedError:
        return False
    return all(each.healthy for each in components)


def with_crds(kubectl: Kubectl) -> Kubectl:
    # --server-side: the client-side annotation would hold the whole schema a second time.
    flags = ("--server-side", "--force-conflicts", "--output=name")
    applied = kubectl("apply", *flags, "-k", str(ROOT / "crds")).split()
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *applied)
    return kubectl
