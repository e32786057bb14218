"""The test bed itself: what it promises to every other test, and that it leaves no trace.

One real node fits on a machine: where another cluster holds it, these tests are skipped, so
run them before or after the other end-to-end tests.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from testbed import cluster as clusters
from testbed import images, machine, plan
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.images.base import NAME as PYTHON_IMAGE
from testbed.images.base import provide_base
from testbed.layout import ClusterDir

NODE_CLUSTER = "testbed-e2e"
CONTROL_CLUSTER = "testbed-control"

WEB: list[dict[str, object]] = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {
                            "name": "web",
                            "image": PYTHON_IMAGE,
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["python3", "-u", "-m", "http.server", "8000"],
                            "readinessProbe": {
                                "httpGet": {"path": "/", "port": 8000},
                                "periodSeconds": 1,
                            },
                        }
                    ],
                },
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
    },
]


def traces() -> dict[str, set[str]]:
    """Everything that `down` has to give back, by kind."""

    def lines(*argv: str) -> list[str]:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()

    roots = Path("/sys/fs/cgroup")
    return {
        "mounts": {x.split()[4] for x in Path("/proc/self/mountinfo").read_text().splitlines()},
        "links": {p.name for p in Path("/sys/class/net").iterdir()},
        "routes": set(lines("ip", "route")),
        "rules": {x for x in lines("iptables-save") if x.startswith("-") or " - [" in x},
        "rules 6": {x for x in lines("ip6tables-save") if x.startswith("-") or " - [" in x},
        "cgroups": {str(p) for p in [*roots.glob("podium*"), *roots.glob("*/podium*")]},
        "folders": {f for f in ("/run/podium-testbed", "/run/containerd") if Path(f).exists()},
        "settings": {f"{s}={machine._read_setting(s)}" for s in machine._SETTINGS},
    }


def eventually(check: Callable[[], bool], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            if check():
                return
        except (OSError, TestbedError):
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, f"{check.__name__} not so within {within} s"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def node() -> Iterator[Cluster]:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("a real node needs root on Linux")
    owner = Path("/run/podium-testbed/node-owner")
    if owner.exists() and Path(owner.read_text()).name != NODE_CLUSTER:
        pytest.skip(f"cluster {Path(owner.read_text()).name} holds this machine's real node")
    clusters.down(NODE_CLUSTER)
    cluster = clusters.up(NODE_CLUSTER, "node")
    try:
        images.load(cluster, provide_base())
        cluster.apply(*WEB)
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
        yield cluster
    finally:
        clusters.down(NODE_CLUSTER)


def answers_through_its_service(cluster: Cluster) -> bool:
    address = cluster.kubectl_json("get", "service", "web")["spec"]["clusterIP"]
    with urllib.request.urlopen(f"http://{address}/", timeout=3) as answer:
        return bool(answer.status == 200)


@pytest.mark.node
@pytest.mark.timeout(900)
class TestRealNode:
    def test_a_service_answers_on_the_host_and_by_name_in_a_pod(self, node: Cluster) -> None:
        eventually(lambda: answers_through_its_service(node))
        asked = "import urllib.request as u; print(u.urlopen('http://web.default.svc').status)"
        out = node.kubectl("exec", "deployment/web", "--", "python3", "-c", asked)
        assert out.strip() == "200"
        assert "GET /" in node.kubectl("logs", "-l", "app=web", "--tail=50")

    def test_a_pod_verifies_the_api_server_with_its_own_account(self, node: Cluster) -> None:
        asked = (
            "import ssl,urllib.request as u;p='/var/run/secrets/kubernetes.io/serviceaccount/';"
            "r=u.Request('https://kubernetes.default.svc/version',"
            "headers={'Authorization':'Bearer '+open(p+'token').read()});"
            "print(u.urlopen(r,context=ssl.create_default_context(cafile=p+'ca.crt')).status)"
        )
        out = node.kubectl("exec", "deployment/web", "--", "python3", "-c", asked)
        assert out.strip() == "200"

    def test_strangers_get_nothing_from_the_kubelet(self, node: Cluster) -> None:
        address = node.component("kubelet").address
        asked = (
            "import ssl,urllib.request as u,urllib.error as e\n"
            "unverified = ssl._create_unverified_context()\n"
            f"try: print(u.urlopen('https://{address}/pods', context=unverified))\n"
            "except e.HTTPError as x: print(x.code)"
        )
        out = node.kubectl("exec", "deployment/web", "--", "python3", "-c", asked)
        assert out.strip() == "401"

    def test_pods_cannot_leave_the_machine(self, node: Cluster) -> None:
        asked = (
            "import socket\n"
            "try: socket.create_connection(('198.51.100.1', 80), 3); print('left')\n"
            "except OSError as x: print('stayed', x)"
        )
        out = node.kubectl("exec", "deployment/web", "--", "python3", "-c", asked)
        assert out.startswith("stayed")
        assert "timed out" not in out  # refused here, not lost on the way

    def test_up_changes_nothing_when_all_is_well(self, node: Cluster) -> None:
        before = node.health()
        assert clusters.up(NODE_CLUSTER, "node").health() == before
        assert all(each.healthy for each in before)

    def test_up_repairs_killed_components_and_pods_go_on(self, node: Cluster) -> None:
        started = {
            pod["metadata"]["uid"]
            for pod in node.kubectl_json("get", "pods", "-l", "app=web")["items"]
        }
        for name in ("kubelet", "containerd", "kube-proxy", "etcd"):
            node.stop(name, grace=0)
        assert not all(each.healthy for each in node.health())
        repaired = clusters.up(NODE_CLUSTER, "node")
        assert all(each.healthy for each in repaired.health())
        pods = repaired.kubectl_json("get", "pods", "-l", "app=web")["items"]
        assert {pod["metadata"]["uid"] for pod in pods} == started
        eventually(lambda: answers_through_its_service(repaired))
        repaired.kubectl("exec", "deployment/web", "--", "true")

    def test_a_second_real_node_is_refused(self, node: Cluster) -> None:
        try:
            with pytest.raises(TestbedError, match=f"down --name {NODE_CLUSTER}"):
                clusters.up("testbed-second", "node")
        finally:
            clusters.down("testbed-second")


@pytest.mark.node
@pytest.mark.timeout(900)
def test_down_leaves_no_trace_whatever_was_killed_before(node: Cluster) -> None:
    clusters.down(NODE_CLUSTER)
    before = traces()
    cluster = clusters.up(NODE_CLUSTER, "node")
    cluster.apply(*WEB)
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    for name in ("kubelet", "containerd", "kube-apiserver"):
        cluster.stop(name, grace=0)
    (cluster.where.pids / "coredns.json").unlink()  # as if `up` was killed before it wrote it
    clusters.down(NODE_CLUSTER)
    after = traces()
    assert {kind: after[kind] - before[kind] for kind in after} == {kind: set() for kind in after}
    left = [p.cmdline() for p in psutil.process_iter() if _mentions(p, NODE_CLUSTER)]
    assert left == []
    assert not cluster.where.root.exists()


def _mentions(process: psutil.Process, name: str) -> bool:
    try:
        return any(f"/clusters/{name}" in word or f"/{name}/" in word for word in process.cmdline())
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def control() -> Iterator[Cluster]:
    yield clusters.up(CONTROL_CLUSTER, "control")
    clusters.down(CONTROL_CLUSTER)


def pod(name: str, fault: str, version: str = "") -> dict[str, object]:
    annotations = {"podium.dev/kwok-fault": fault, "podium.dev/model-version": version}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"containers": [{"name": "server", "image": "any"}]},
    }


def shown(cluster: Cluster, name: str) -> tuple[bool, int, str]:
    """Ready, restarts, and what keeps the container waiting."""
    status = cluster.kubectl_json("get", "pod", name)["status"]
    first = status["containerStatuses"][0]
    waiting = first["state"].get("waiting", {}).get("reason", "")
    return first["ready"], first["restartCount"], waiting


@pytest.mark.cluster
@pytest.mark.timeout(900)
class TestSimulatedNodes:
    def test_faults_show_and_can_be_switched_while_the_pod_runs(self, control: Cluster) -> None:
        control.apply(pod("p", ""))
        control.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")

        def switch(fault: str) -> None:
            control.kubectl("annotate", "--overwrite", "pod", "p", f"podium.dev/kwok-fault={fault}")

        switch("not-ready")
        eventually(lambda: shown(control, "p") == (False, 0, ""))
        switch("crash")
        eventually(lambda: shown(control, "p")[1] >= 2)
        assert not shown(control, "p")[0]
        switch("")
        eventually(lambda: shown(control, "p")[0])

    def test_each_fault_from_the_start(self, control: Cluster) -> None:
        control.apply(
            pod("slow", "slow-4s"),
            pod("restart", "restart-2"),
            pod("pull", "image-pull"),
            pod("gone", "evicted"),
            pod("other-version", "crash@7", version="6"),
            pod("that-version", "not-ready@7", version="7"),
        )
        eventually(lambda: shown(control, "restart") == (True, 2, ""))
        eventually(lambda: shown(control, "pull") == (False, 0, "ImagePullBackOff"))
        eventually(lambda: shown(control, "other-version") == (True, 0, ""))
        eventually(lambda: shown(control, "that-version") == (False, 0, ""))
        assert control.kubectl_json("get", "pod", "gone")["status"]["reason"] == "Evicted"
        eventually(lambda: shown(control, "slow")[0])

    def test_a_killed_etcd_comes_back_with_what_it_held(self, control: Cluster) -> None:
        control.kubectl("create", "configmap", "kept", "--from-literal=a=b")
        control.stop("etcd", grace=0)
        control.stop("kube-apiserver", grace=0)
        assert not all(each.healthy for each in control.health())
        repaired = clusters.up(CONTROL_CLUSTER, "control")
        assert repaired.kubectl_json("get", "configmap", "kept")["data"] == {"a": "b"}

    def test_the_command_line_tells_health_by_its_exit_code(self, control: Cluster) -> None:
        def status() -> subprocess.CompletedProcess[str]:
            argv = [sys.executable, "-m", "testbed", "status", "--name", CONTROL_CLUSTER]
            return subprocess.run(argv, capture_output=True, text=True, check=False)

        assert status().returncode == 0, status().stdout
        control.stop("kwok", grace=0)
        broken = status()
        assert broken.returncode == 1
        assert "DOWN" in broken.stdout
        control.start("kwok")

    def test_two_clusters_stand_side_by_side(self, control: Cluster) -> None:
        other = clusters.up("testbed-other", "control", simulated_nodes=1)
        try:
            control.kubectl("create", "namespace", "only-here")
            assert "only-here" not in other.kubectl("get", "namespaces")
            assert set(control.plan.ports).isdisjoint(other.plan.ports)
        finally:
            other.down()
        assert not ClusterDir.of("testbed-other").root.exists()
        assert plan.load(ClusterDir.of("testbed-other")) is None
