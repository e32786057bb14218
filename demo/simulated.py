"""The demo without root and Docker: simulated nodes, MLflow and operator as plain processes.

Pods are entries in the API that run nothing, so there are no predictions; aliases, stages and
Deployments are real. A simulated pod of version 4 crashes, as its real server would.
"""

import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from demo.stage import OPERATOR_NAMESPACE, ROOT, Manifest, PredictionError, clear, explanation, iris
from testbed import cluster as clusters
from testbed import processes
from testbed.plan import Size
from testbed.postgres import free_port
from testbed.processes import Component
from testbed.progress import phase
from testbed.simulated import FAULT_ANNOTATION

_BROKEN = "crash@4"


class SimulatedStage:
    """A control plane with simulated nodes; its processes end with the cluster (`down`)."""

    serves = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._port = free_port()
        self._health = free_port()
        self.mlflow_uri = f"http://127.0.0.1:{self._port}"

    def build(self) -> None:
        """Cluster, CRDs, MLflow and operator; returns when both are ready."""
        self.cluster = clusters.up(self._name, Size.CONTROL)
        where = self.cluster.where
        for name in ("operator", "mlflow"):
            running = processes.find(where, name)
            if running is not None:
                processes.end([*running.children(recursive=True), running])
        clear(self.cluster)
        crds = self.cluster.kubectl("kustomize", str(ROOT / "crds"))
        self.cluster.kubectl("apply", "--server-side", "-f", "-", stdin=crds)
        namespace = {"apiVersion": "v1", "kind": "Namespace"}
        self.cluster.apply({**namespace, "metadata": {"name": OPERATOR_NAMESPACE}})
        with phase("Starting MLflow and the operator") as update:
            self._start(self._mlflow())
            update("MLflow is ready")
            self._start(self._operator())

    def start_serving(self) -> None:
        self.cluster.apply(*iris(self._adapt))

    def predict(self, rows: Sequence[Sequence[float]]) -> tuple[str, ...]:
        raise PredictionError(f"simulated pods answer nothing ({len(rows)} rows)")

    def explain(self) -> str:
        """What may explain a claim that failed."""
        log = processes.log_tail(self.cluster.where, "operator")
        return f"{explanation(self.cluster)}\n{log}"

    def _adapt(self, each: Manifest) -> None:
        if each["kind"] == "ModelRegistry":
            each["spec"]["trackingURI"] = self.mlflow_uri
        elif each["kind"] == "Deployment":
            template = each["spec"]["template"]["metadata"]
            template["annotations"] = {FAULT_ANNOTATION: _BROKEN}

    def _start(self, component: Component) -> None:
        clusters.ensure(self.cluster.where, component)

    def _mlflow(self) -> Component:
        store = self.cluster.where.root / "mlflow"
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        argv = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1"]
        argv += [f"--port={self._port}", "--workers=1"]
        argv += [f"--backend-store-uri=sqlite:///{store}/mlflow.db"]
        argv += [f"--artifacts-destination={store}/artifacts"]
        env = {
            # MLflow finds its own web server program on PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        url = f"{self.mlflow_uri}/health"
        return Component("mlflow", tuple(argv), self.mlflow_uri, lambda: _answers(url), env, 180)

    def _operator(self) -> Component:
        # Not `python -m`: the test bed takes programs of the same name for copies of one another.
        argv = [str(Path(sys.executable).with_name("podium-operator")), "--all-namespaces"]
        argv += [f"--lease-namespace={OPERATOR_NAMESPACE}", "--bind=127.0.0.1"]
        argv += ["--metrics-port=0", f"--health-port={self._health}"]
        env = {"KUBECONFIG": str(self.cluster.kubeconfig), "POD_NAME": "podium-demo"}
        url = f"http://127.0.0.1:{self._health}/readyz"
        return Component("operator", tuple(argv), url, lambda: _answers(url), env, 120)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
