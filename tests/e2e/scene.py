"""One model and what serves it on a real node: examples/iris in a namespace of a test's own.

Registers versions, asks each pod what it serves, and does to pods what happens to pods.
"""

import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_iris

from demo.models import ALIAS, Answers, Laboratory
from demo.stage import OPERATOR_NAMESPACE, Manifest, RealStage, iris, pod_logs
from tests.e2e import brittle

T = TypeVar("T")

REPLICAS = 2
PORT = 8080
MOVE_ID = "podium.dev/move-id"
VERSION = "podium.dev/model-version"
_SERVING_IMAGE = "serving:testbed"
_ENDS = {"Promoted", "Rejected", "Expired", "Superseded", "RolledBack"}
_FRESH = 3  # connections on which each pod is asked

# Ends every process of a container but the first, which then ends by itself: Linux lets nobody
# inside a container kill its first process.
_KILL_SERVER = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) not in (1, os.getpid()):
        os.kill(int(pid), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Pod:
    """A serving pod as the API server has it."""

    name: str
    uid: str
    ip: str
    move_id: str | None
    ready: bool
    restarts: int
    terminating: bool

    @classmethod
    def of(cls, found: Manifest) -> "Pod":
        meta, status = found["metadata"], found["status"]
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        return cls(
            meta["name"],
            meta["uid"],
            status.get("podIP", ""),
            meta.get("annotations", {}).get(MOVE_ID),
            conditions.get("Ready") == "True",
            sum(each["restartCount"] for each in status.get("containerStatuses", ())),
            "deletionTimestamp" in meta,
        )


class Scene:
    """Deployment, Service, ModelRegistry and ModelPromotion `iris`; the model is named `name`."""

    def __init__(self, stage: RealStage, name: str) -> None:
        self._stage, self.model = stage, name
        self._laboratory = Laboratory()
        self._laboratory.connect(stage.mlflow_uri)
        self._flowers, kinds = load_iris(return_X_y=True)
        self._kinds = np.array(["setosa", "versicolor", "virginica"])[kinds]
        self._offline: dict[str, Answers] = {}

    def apply(self) -> None:
        """Also puts back what was deleted."""
        self._stage.cluster.apply(*iris(self._adapt))

    def remove(self) -> None:
        self._stage.cluster.kubectl("delete", "namespace", self.model, "--wait=false")

    # MLflow

    def register(self, classifier: ClassifierMixin) -> str:
        """A new version of the model: this classifier, trained."""
        return self._register(
            float(classifier.score(self._flowers, self._kinds)),
            lambda: mlflow.sklearn.log_model(
                classifier,
                name="model",
                serialization_format="skops",
                pip_requirements=["scikit-learn"],
            ),
        )

    def register_brittle(self) -> str:
        """A new version that is good, until somebody shows it an odd flower."""
        right = brittle.Brittle().predict(None, self._flowers) == self._kinds
        return self._register(
            float(right.mean()),
            lambda: mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(brittle.__file__)),
                pip_requirements=["numpy"],
            ),
        )

    def _register(self, accuracy: float, log: Callable[[], Any]) -> str:
        mlflow.set_experiment(self.model)
        with redirect_stderr(StringIO()), mlflow.start_run():
            mlflow.log_metric("accuracy", accuracy)
            made = mlflow.register_model(log().model_uri, self.model, await_registration_for=60)
        version = str(made.version)
        loaded = mlflow.pyfunc.load_model(f"models:/{self.model}/{version}")
        answers = tuple(str(each) for each in loaded.predict(self._laboratory.probes))
        assert answers not in self._offline.values(), "versions must be told apart"
        self._offline[version] = answers
        return version

    def alias(self) -> str | None:
        found = self._laboratory.client.get_registered_model(self.model).aliases.get(ALIAS)
        return None if found is None else str(found)

    def stages(self) -> dict[str, str]:
        found = self._laboratory.client.search_model_versions(f'name = "{self.model}"')
        return {str(each.version): str(each.current_stage) for each in found}

    # Pods

    def pods(self) -> list[Pod]:
        """All of them, those that are on their way out too."""
        found = self._json("get", "pods", "--selector=app=iris")
        return [Pod.of(each) for each in found["items"]]

    def serves(self, pod: Pod) -> str:
        """The version whose own artifact answers, offline, what this pod answers now."""
        answers = self._answers(pod)
        versions = [each for each, offline in self._offline.items() if offline == answers]
        assert len(versions) == 1, f"pod {pod.name} answers what no version answers: {answers}"
        return versions[0]

    def served(self) -> dict[str, set[str]]:
        """What each pod answers on fresh connections: pod name to versions."""
        return {pod.name: {self.serves(pod) for _ in range(_FRESH)} for pod in self.pods()}

    def assert_all_serve(self, version: str) -> None:
        """Every pod there is answers as this version, and MLflow's alias agrees."""
        served = self.served()
        assert len(served) == REPLICAS, served
        assert set.union(*served.values()) == {version}, served
        assert self.alias() == version

    def show_odd_flower(self, pod: Pod, petal_width: float) -> None:
        """A request that a brittle version does not survive: nobody answers."""
        flower = [5.0, 3.0, 1.5, petal_width]
        with suppress(OSError):
            self._ask(pod, [flower], timeout=2)

    def restart_in_place(self, pod: Pod) -> Pod:
        """End the server of a pod; returns the same pod when its next container is Ready."""
        self.kubectl("exec", pod.name, "--", "python3", "-c", _KILL_SERVER)

        def back() -> list[Pod]:
            mine = [each for each in self.pods() if each.uid == pod.uid]
            assert mine, f"pod {pod.name} is gone"
            return [each for each in mine if each.restarts > pod.restarts and each.ready]

        return self.wait(f"pod {pod.name} has restarted in place", back)[0]

    def _answers(self, pod: Pod) -> Answers:
        rows = self._laboratory.rows()
        return tuple(str(each) for each in self._ask(pod, rows)["predictions"])

    def _ask(self, pod: Pod, rows: Sequence[Sequence[float]], timeout: float = 10) -> Any:
        request = urllib.request.Request(
            f"http://{pod.ip}:{PORT}/invocations",
            data=json.dumps({"inputs": rows}).encode(),
            headers={"Content-Type": "application/json", "Connection": "close"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return json.load(answer)

    # Kubernetes

    def kubectl(self, *words: str) -> str:
        return self._stage.cluster.kubectl(f"--namespace={self.model}", *words)

    def _json(self, *words: str) -> Any:
        return json.loads(self.kubectl(*words, "--output=json"))

    def promotion(self) -> Manifest:
        found: Manifest = self._json("get", "modelpromotion", "iris")
        return found

    def status(self) -> Manifest:
        found: Manifest = self.promotion().get("status", {})
        return found

    def template(self) -> dict[str, str]:
        """The annotations of the Deployment's pod template."""
        meta = self._json("get", "deployment", "iris")["spec"]["template"]["metadata"]
        found: dict[str, str] = meta.get("annotations", {})
        return found

    def change(self, kind: str, **spec: Any) -> None:
        """Merge into the spec of Deployment or ModelPromotion `iris`, as a person would."""
        patch = json.dumps({"spec": spec})
        self.kubectl("patch", kind, "iris", "--type=merge", f"--patch={patch}")

    def decide(self, name: str, action: str, reason: str) -> None:
        spec = {"promotionRef": {"name": "iris"}, "action": action, "decidedBy": "ann@example.com"}
        self._stage.cluster.apply(
            {
                "apiVersion": "podium.dev/v1alpha1",
                "kind": "PromotionDecision",
                "metadata": {"name": name, "namespace": self.model},
                "spec": {**spec, "reason": reason},
            }
        )

    # Waiting

    def condition(self, kind: str, status: Manifest | None = None) -> tuple[str, str]:
        """Status and reason."""
        for each in (status or self.status()).get("conditions", ()):
            if each["type"] == kind:
                return each["status"], each["reason"]
        return "", ""

    def wait_phase(
        self, version: str, phase: str, meanwhile: Callable[[], None] = lambda: None
    ) -> Manifest:
        """The status in which the attempt for `version` is in `phase`; the promotion is Ready when
        that ends the attempt."""

        def reached() -> Manifest | None:
            meanwhile()
            status = self.status()
            attempt = status.get("attempt", {})
            if attempt.get("version") != version:
                return None
            if attempt["phase"] == phase:
                ready = self.condition("Ready", status)[0] == "True"
                return status if ready or phase not in _ENDS else None
            if attempt["phase"] in _ENDS:
                raise AssertionError(f"version {version} is {attempt['phase']}\n{self._explain()}")
            return None

        return self.wait(f"version {version} is {phase}", reached)

    def wait(self, what: str, true: Callable[[], T | None], within: float = 180) -> T:
        end = time.monotonic() + within
        while True:
            if found := true():
                return found
            if time.monotonic() > end:
                raise AssertionError(f"not within {within:.0f} s: {what}\n{self._explain()}")
            time.sleep(0.3)

    def _explain(self) -> str:
        pods = self.kubectl("get", "pods", "--output=wide")
        log = pod_logs(self._stage.cluster, "podium-operator", OPERATOR_NAMESPACE)
        return f"{json.dumps(self.status(), indent=1)}\n{pods}\n{log}"

    def _adapt(self, each: Manifest) -> None:
        if each["kind"] == "Namespace":
            each["metadata"]["name"] = self.model
            return
        each["metadata"]["namespace"] = self.model
        if each["kind"] == "ModelPromotion":
            each["spec"]["model"] = self.model
            each["spec"]["rollout"] = {"progressDeadline": "5m"}
            each["spec"]["rollback"] = {"bakeDuration": "2s"}
        elif each["kind"] == "ModelRegistry":
            each["spec"]["pollInterval"] = "1s"
        elif each["kind"] == "Deployment":
            self._adapt_deployment(each["spec"])

    def _adapt_deployment(self, spec: Manifest) -> None:
        # While there is no champion the first pods find nothing to load: they may go at once.
        spec["strategy"] = {"rollingUpdate": {"maxSurge": REPLICAS, "maxUnavailable": REPLICAS}}
        pod = spec["template"]["spec"]
        pod["terminationGracePeriodSeconds"] = 1
        (server,) = pod["containers"]
        server["image"] = _SERVING_IMAGE
        server["imagePullPolicy"] = "IfNotPresent"
        server["command"] = [
            word.replace("/iris@", f"/{self.model}@") for word in server["command"]
        ]
        server["readinessProbe"]["periodSeconds"] = 1
        del server["lifecycle"]
