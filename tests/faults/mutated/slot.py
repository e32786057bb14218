"""A namespace with an operator of its own: what its log and metrics say is about one case.

Many slots work side by side; each plays one case after the other, and its operator lives on.
"""

import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from testbed.postgres import free_port
from tests.environment import of_operator
from tests.faults.mutated.api import Api

ROOT = Path(__file__).parents[3]
_SERIES = re.compile(r"^podium_(\w+?)(?:\{.*\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Counts:
    """What an operator has done since it started."""

    passes: float = 0
    unexpected: float = 0
    kubernetes: float = 0
    registry: float = 0

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.passes - other.passes,
            self.unexpected - other.unexpected,
            self.kubernetes - other.kubernetes,
            self.registry - other.registry,
        )

    @classmethod
    def of(cls, page: str) -> "Counts":
        total: Counter[str] = Counter()
        for name, value in _SERIES.findall(page):
            total[name] += float(value)  # type: ignore[assignment]
        return cls(
            total["reconcile_seconds_count"],
            total["reconcile_errors_total"],
            total["kubernetes_request_seconds_count"],
            total["registry_request_seconds_count"],
        )


class Slot:
    """`with Slot(...)`: namespace and operator are there, and gone at the end."""

    def __init__(self, api: Api, kubeconfig: Path, folder: Path, name: str) -> None:
        self.api, self.namespace = api, name
        self._kubeconfig, self._log = kubeconfig, folder / f"{name}.log"
        self._metrics = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self.kept: object = None  # the scene that the next case may use

    def __enter__(self) -> "Slot":
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        self.api.call("POST", "/api/v1/namespaces", body)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self.api.call("DELETE", f"/api/v1/namespaces/{self.namespace}")

    def _start(self) -> None:
        command = [sys.executable, "-m", "podium.runtime.main", "--namespace", self.namespace]
        command += ["--bind", "127.0.0.1", "--health-port", "0", "--workers", "2"]
        command += ["--metrics-port", str(self._metrics)]
        env = of_operator(KUBECONFIG=str(self._kubeconfig))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def counts(self, patience: float = 60.0) -> Counts:
        """Raises AssertionError when the operator does not answer."""
        end = time.monotonic() + patience
        while True:
            try:
                url = f"http://127.0.0.1:{self._metrics}/metrics"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return Counts.of(answer.read().decode())
            except OSError as error:
                assert self.alive, f"the operator ended by itself:\n{self.log()}"
                assert time.monotonic() < end, f"the operator's metrics: {error}"
            time.sleep(0.2)

    def begin(self) -> None:
        """From here the log is the next case's. An operator that ended is started again."""
        if not self.alive:
            self._start()
        self._read = self._log.stat().st_size if self._log.exists() else 0

    def log(self) -> str:
        """Since the case began."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            return log.read().decode(errors="replace")

    def troubles(self) -> list[str]:
        """What no operator may do, whatever a resource says."""
        log = self.log()
        found = [] if self.alive else ["the operator ended by itself"]
        if "Traceback" in log or '"level": "ERROR"' in log or "exc_info" in log:
            found.append("the operator met with an error that nobody expected (see its log)")
        if "many passes at once" in log:
            found.append("the operator makes pass after pass (see its log)")
        return found
