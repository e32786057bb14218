"""The champion path on other MLflow servers: on PostgreSQL, and on 2.2, which has no aliases."""

from collections.abc import Iterator

import pytest

from testbed.mlflow import Backend, MlflowServer, mlflow_environment
from tests.integration.operator.conftest import Scene, deployment

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(240)]
POSTGRESQL, OLD = "3.17-postgresql", "2.2"
on_postgresql = pytest.mark.parametrize("mlflow_server", [POSTGRESQL], indirect=True)
on_2_2 = pytest.mark.parametrize("mlflow_server", [OLD], indirect=True)
VERSION_MODE = [
    {
        "name": "api",
        "deployment": {"name": "api", "container": "server"},
        "modelSource": {"type": "Version", "envVar": "MODEL_URI"},
    }
]


@pytest.fixture(scope="module")
def mlflow_server(request: pytest.FixtureRequest) -> Iterator[MlflowServer]:
    """In place of the session's own, for this module's scenes."""
    made = (
        MlflowServer(backend=Backend.POSTGRESQL)
        if request.param == POSTGRESQL
        else MlflowServer(python=mlflow_environment("2.2.2"))
    )
    with made as server:
        yield server


@on_postgresql
def test_champions_a_refusal_and_a_rollback_on_postgresql(scene: Scene) -> None:
    scene.apply(scene.promotion())
    for accuracy in (0.91, 0.95):
        scene.wait_champion(scene.registry.register(scene.model, accuracy=accuracy))
    assert scene.registry.stages(scene.model) == {"1": "Archived", "2": "Production"}
    scene.registry.register(scene.model, accuracy=0.5)
    scene.wait("3 is refused", lambda: scene.phase() == "Rejected")
    scene.apply(deployment(fault="crash@4"))
    scene.kubectl("rollout", "status", "deployment/api", "--timeout=60s")
    scene.registry.register(scene.model, accuracy=0.99)
    scene.wait("4 goes back", lambda: scene.phase() == "RolledBack", 90)
    scene.wait_champion("2")
    assert scene.template()["podium.dev/model-version"] == "2"


@on_2_2
def test_without_aliases_a_version_tag_stands_for_the_champion(scene: Scene) -> None:
    def champions() -> list[str]:
        tag = "alias_champion"
        versions = scene.registry.versions(scene.model)
        return [v for v in versions if scene.registry.tags(scene.model, v).get(tag) == "true"]

    def served(version: str) -> bool:
        status = scene.status()
        at = status.get("champion", {}).get("version")
        settled = status.get("attempt", {}).get("phase") in ("Promoted", "RolledBack")
        return at == version and settled and scene.condition("Ready")[0] == "True"

    scene.apply(scene.promotion())
    scene.registry.register(scene.model, accuracy=0.91)
    scene.wait(
        "pods that load by alias are refused",
        lambda: scene.condition("Stalled") == ("True", "AliasesUnsupported"),
    )
    said = next(c for c in scene.status()["conditions"] if c["type"] == "Stalled")["message"]
    assert "Version" in said
    assert champions() == []
    assert "podium.dev/model-version" not in scene.template()
    registry = scene.kubectl.get("modelregistry", "mlflow")["status"]
    ready = next(c for c in registry["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Connected")
    assert "alias_<alias>" in ready["message"] and "only modelSource Version" in ready["message"]
    assert registry["serverVersion"] == "2.2.2"
    assert registry["capabilities"] == {"aliases": False, "stages": True, "webhooks": False}

    scene.apply(scene.promotion(targets=VERSION_MODE))
    scene.wait("1 is served", lambda: served("1"))
    assert champions() == ["1"]
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait("2 is served", lambda: served("2"))
    assert champions() == ["2"]
    assert scene.registry.stages(scene.model) == {"1": "Archived", "2": "Production"}
    pod = scene.kubectl.get("deployment", "api")["spec"]["template"]["spec"]
    assert {"name": "MODEL_URI", "value": f"models:/{scene.model}/2"} in pod["containers"][0]["env"]
    scene.decide("back", "Rollback", reason="answers look wrong")
    scene.wait("1 is served again", lambda: served("1"))
    assert champions() == ["1"]
