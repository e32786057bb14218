"""The operator as a process: two replicas that take turns, an orderly stop that leaves nothing
open, and an API server that is away for a minute."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.cluster import Cluster
from testbed.mlflow import MlflowServer
from testbed.postgres import free_port
from tests.environment import of_operator
from tests.integration.operator.conftest import api_server_killed
from tests.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[3]


class Replica:
    """A `podium-operator` that watches one namespace and shares the Lease there."""

    def __init__(self, kubectl: Kubectl, namespace: str, log: Path, *python: str) -> None:
        self.metrics, self.health, self.log = free_port(), free_port(), log
        command = [sys.executable, *python, "-m", "podium.runtime.main", "--namespace", namespace]
        command += ["--lease-namespace", namespace, "--bind", "127.0.0.1"]
        command += ["--metrics-port", str(self.metrics), "--health-port", str(self.health)]
        env = of_operator(KUBECONFIG=str(kubectl.kubeconfig))
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=env)

    def get(self, port: int, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def page(self, path: str) -> str:
        return self.get(self.metrics if path == "metrics" else self.health, path)

    @property
    def ready(self) -> bool:
        return self.page("readyz") == "ok\n"

    @property
    def leads(self) -> bool:
        return "podium_leader 1.0" in self.page("metrics")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def wait(what: str, true: Callable[[], bool], seconds: float = 40) -> float:
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_the_second_takes_over(
    kubectl: Kubectl, namespace: str, tmp_path: Path, number: signal.Signals
) -> None:
    first = Replica(kubectl, namespace, tmp_path / "first")
    second: Replica | None = None
    try:
        wait("the first leads", lambda: first.leads and first.ready)
        second = Replica(kubectl, namespace, tmp_path / "second")
        waiting = second
        wait("the second is ready", lambda: waiting.ready)
        assert not second.leads
        assert second.page("healthz") == "ok\n"
        first.process.send_signal(number)
        took = wait("the second leads", lambda: waiting.leads)
        assert took < (25 if number is signal.SIGKILL else 15), f"{took:.1f} s"
        code = first.process.wait(30)
        assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
        second.process.terminate()
        assert second.process.wait(30) == 0
        for log in (first.log, second.log):
            assert '"level": "ERROR"' not in log.read_text()
    finally:
        for replica in (first, second):
            if replica is not None:
                replica.end()


def resource(kind: str, name: str, **spec: object) -> dict[str, object]:
    api = "podium.dev/v1alpha1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}


def apply(kubectl: Kubectl, *objects: dict[str, object]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", "-f", "-", stdin=json.dumps(listed))


def reason(kubectl: Kubectl, kind: str, name: str, condition: str) -> str:
    status = kubectl.get(kind, name).get("status", {})
    found = {c["type"]: c["reason"] for c in status.get("conditions", [])}
    return str(found.get(condition, ""))


@pytest.mark.mlflow
def test_an_orderly_stop_leaves_no_connection_open(
    kubectl: Kubectl, namespace: str, tmp_path: Path, mlflow_server: MlflowServer
) -> None:
    """Also not those of registries that were changed or deleted while passes used them. Python
    tells of each one that was not closed (-X dev)."""
    uri = mlflow_server.uri
    promotions = [
        resource("ModelPromotion", f"p{n}", model=f"{namespace} {n}", candidate={"latest": {}})
        for n in range(10)
    ]
    apply(kubectl, resource("ModelRegistry", "default", trackingURI=uri, pollInterval="1s"))
    apply(kubectl, resource("ModelRegistry", "gone", trackingURI=uri), *promotions)
    replica = Replica(kubectl, namespace, tmp_path / "log", "-X", "dev")
    try:
        wait("it is ready", lambda: replica.ready)
        wait("it polls", lambda: 'podium_poll_lag_seconds{registry="' in replica.page("metrics"))
        for seconds in (2, 3, 4, 1):
            changed = {"trackingURI": uri, "pollInterval": f"{seconds}s"}
            apply(kubectl, resource("ModelRegistry", "default", **changed))
            time.sleep(0.7)
        kubectl("delete", "modelregistry", "gone")
        told = lambda: reason(kubectl, "modelpromotion", "p9", "Stalled")  # noqa: E731
        wait("the promotions are told", lambda: told() == "ModelNotFound")
        events = kubectl("get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}")
        assert "RegistryUnavailable" not in events.split(), "a changed ModelRegistry is no outage"
        replica.process.terminate()
        assert replica.process.wait(30) == 0
    finally:
        replica.end()
    said = replica.log.read_text()
    assert "the Lease is released" in said
    for trouble in ("nclosed", "ResourceWarning", "never awaited", "never retrieved", "Traceback"):
        assert trouble not in said, said


def test_an_api_server_that_is_away_for_a_minute_ends_nothing(
    kubectl: Kubectl, namespace: str, tmp_path: Path, bed: Cluster
) -> None:
    """Alive all the time, so kubelet leaves it alone; and at work again when the server is."""
    replica = Replica(kubectl, namespace, tmp_path / "log")
    try:
        wait("it leads", lambda: replica.leads and replica.ready)
        with api_server_killed(bed):
            end = time.monotonic() + 60
            while time.monotonic() < end:
                assert replica.page("healthz") == "ok\n", replica.log.read_text()
                time.sleep(1)
            assert not replica.leads
        wait("it leads again", lambda: replica.page("healthz") == "ok\n" and replica.leads)
        apply(kubectl, resource("ModelPromotion", "p", model="m", candidate={"latest": {}}))
        seen = lambda: reason(kubectl, "modelpromotion", "p", "Stalled")  # noqa: E731
        wait("its watches are open again", lambda: seen() == "RegistryNotFound")
        assert replica.process.poll() is None
        replica.process.terminate()
        assert replica.process.wait(30) == 0
    finally:
        replica.end()
