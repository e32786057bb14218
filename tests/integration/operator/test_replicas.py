"""Two replicas: one leads; stopped in order it exits with 0 and the other takes over."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.postgres import free_port
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[3]


class Replica:
    """A `podium-operator` that watches one namespace and shares the Lease there."""

    def __init__(self, kubectl: Kubectl, namespace: str, log: Path) -> None:
        self.metrics, self.health, self.log = free_port(), free_port(), log
        command = [sys.executable, "-m", "podium.runtime.main", "--namespace", namespace]
        command += ["--lease-namespace", namespace, "--bind", "127.0.0.1"]
        command += ["--metrics-port", str(self.metrics), "--health-port", str(self.health)]
        env = {
            **os.environ,
            "KUBECONFIG": str(kubectl.kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
        }
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=env)

    def get(self, port: int, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    @property
    def ready(self) -> bool:
        return self.get(self.health, "readyz") == "ok\n"

    @property
    def leads(self) -> bool:
        return "podium_leader 1.0" in self.get(self.metrics, "metrics")


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
        assert second.get(second.health, "healthz") == "ok\n"
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
            if replica is not None and replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait(10)
