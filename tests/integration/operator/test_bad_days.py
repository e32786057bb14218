"""What only shows at run time: each case becomes a condition with its reason and one Event, runs
no hot loop, loses nothing, and the promotion carries on by itself when the cause goes away."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from testbed.cluster import Cluster
from testbed.mlflow import MlflowServer
from tests.integration.operator.conftest import Scene, _object, api_server_killed, deployment
from tests.integration.operator.unwell import Mood, Unwell

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(240)]


@pytest.fixture
def proxy(mlflow_server: MlflowServer) -> Iterator[Unwell]:
    with Unwell(mlflow_server.uri) as unwell:
        yield unwell


@dataclass(frozen=True)
class Case:
    """`spoil` before the promotion is applied; `mend` is what a person then does."""

    name: str
    reason: str
    spoil: Callable[[Scene, Unwell], Any]
    mend: Callable[[Scene, Unwell], Any]
    spec: dict[str, Any] | None = None


def events(scene: Scene, reason: str) -> list[dict[str, Any]]:
    """The Events of promotion p with that reason."""
    found = json.loads(scene.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    ours = [e for e in found if e["regarding"].get("kind") == "ModelPromotion"]
    return [e for e in ours if e["reason"] == reason]


def registry(scene: Scene, proxy: Unwell, **spec: Any) -> None:
    full = {"trackingURI": proxy.uri, "pollInterval": "1s", **spec}
    scene.apply(_object("podium.dev/v1alpha1", "ModelRegistry", "mlflow", spec=full))


def secret(scene: Scene, name: str = "login") -> None:
    scene.apply(_object("v1", "Secret", name, stringData={"token": "s3cret-t0ken"}))


def mood(value: Mood) -> Callable[[Scene, Unwell], None]:
    def change(scene: Scene, proxy: Unwell) -> None:
        proxy.mood = value

    return change


def owner_of_env(scene: Scene, proxy: Unwell) -> None:
    scene.apply(deployment(env=[{"name": "MODEL_URI", "value": "models:/other/1"}]))


def drop_env(scene: Scene, proxy: Unwell) -> None:
    scene.apply(deployment())


VERSION = {"type": "Version", "envVar": "MODEL_URI"}
CASES = [
    Case(
        "no such registry",
        "RegistryNotFound",
        lambda s, p: s.kubectl("delete", "modelregistry", "mlflow"),
        registry,
    ),
    Case(
        "no such model",
        "ModelNotFound",
        lambda s, p: s.registry.call("DELETE", "registered-models/delete", {"name": s.model}),
        lambda s, p: (s.registry.create(s.model), s.registry.register(s.model, accuracy=0.95)),
    ),
    Case(
        "no such Secret",
        "SecretNotFound",
        lambda s, p: registry(s, p, credentialsSecretRef={"name": "login"}),
        lambda s, p: secret(s),
    ),
    Case(
        "no such Deployment",
        "TargetNotFound",
        lambda s, p: s.kubectl("delete", "deployment", "api"),
        lambda s, p: s.apply(deployment()),
    ),
    Case(
        "no such container",
        "ContainerNotFound",
        lambda s, p: None,
        lambda s, p: s.apply(s.promotion()),
        {"targets": [{"name": "api", "deployment": {"name": "api", "container": "srv"}}]},
    ),
    Case(
        "a model that the registry does not allow",
        "ModelNotAllowed",
        lambda s, p: registry(s, p, modelPatterns=["churn*"]),
        registry,
    ),
    Case(
        "a field of another manager",
        "FieldConflict",
        owner_of_env,
        drop_env,
        {"targets": [{"name": "api", "deployment": {"name": "api"}, "modelSource": VERSION}]},
    ),
    Case("a 500", "RegistryUnavailable", mood(Mood.ERROR_500), mood(Mood.WELL)),
    Case("a 429", "RegistryThrottled", mood(Mood.THROTTLED), mood(Mood.WELL)),
    Case("a login page", "NotMLflow", mood(Mood.HTML), mood(Mood.WELL)),
    Case("a host check", "HostNotAllowed", mood(Mood.WRONG_HOST), mood(Mood.WELL)),
    Case("a 401", "Unauthenticated", mood(Mood.UNAUTHENTICATED), mood(Mood.WELL)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cause_is_named_and_gone_it_goes_on(case: Case, scene: Scene, proxy: Unwell) -> None:
    registry(scene, proxy)
    scene.registry.register(scene.model, accuracy=0.95)
    case.spoil(scene, proxy)
    scene.apply(scene.promotion(**(case.spec or {})))
    scene.wait(case.reason, lambda: scene.condition("Stalled")[1] == case.reason)
    conditions = json.dumps(scene.status()["conditions"])
    assert "s3cret" not in conditions
    time.sleep(3)
    before = proxy.requests
    version = scene.get()["metadata"]["resourceVersion"]
    time.sleep(4)
    assert proxy.requests - before <= 20, "a hot loop"
    assert scene.get()["metadata"]["resourceVersion"] == version, "writes though nothing changes"
    (event,) = events(scene, case.reason)
    assert event["type"] == "Warning"
    assert event["note"] in conditions.replace('\\"', '"')
    case.mend(scene, proxy)
    scene.wait_champion("1", 120)


def test_a_registry_that_goes_away_changes_nothing(scene: Scene, proxy: Unwell) -> None:
    registry(scene, proxy)
    scene.registry.register(scene.model, accuracy=0.95)
    scene.apply(scene.promotion())
    scene.wait_champion("1")
    before = scene.template()
    proxy.mood = Mood.ERROR_500
    scene.registry.register(scene.model, accuracy=0.96)
    scene.wait("it is told", lambda: scene.condition("Stalled")[1] == "RegistryUnavailable")
    assert scene.condition("Ready") == ("True", "ChampionServed")
    assert scene.template() == before
    proxy.mood = Mood.WELL
    scene.wait_champion("2", 120)


def test_a_version_deleted_in_mid_attempt(scene: Scene) -> None:
    gates = [{"name": "reviewed", "tag": {"key": "reviewed", "values": ["yes"]}}]
    scene.apply(scene.promotion(gates=gates))
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait("it is tried", lambda: scene.phase() == "Validating")
    scene.registry.delete_version(scene.model, "1")
    scene.wait("it ends", lambda: scene.phase() == "Superseded")
    version = scene.registry.register(scene.model, accuracy=0.95)
    body = {"name": scene.model, "version": version, "key": "reviewed", "value": "yes"}
    scene.registry.call("POST", "model-versions/set-tag", body)
    scene.wait_champion(version)


def test_an_alias_moved_in_mid_attempt(scene: Scene) -> None:
    scene.apply(scene.promotion())
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion("1")
    scene.apply(deployment(fault="not-ready@3"))
    scene.kubectl("rollout", "status", "deployment/api", "--timeout=60s")
    scene.registry.register(scene.model, accuracy=0.2)
    scene.wait("2 is refused", lambda: scene.phase() == "Rejected")
    scene.registry.register(scene.model, accuracy=0.97)
    scene.wait("3 rolls out", lambda: scene.phase() == "Verifying")
    scene.registry.set_alias(scene.model, "champion", "2")
    scene.wait("it is seen", lambda: scene.registry.alias(scene.model) != "2")
    scene.wait("it ends well", lambda: scene.phase() in ("RolledBack", "Promoted"), 120)
    scene.wait_champion("1", 120)


SLOW = {"rollout": {"progressDeadline": "2m"}}


def rolling_out(scene: Scene, fault: str, **spec: Any) -> None:
    """Version 1 is served, and 2 is on its way with pods that have `fault`."""
    scene.apply(deployment(fault=f"{fault}@2"), scene.promotion(**spec))
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion("1")
    scene.registry.register(scene.model, accuracy=0.96)
    scene.wait("2 rolls out", lambda: scene.phase() == "Verifying")


def test_a_quota_in_mid_attempt(scene: Scene) -> None:
    scene.apply(scene.promotion(**SLOW))
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion("1")
    quota = _object("v1", "ResourceQuota", "small", spec={"hard": {"pods": "2"}})
    scene.apply(quota)
    used = ("resourcequota", "small")
    scene.wait("it counts", lambda: scene.kubectl.get(*used)["status"].get("used") == {"pods": "2"})
    scene.registry.register(scene.model, accuracy=0.96)
    said = lambda: str(scene.status()["attempt"].get("message"))  # noqa: E731
    scene.wait("the quota is named", lambda: "exceeded quota: small" in said())
    assert scene.condition("Ready") == ("False", "RollingOut")
    scene.kubectl("delete", *used)
    scene.wait_champion("2", 100)


def test_a_deployment_deleted_in_mid_attempt(scene: Scene) -> None:
    rolling_out(scene, "not-ready", **SLOW)
    scene.kubectl("delete", "deployment", "api")
    scene.wait("it is told", lambda: scene.condition("Stalled") == ("False", "TargetNotFound"))
    assert len(events(scene, "TargetNotFound")) == 1
    assert scene.phase() == "Verifying"
    scene.apply(deployment())
    scene.wait_champion("2", 100)
    assert scene.template()["podium.dev/model-version"] == "2"


def test_mlflow_restarted_in_mid_attempt(scene: Scene) -> None:
    with MlflowServer() as server:
        scene.registry.uri = server.uri
        scene.registry.create(scene.model)
        spec = {"trackingURI": server.uri, "pollInterval": "1s"}
        scene.apply(_object("podium.dev/v1alpha1", "ModelRegistry", "mlflow", spec=spec))
        rolling_out(scene, "slow-5s")
        server.stop()
        away = ("False", "RegistryUnavailable")
        scene.wait("it is told", lambda: scene.condition("Stalled") == away)
        scene.kubectl("rollout", "status", "deployment/api", "--timeout=60s")
        time.sleep(20)  # the attempt's deadline passes: what succeeded is not given up
        assert len(events(scene, "RegistryUnavailable")) == 1
        assert scene.phase() == "Verifying"
        server.start()
        scene.wait_champion("2", 100)
        assert scene.registry.stages(scene.model) == {"1": "Archived", "2": "Production"}
        scene.kubectl("delete", "mp", "p")


def test_the_api_server_restarted_in_mid_attempt(scene: Scene, bed: Cluster) -> None:
    rolling_out(scene, "slow-8s", **SLOW)
    with api_server_killed(bed):
        time.sleep(15)  # longer than the Lease
    scene.wait_champion("2", 100)
    assert "Traceback" not in scene.log(200)


def test_a_tag_of_100_000_characters(scene: Scene) -> None:
    scene.apply(scene.promotion())
    version = scene.registry.register(scene.model, accuracy=0.95)
    body = {"name": scene.model, "version": version, "key": "notes", "value": "ö" * 100_000}
    scene.registry.call("POST", "model-versions/set-tag", body)
    scene.wait_champion("1")
