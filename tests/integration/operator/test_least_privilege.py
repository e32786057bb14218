"""The whole path with exactly what the manifests grant: the operator runs as their ServiceAccount,
and each permission of it is used by something."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.mlflow import MlflowServer
from testbed.postgres import free_port
from tests.environment import of_operator
from tests.integration.operator.conftest import Operator, Registry, Scene, _object, deployment
from tests.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
OWN = "podium-system"
WATCHED = ("modelpromotions", "promotiondecisions", "modelregistries", "deployments")
# Not in the operator's metrics: the watch is kopf's, the Lease has a connection of its own.
UNMEASURED = {(verb, kind) for kind in WATCHED for verb in ("list", "watch")}
UNMEASURED |= {(verb, "leases") for verb in ("create", "get", "patch")}


class LeastPrivileged(Operator):
    """A `podium-operator` with the arguments and the ServiceAccount that an overlay gives it."""

    def __init__(self, kubeconfig: Path, log: Path, arguments: list[str]) -> None:
        super().__init__(kubeconfig, log)
        self._arguments, self._metrics = arguments, free_port()

    def start(self) -> None:
        command = [sys.executable, "-m", "podium.runtime.main", *self._arguments]
        command += ["--bind=127.0.0.1", f"--metrics-port={self._metrics}", "--health-port=0"]
        env = of_operator(KUBECONFIG=str(self._kubeconfig))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
            )

    def requests(self) -> dict[tuple[str, str], set[str]]:
        """What was asked of the API server, and how it ended."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=5) as read:
            text = read.read().decode()
        found: dict[tuple[str, str], set[str]] = {}
        for line in re.findall(r"^podium_kubernetes_request_seconds_count\{(.*)\} ", text, re.M):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            found.setdefault((labels["verb"], labels["resource"]), set()).add(labels["outcome"])
        return found


