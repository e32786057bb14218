"""Where the soak takes place: a few dozen promotions of as many models in one namespace, the
operator, MLflow and the API server; all of which can be restarted.
"""

import asyncio
import http.client
import signal
import subprocess
import sys
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.cluster import Cluster as Bed
from testbed.mlflow import MlflowServer
from testbed.postgres import free_port
from tests.environment import of_operator
from tests.faults.mutated.api import JSON_PATCH, MERGE_PATCH, Api
from tests.faults.relay import Servers
from tests.faults.world import State, World
from tests.integration.operator.conftest import Registry

NAMESPACE = "soak"
# What a server that is being restarted makes of a request.
AWAY = (OSError, urllib.error.URLError, http.client.HTTPException, AssertionError)
GOOD, BAD = 0.95, 0.5


@dataclass
class Quarter:
    """One promotion with its model and its Deployment, and what was done to them on purpose.

    `follows`: it has no candidate selector, so whoever moves the alias decides.
    """

    name: str
    world: World
    by_version: bool
    approved: bool
    follows: bool
    versions: dict[str, str] = field(default_factory=dict)  # number: good, bad or crashing
    moved_at: dict[str, float] = field(default_factory=dict)  # by hand: version, monotonic seconds
    suspended: bool = False
    said: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        source = {"type": "Version"} if self.by_version else {"type": "Alias"}
        target = {"name": "api", "deployment": {"name": self.name}, "modelSource": source}
        bound = {"key": "accuracy", "bound": {"min": "0.9"}}
        spec: dict[str, Any] = {
            "registryRef": {"name": "mlflow"},
            "model": self.world.model,
            "candidate": {"latest": {}},
            "gates": [{"name": "accuracy", "metric": bound}],
            "targets": [target],
            "rollout": {"progressDeadline": "60s"},
            "rollback": {"bakeDuration": "10s"},
            "suspend": self.suspended,
        }
        if self.approved:
            spec["approval"] = {"required": 1, "excludeAuthors": False}
        if self.follows:
            del spec["candidate"]
        return spec


