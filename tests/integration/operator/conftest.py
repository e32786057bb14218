"""The operator as its own process, against a real API server and a real MLflow.

Nodes are simulated; a pod's fate is chosen by the annotation podium.dev/kwok-fault
(docs/testbed.md). What pods really load is asked in tests/e2e.
"""

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster import Cluster
from testbed.mlflow import MlflowServer
from testbed.postgres import free_port
from tests.environment import of_operator
from tests.kubectl import Kubectl

LEASE_NAMESPACE = "podium-test"


class Operator:
    """A `podium-operator` process; `kill` is SIGKILL."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._kubeconfig, self.log = kubeconfig, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "podium.runtime.main", "--all-namespaces"]
        command += ["--lease-namespace", LEASE_NAMESPACE, "--bind", "127.0.0.1"]
        command += ["--metrics-port", str(free_port()), "--health-port", str(free_port())]
        env = of_operator(KUBECONFIG=str(self._kubeconfig))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(30)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None


@dataclass
class Registry:
    """MLflow's REST API as a user's program speaks it."""

    uri: str
    sent: list[str] = field(default_factory=list)

    def call(self, verb: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        url = f"{self.uri}/api/2.0/mlflow/{path}"
        url += f"?{urllib.parse.urlencode(query)}" if query else ""
        request = urllib.request.Request(  # noqa: S310 - loopback
            url,
            method=verb,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")

    def create(self, model: str) -> None:
        self.call("POST", "registered-models/create", {"name": model})

    def register(self, model: str, **metrics: float) -> str:
        experiment = self._experiment()
        run = self.call("POST", "runs/create", {"experiment_id": experiment})["run"]["info"]
        for key, value in metrics.items():
            self.call(
                "POST",
                "runs/log-metric",
                {"run_id": run["run_id"], "key": key, "value": value, "timestamp": 1, "step": 1},
            )
        made = self.call(
            "POST",
            "model-versions/create",
            {"name": model, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]},
        )
        return str(made["model_version"]["version"])

    def _experiment(self) -> str:
        with contextlib.suppress(urllib.error.HTTPError):  # it is there, or another was faster
            self.call("POST", "experiments/create", {"name": "podium"})
        found = self.call("GET", "experiments/get-by-name", experiment_name="podium")
        return str(found["experiment"]["experiment_id"])

    def set_alias(self, model: str, alias: str, version: str) -> None:
        body = {"name": model, "alias": alias, "version": version}
        self.call("POST", "registered-models/alias", body)

    def delete_version(self, model: str, version: str) -> None:
        self.call("DELETE", "model-versions/delete", {"name": model, "version": version})

    def model(self, model: str) -> dict[str, Any]:
        found = self.call("GET", "registered-models/get", name=model)["registered_model"]
        assert isinstance(found, dict)
        return found

    def alias(self, model: str, alias: str = "champion") -> str | None:
        aliases = {a["alias"]: a["version"] for a in self.model(model).get("aliases", [])}
        return aliases.get(alias)

    def versions(self, model: str) -> dict[str, dict[str, Any]]:
        quoted = model.replace('"', '\\"')
        found = self.call("GET", "model-versions/search", filter=f'name = "{quoted}"')
        return {v["version"]: v for v in found.get("model_versions", [])}

    def tags(self, model: str, version: str) -> dict[str, str]:
        found = self.versions(model)[version].get("tags", [])
        return {tag["key"]: tag["value"] for tag in found}

    def stages(self, model: str) -> dict[str, str]:
        versions = self.versions(model).items()
        return {n: v["current_stage"] for n, v in versions if v["current_stage"] != "None"}


@dataclass
class Scene:
    """One namespace with a ModelRegistry, a Deployment and what a test needs to tell a story."""

    kubectl: Kubectl
    registry: Registry
    operator: Operator
    model: str

    def apply(self, *objects: dict[str, Any]) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(items))

    def promotion(self, name: str = "p", **spec: Any) -> dict[str, Any]:
        base = {
            "model": self.model,
            "registryRef": {"name": "mlflow"},
            "candidate": {"latest": {}},
            "gates": [{"name": "accuracy", "metric": {"key": "accuracy", "bound": {"min": "0.9"}}}],
            "targets": [{"name": "api", "deployment": {"name": "api", "container": "server"}}],
            "rollout": {"progressDeadline": "20s"},
        }
        merged = {k: v for k, v in {**base, **spec}.items() if v is not None}
        return _object("podium.dev/v1alpha1", "ModelPromotion", name, spec=merged)

    def decide(self, name: str, action: str, **spec: Any) -> None:
        full = {"promotionRef": {"name": "p"}, "action": action, "decidedBy": "ann", **spec}
        self.apply(_object("podium.dev/v1alpha1", "PromotionDecision", name, spec=full))

    def get(self, name: str = "p") -> dict[str, Any]:
        found = self.kubectl.get("modelpromotion", name)
        assert isinstance(found, dict)
        return found

    def status(self, name: str = "p") -> dict[str, Any]:
        status = self.get(name).get("status", {})
        assert isinstance(status, dict)
        return status

    def condition(self, kind: str, name: str = "p") -> tuple[str, str]:
        for condition in self.status(name).get("conditions", []):
            if condition["type"] == kind:
                return condition["status"], condition["reason"]
        return "", ""

    def phase(self, name: str = "p") -> str:
        return str(self.status(name).get("attempt", {}).get("phase", ""))

    def wait(self, what: str, true: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if true():
                return
            assert self.operator.alive, f"the operator ended:\n{self.log()}"
            time.sleep(0.3)
        status = json.dumps(self.status(), indent=1)
        raise AssertionError(f"not within {seconds:.0f} s: {what}\n{status}\n{self.log()}")

    def wait_champion(self, version: str, seconds: float = 60) -> None:
        def served() -> bool:
            status = self.status()
            ready = self.condition("Ready")[0] == "True"
            attempt = status.get("attempt", {}).get("phase")
            settled = attempt in (None, "Promoted", "RolledBack", "Rejected", "Superseded")
            at = status.get("champion", {}).get("version")
            return ready and settled and at == version

        self.wait(f"version {version} is served", served, seconds)
        assert self.registry.alias(self.model) == version

    def template(self) -> dict[str, str]:
        found = self.kubectl.get("deployment", "api")["spec"]["template"]["metadata"]
        return dict(found.get("annotations", {}))

    def log(self, lines: int = 40) -> str:
        return "\n".join(self.operator.log.read_text().splitlines()[-lines:])


def _object(api: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **rest}


def deployment(name: str = "api", fault: str = "", env: list[dict[str, str]] | None = None) -> Any:
    labels = {"app": name}
    annotations = {"podium.dev/kwok-fault": fault} if fault else {}
    container = {"name": "server", "image": "serving", "env": env or []}
    pod = {"metadata": {"labels": labels, "annotations": annotations}}
    return _object(
        "apps/v1",
        "Deployment",
        name,
        spec={
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {**pod, "spec": {"containers": [container]}},
        },
    )


@contextlib.contextmanager
def api_server_killed(bed: Cluster) -> Iterator[None]:
    """Away until the end of the block; then there again, and the nodes and the controllers too."""
    bed.stop("kube-apiserver", grace=0)
    try:
        yield
    finally:
        bed.start("kube-apiserver")
        # After an outage kwok waits so long that its nodes count as lost, which no kubelet does.
        # And after a minute of it the controllers wait up to a minute before they look again; where
        # they share a Lease, as in every real cluster, they lose it, end and are started again.
        for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
            bed.restart(name)
        bed.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[MlflowServer]:
    with MlflowServer() as server:
        yield server


@pytest.fixture(scope="session")
def operator(
    control_cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    control_cluster("create", "namespace", LEASE_NAMESPACE)
    started = Operator(control_cluster.kubeconfig, tmp_path_factory.mktemp("operator") / "log")
    started.start()
    try:
        yield started
    finally:
        code = started.stop()
        control_cluster("delete", "namespace", LEASE_NAMESPACE, "--wait=false")
    assert code == 0, "the operator did not shut down gracefully"


@pytest.fixture
def scene(
    kubectl: Kubectl, mlflow_server: MlflowServer, operator: Operator, namespace: str
) -> Scene:
    """A model of this test's own, named after its namespace, and two replicas that serve."""
    if not operator.alive:
        operator.start()
    made = Scene(kubectl, Registry(mlflow_server.uri), operator, f"iris {namespace}")
    made.registry.create(made.model)
    made.apply(
        _object(
            "podium.dev/v1alpha1",
            "ModelRegistry",
            "mlflow",
            spec={"trackingURI": mlflow_server.uri, "pollInterval": "1s"},
        ),
        deployment(),
    )
    return made