@pytest.fixture(params=["all-namespaces", "single-namespace"])
def overlay(
    control_cluster: Kubectl, namespace: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[list[Any]]:
    """The overlay for this test's namespace, installed but for its CRDs and its Deployment."""
    for folder in ("manifests", "crds"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    watched = tmp_path / "manifests/overlays/single-namespace/watched-namespace.yaml"
    watched.write_text(watched.read_text().replace("namespace: default", f"namespace: {namespace}"))
    folder = str(tmp_path / "manifests/overlays" / request.param)
    objects = list(yaml.safe_load_all(control_cluster("kustomize", folder)))
    apart = ("CustomResourceDefinition", "Deployment")
    installed = yaml.safe_dump_all(o for o in objects if o["kind"] not in apart)
    control_cluster("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=installed)
    yield objects
    control_cluster("delete", "--ignore-not-found", "-f", "-", stdin=installed, timeout=120)


@pytest.fixture
def least_privileged(
    control_cluster: Kubectl, operator: Operator, overlay: list[Any], namespace: str, tmp_path: Path
) -> Iterator[LeastPrivileged]:
    # The other tests' operator, which may do everything; `scene` starts it again.
    while operator.alive and "leading as" not in operator.log.read_text():
        time.sleep(0.2)
    operator.stop()
    (pod,) = [o["spec"]["template"]["spec"] for o in overlay if o["kind"] == "Deployment"]
    (container,) = pod["containers"]
    known = {"POD_NAMESPACE": OWN, "WATCHED_NAMESPACE": namespace}
    kept = [a for a in container["args"] if not re.match("--(metrics|health)-port", a)]
    arguments = [re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], a) for a in kept]
    account = pod["serviceAccountName"]
    token = control_cluster("create", "token", account, "-n", OWN, "--duration=1h").strip()
    config = json.loads(control_cluster("config", "view", "--raw", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    started = LeastPrivileged(kubeconfig, tmp_path / "log", arguments)
    started.start()
    yield started
    assert started.stop() == 0, started.log.read_text()


def test_the_manifests_grant_what_is_used_and_nothing_else(
    kubectl: Kubectl,
    mlflow_server: MlflowServer,
    overlay: list[Any],
    least_privileged: LeastPrivileged,
    namespace: str,
) -> None:
    scene = Scene(kubectl, Registry(mlflow_server.uri), least_privileged, f"iris {namespace}")
    scene.registry.create(scene.model)
    address = {"trackingURI": mlflow_server.uri, "pollInterval": "1s"}
    spec = {**address, "credentialsSecretRef": {"name": "login"}}
    scene.apply(
        _object("v1", "Secret", "login", stringData={"token": "t"}),
        _object("podium.dev/v1alpha1", "ModelRegistry", "mlflow", spec=spec),
        deployment(fault="crash@3"),
        scene.promotion(),
    )
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion("1")
    refused = scene.registry.register(scene.model, accuracy=0.5)
    scene.wait("2 is refused", lambda: scene.phase() == "Rejected")
    scene.decide("again", "Retry", version=refused)
    decision = ("promotiondecision", "again")
    scene.wait("2 is tried again", lambda: "status" in scene.kubectl.get(*decision))
    scene.wait("and refused again", lambda: scene.phase() == "Rejected")
    scene.registry.register(scene.model, accuracy=0.99)
    scene.wait("3 goes back", lambda: scene.phase() == "RolledBack", 90)
    scene.wait_champion("1")

    requests = least_privileged.requests()
    assert not [each for each, ends in requests.items() if "forbidden" in str(ends).lower()]
    assert "orbidden" not in least_privileged.log.read_text()
    assert set(requests) | UNMEASURED == granted(overlay)


def role_of(kubectl: Kubectl, namespace: str, verbs: dict[str, list[str]]) -> None:
    """Gives the operator these verbs on these resources in the watched namespace, and no others."""
    role = kubectl.get("role", "podium-operator-watched")
    for rule in role["rules"]:
        for resource in rule["resources"]:
            rule["verbs"] = verbs.get(resource, rule["verbs"])
    kubectl("replace", "-f", "-", stdin=json.dumps(role))


@pytest.mark.parametrize("overlay", ["single-namespace"], indirect=True)
def test_a_permission_taken_away_is_named_and_given_back_it_goes_on(
    kubectl: Kubectl,
    mlflow_server: MlflowServer,
    least_privileged: LeastPrivileged,
    namespace: str,
) -> None:
    scene = Scene(kubectl, Registry(mlflow_server.uri), least_privileged, f"iris {namespace}")
    scene.registry.create(scene.model)
    spec: dict[str, Any] = {"trackingURI": mlflow_server.uri, "pollInterval": "1s"}
    registry = _object("podium.dev/v1alpha1", "ModelRegistry", "mlflow", spec=spec)
    scene.apply(registry, deployment(), scene.promotion())
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion("1")

    role_of(kubectl, namespace, {"deployments": ["get", "list", "watch"]})
    scene.registry.register(scene.model, accuracy=0.96)
    scene.wait("it is told", lambda: scene.condition("Stalled") == ("True", "Forbidden"))
    said = [c["message"] for c in scene.status()["conditions"] if c["type"] == "Stalled"]
    assert "patch" in said[0] and "deployments" in said[0], said
    role_of(kubectl, namespace, {"deployments": ["get", "list", "watch", "patch"]})
    scene.kubectl("annotate", "mp", "p", "looked=again")  # else it looks again within minutes
    scene.wait_champion("2")

    role_of(kubectl, namespace, {"secrets": ["list"]})
    login = {"credentialsSecretRef": {"name": "login"}}
    scene.apply(
        _object("v1", "Secret", "login", stringData={"token": "t"}),
        {**registry, "spec": {**spec, **login}},
    )
    scene.wait("it is told", lambda: scene.condition("Stalled") == ("True", "Forbidden"))
    assert scene.condition("Ready")[0] == "True"
    role_of(kubectl, namespace, {"secrets": ["get"]})
    scene.registry.register(scene.model, accuracy=0.97)
    scene.wait_champion("3", 120)


def granted(overlay: list[Any]) -> set[tuple[str, str]]:
    """Verbs and resources (without their subresource) that are bound to the operator."""
    bindings = [o for o in overlay if o["kind"].endswith("Binding")]
    roles = {(b["roleRef"]["kind"], b["roleRef"]["name"]) for b in bindings}
    rules = [r for o in overlay if (o["kind"], o["metadata"]["name"]) in roles for r in o["rules"]]
    return {
        (verb, resource.split("/")[0])
        for rule in rules
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