class OperatorProcess:
    """`podium-operator` for all namespaces; its log is kept over restarts."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._kubeconfig, self.log = kubeconfig, log
        self.metrics_port = free_port()
        self._lock = threading.Lock()  # what is replaced on purpose has not ended by itself
        self._process: subprocess.Popen[bytes] | None = None
        self.ended_by_itself = 0

    def start(self) -> None:
        command = [sys.executable, "-m", "podium.runtime.main", "--all-namespaces"]
        command += ["--lease-namespace", NAMESPACE, "--bind", "127.0.0.1", "--health-port", "0"]
        command += ["--metrics-port", str(self.metrics_port), "--repair-interval", "120"]
        env = of_operator(KUBECONFIG=str(self._kubeconfig))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
            )

    def replace(self, number: signal.Signals) -> int:
        """SIGTERM or SIGKILL, then a new process. Gives the exit code of the old one."""
        with self._lock:
            assert self._process is not None
            self._process.send_signal(number)
            code = self._process.wait(60)
            self.start()
        return code

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def keep_up(self) -> None:
        """Starts it again when it ended by itself, as a Deployment would, and counts that."""
        with self._lock:
            assert self._process is not None
            if self._process.poll() is not None:
                self.ended_by_itself += 1
                self.start()


class Town:
    def __init__(self, bed: Bed, mlflow: MlflowServer, count: int, folder: Path) -> None:
        self.bed, self.mlflow = bed, mlflow
        self.api = Api(asyncio.run(Servers.of(bed.kubeconfig, mlflow.uri)))
        self.registry = Registry(mlflow.uri)
        self.operator = OperatorProcess(bed.kubeconfig, folder / "operator.log")
        self._made: Counter[int] = Counter()
        self.quarters = [self._quarter(number) for number in range(count)]

    def _quarter(self, number: int) -> Quarter:
        self._made[number] += 1
        world = World(self.api, self.registry, NAMESPACE)
        world.model = f"soak {number:02} {self._made[number]}"
        return Quarter(
            name=f"p-{number:02}-{self._made[number]}",
            world=world,
            by_version=number % 3 == 1,
            approved=number % 4 == 2,
            follows=number % 5 == 3,
        )

    def build(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self.api.call("POST", "/api/v1/namespaces", body)
        spec = {"trackingURI": self.mlflow.uri, "pollInterval": "2s"}
        world = self.quarters[0].world
        world.apply("modelregistries", _object("ModelRegistry", "mlflow", spec))
        for each in self.quarters:
            self._furnish(each)
        self.operator.start()

    def _furnish(self, quarter: Quarter) -> None:
        self.registry.create(quarter.world.model)
        self.register(quarter, "good")
        self.move(quarter, "1")
        self.deploy(quarter)
        self.promote(quarter)

    def renew(self, quarter: Quarter) -> None:
        """A model is given up, with all that belongs to it; another has come in its place. So the
        town does not grow, and what the operator keeps of what is gone would be seen."""
        number = self.quarters.index(quarter)
        new = self._quarter(number)
        self._furnish(new)
        self.quarters[number] = new
        self.api.call("DELETE", quarter.world.path("modelpromotions", quarter.name))
        self.api.call("DELETE", quarter.world.path("deployments", quarter.name, "apps/v1"))
        for said in range(1, quarter.said + 1):
            name = f"{quarter.name}-{said}"
            self.api.call("DELETE", quarter.world.path("promotiondecisions", name))
        body = {"name": quarter.world.model}
        self.registry.call("DELETE", "registered-models/delete", body)

    def register(self, quarter: Quarter, kind: str) -> str:
        accuracy = BAD if kind == "bad" else GOOD
        # Noted before it is there: a watcher must not meet a version that nobody knows.
        version = str(max((int(n) for n in quarter.versions), default=0) + 1)
        quarter.versions.setdefault(version, kind)
        made = self.registry.register(quarter.world.model, accuracy=accuracy)
        quarter.versions[made] = kind
        return made

    def move(self, quarter: Quarter, version: str) -> None:
        """The alias, by hand; noted before it is done."""
        quarter.moved_at[version] = time.monotonic()
        self.registry.set_alias(quarter.world.model, "champion", version)

    def deploy(self, quarter: Quarter) -> None:
        labels = {"app": quarter.name}
        pod = {"containers": [{"name": "server", "image": "serving"}]}
        template = {"metadata": {"labels": labels}, "spec": pod}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": quarter.name}}
        quarter.world.apply("deployments", {**body, "spec": spec}, "apps/v1")

    def promote(self, quarter: Quarter) -> None:
        body = _object("ModelPromotion", quarter.name, quarter.spec)
        quarter.world.apply("modelpromotions", body)

    def suspend(self, quarter: Quarter, suspended: bool) -> None:
        quarter.suspended = suspended
        patch = [{"op": "add", "path": "/spec/suspend", "value": suspended}]
        path = quarter.world.path("modelpromotions", quarter.name)
        self.api.call("PATCH", path, patch, JSON_PATCH)

    def decide(self, quarter: Quarter, action: str, **more: Any) -> None:
        quarter.said += 1
        spec = {"promotionRef": {"name": quarter.name}, "action": action, "decidedBy": "ann"}
        body = _object("PromotionDecision", f"{quarter.name}-{quarter.said}", {**spec, **more})
        self.api.call("POST", quarter.world.path("promotiondecisions"), body)

    def promotions(self) -> dict[str, dict[str, Any]]:
        found = self.api.call("GET", self.quarters[0].world.path("modelpromotions"))
        return {each["metadata"]["name"]: each for each in found["items"]}

    def deployments(self) -> dict[str, dict[str, Any]]:
        path = self.quarters[0].world.path("deployments", group="apps/v1")
        return {each["metadata"]["name"]: each for each in self.api.call("GET", path)["items"]}

    def pods(self) -> Iterator[dict[str, Any]]:
        yield from self.api.call("GET", self.quarters[0].world.path("pods", group="v1"))["items"]

    def spoil(self, pod: dict[str, Any], fault: str) -> None:
        path = self.quarters[0].world.path("pods", pod["metadata"]["name"], "v1")
        body = {"metadata": {"annotations": {"podium.dev/kwok-fault": fault}}}
        self.api.send("PATCH", path, body, MERGE_PATCH)

    def aliases(self) -> dict[str, str | None]:
        """Where each model's champion is, by promotion."""
        wanted = "name LIKE 'soak %'"
        path = "registered-models/search"
        found = self.registry.call("GET", path, max_results="200", filter=wanted)
        at = {
            each["name"]: {a["alias"]: a["version"] for a in each.get("aliases", [])}
            for each in found.get("registered_models", [])
        }
        return {
            each.name: at[each.world.model].get("champion")
            for each in self.quarters
            if each.world.model in at
        }

    def state(self, quarter: Quarter) -> State:
        return quarter.world.state(quarter.name)


def _object(kind: str, name: str, spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "podium.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
