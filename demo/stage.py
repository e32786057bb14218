"""The demo on real pods: cluster, images, MLflow, operator, serving; and how each is reached.

Builds and asks; what happens and what must hold is in `story`.
"""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import yaml

from testbed import cluster as clusters
from testbed import images, node, packages
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.plan import Size
from testbed.progress import phase

ROOT = Path(__file__).parent.parent
NAMESPACE = "iris"
OPERATOR_NAMESPACE = "podium-system"
_IMAGES = ROOT / "testbed" / "images"
_MLFLOW_IMAGE = "mlflow:testbed"
_SERVING_IMAGE = "serving:testbed"
_OPERATOR_IMAGE = "podium-operator:0.1.0"

Manifest = dict[str, Any]


class PredictionError(Exception):
    """The serving Service gave no prediction."""


class Stage(Protocol):
    """What the story needs of the world that it happens in."""

    cluster: Cluster
    serves: bool  # whether there are predictions to ask for

    @property
    def mlflow_uri(self) -> str: ...

    def build(self) -> None: ...

    def start_serving(self) -> None: ...

    def predict(self, rows: Sequence[Sequence[float]]) -> tuple[str, ...]: ...

    def explain(self) -> str: ...


class RealStage:
    """Real pods: on a node that this machine is, or on kind's."""

    serves = True

    def __init__(self, name: str, size: Size) -> None:
        self._name, self._size = name, size
        self.mlflow_uri = ""
        self._serving = ""

    def build(self) -> None:
        """Cluster, images, MLflow and operator; returns when both are Ready."""
        if self._size is Size.NODE:
            node.require_root()
            # Now, and in one go: two threads would meet at dpkg's lock.
            packages.require({**packages.NODE, **packages.IMAGES}, "a real node and its images")
        with ThreadPoolExecutor(1) as builder:
            mlflow = builder.submit(images.build, _MLFLOW_IMAGE, _IMAGES / "mlflow")
            serving = builder.submit(images.build, _SERVING_IMAGE, _IMAGES / "serving")
            operator = builder.submit(images.build, _OPERATOR_IMAGE, ROOT)
            try:
                self._put_up(mlflow, serving, operator)
            except BaseException:
                builder.shutdown(wait=False, cancel_futures=True)
                raise
        self.mlflow_uri = self._address("mlflow", "mlflow")

    def _put_up(self, mlflow: Future[Path], serving: Future[Path], operator: Future[Path]) -> None:
        """Each as soon as its image is there; the images are built meanwhile."""
        self.cluster = clusters.up(self._name, self._size)
        clear(self.cluster)
        images.load(self.cluster, mlflow.result())
        self._apply(manifests(ROOT / "demo" / "mlflow.yaml"))
        images.load(self.cluster, serving.result())
        images.load(self.cluster, operator.result())
        self._apply(self._operator(operator.result()))
        with phase("Starting MLflow and the operator") as update:
            self._rolled_out("podium-operator", OPERATOR_NAMESPACE)
            update("the operator is ready")
            self._rolled_out("mlflow", "mlflow")

    def start_serving(self) -> None:
        """examples/iris, with the times of a demo."""
        self._apply(iris(_real_serving))
        self._serving = self._address(NAMESPACE, NAMESPACE)

    def predict(self, rows: Sequence[Sequence[float]]) -> tuple[str, ...]:
        """The answers of the Service, on a connection of its own."""
        request = urllib.request.Request(  # noqa: S310 - the address is our own Service's
            f"{self._serving}/invocations",
            data=json.dumps({"inputs": rows}).encode(),
            headers={"Content-Type": "application/json", "Connection": "close"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return tuple(str(each) for each in json.load(answer)["predictions"])
        except (OSError, ValueError, KeyError) as failure:
            raise PredictionError(str(failure)) from None

    def explain(self) -> str:
        """What may explain a claim that failed."""
        return explanation(self.cluster)

    def _apply(self, objects: Sequence[Manifest]) -> None:
        """Objects in their order; a custom resource waits until its kind is served."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.cluster.apply(*objects)
                return
            except TestbedError as failure:
                if "no matches for kind" not in str(failure) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _operator(self, archive: Path) -> list[Manifest]:
        """The all-namespaces overlay, as it is; a new image under the same tag is a new pod."""
        rendered = self.cluster.kubectl(
            "kustomize", str(ROOT / "manifests" / "overlays" / "all-namespaces")
        )
        objects = [each for each in yaml.safe_load_all(rendered) if each]
        for each in objects:
            if each["kind"] == "Deployment":
                template = each["spec"]["template"]["metadata"]
                template["annotations"] = {"podium-demo/image": archive.stem}
        return objects

    def _rolled_out(self, deployment: str, namespace: str) -> None:
        try:
            self.cluster.kubectl(
                "rollout", "status", f"deployment/{deployment}", f"--namespace={namespace}",
                "--timeout=120s", timeout=130,
            )  # fmt: skip
        except TestbedError as failure:
            raise TestbedError(
                f"{deployment} did not become ready: {failure}\n"
                + pod_logs(self.cluster, deployment, namespace)
            ) from None

    def _address(self, service: str, namespace: str) -> str:
        """Where this machine reaches a Service: its own IP, or kind's node and a node port."""
        where = f"--namespace={namespace}"
        found = self.cluster.kubectl_json("get", "service", service, where)["spec"]
        if self.cluster.plan.size is not Size.KIND:
            return f"http://{found['clusterIP']}:{found['ports'][0]['port']}"
        patch = json.dumps({"spec": {"type": "NodePort"}})
        self.cluster.kubectl("patch", "service", service, where, "--patch", patch)
        port = self.cluster.kubectl_json("get", "service", service, where)["spec"]["ports"][0]
        node = self.cluster.kubectl_json("get", "nodes")["items"][0]["status"]["addresses"]
        host = next(each["address"] for each in node if each["type"] == "InternalIP")
        return f"http://{host}:{port['nodePort']}"


def manifests(path: Path) -> list[Manifest]:
    """The objects of a YAML file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


class Change(Protocol):
    """Adapts one object of examples/iris."""

    def __call__(self, each: Manifest) -> None: ...


def iris(change: Change) -> list[Manifest]:
    """examples/iris with the waiting times of a demo, changed further by `change`."""
    folder = ROOT / "examples" / "iris"
    objects = [*manifests(folder / "promotion.yaml"), *manifests(folder / "serving.yaml")]
    for each in objects:
        if each["kind"] == "ModelRegistry":
            each["spec"]["pollInterval"] = "2s"
        elif each["kind"] == "ModelPromotion":
            each["spec"]["rollout"] = {"progressDeadline": "90s"}
            each["spec"]["rollback"] = {"bakeDuration": "5s"}
        change(each)
    return objects


def _real_serving(each: Manifest) -> None:
    if each["kind"] != "Deployment":
        return
    # Both new pods start at once: a demo is watched.
    each["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
    pod = each["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 5
    for container in pod["containers"]:
        container["image"] = _SERVING_IMAGE
        container["imagePullPolicy"] = "IfNotPresent"
        container["readinessProbe"]["periodSeconds"] = 1


def clear(cluster: Cluster) -> None:
    """Forget an earlier run in the same cluster: each demo starts with an empty registry."""
    there = {
        each["metadata"]["name"] for each in cluster.kubectl_json("get", "namespaces")["items"]
    }
    old = sorted(there & {NAMESPACE, "mlflow"})
    if not old:
        return
    with phase(f"Removing what an earlier demo left: {', '.join(old)}"):
        cluster.kubectl("delete", "namespace", *old, "--wait=true", timeout=120)


def explanation(cluster: Cluster) -> str:
    """Conditions of the promotion, its pods, and the end of the operator's log."""
    parts = []
    asks: Mapping[str, tuple[str, ...]] = {
        "Conditions": (
            "get", "mp", "iris", f"--namespace={NAMESPACE}", "-o",
            "jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: "
            '{.message}{"\\n"}{end}',
        ),
        "Pods": ("get", "pods", f"--namespace={NAMESPACE}"),
    }  # fmt: skip
    for title, words in asks.items():
        with contextlib.suppress(TestbedError):
            parts.append(f"{title}:\n{cluster.kubectl(*words).rstrip()}")
    parts.append(pod_logs(cluster, "podium-operator", OPERATOR_NAMESPACE))
    return "\n".join(parts)


def pod_logs(cluster: Cluster, deployment: str, namespace: str) -> str:
    """The end of a Deployment's log, with that of a container that restarted."""
    texts = []
    for previous in ("--previous=true", "--previous=false"):
        with contextlib.suppress(TestbedError):
            texts.append(
                cluster.kubectl(
                    "logs", f"deployment/{deployment}", f"--namespace={namespace}",
                    "--tail=25", previous, timeout=20,
                ).rstrip()
            )  # fmt: skip
    return f"End of the log of {deployment}:\n" + "\n".join(texts)


def together(asks: Sequence[Sequence[Sequence[float]]], stage: Stage) -> list[tuple[str, ...]]:
    """Several predictions at once, each on its own connection, so that every pod has its turn."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(stage.predict, asks))
