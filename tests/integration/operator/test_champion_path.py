"""The main job: new versions become champions, or are refused, or are rolled back."""

import json
import time

import pytest

from tests.integration.operator.conftest import LEASE_NAMESPACE, Scene, deployment

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(240)]
VERSION_MODE = [
    {
        "name": "api",
        "deployment": {"name": "api", "container": "server"},
        "modelSource": {"type": "Version", "envVar": "MODEL_URI"},
    }
]


def promoted(scene: Scene, *versions: float, **spec: object) -> None:
    scene.apply(scene.promotion(**spec))
    for accuracy in versions:
        version = scene.registry.register(scene.model, accuracy=accuracy)
        scene.wait_champion(version)


@pytest.mark.parametrize("targets", [None, VERSION_MODE], ids=["alias", "version"])
def test_two_champions_a_refusal_and_a_rollback(
    scene: Scene, targets: list[dict[str, object]] | None
) -> None:
    if targets:
        promoted(scene, 0.91, 0.95, targets=targets)
    else:
        promoted(scene, 0.91, 0.95)
    assert scene.registry.stages(scene.model) == {"1": "Archived", "2": "Production"}
    assert scene.template()["podium.dev/model-version"] == "2"

    scene.registry.register(scene.model, accuracy=0.5)
    scene.wait("3 is refused", lambda: scene.phase() == "Rejected")
    assert scene.registry.alias(scene.model) == "2"
    said = "podium.dev/champion/validation"
    scene.wait(
        "MLflow tells",
        lambda: scene.registry.tags(scene.model, "3").get(said) == "failed: accuracy",
    )

    scene.apply(deployment(fault="crash@4"))
    scene.kubectl("rollout", "status", "deployment/api", "--timeout=60s")
    scene.registry.register(scene.model, accuracy=0.99)
    scene.wait("4 goes back", lambda: scene.phase() == "RolledBack", 90)
    scene.wait_champion("2")
    assert [q["version"] for q in scene.status()["quarantined"]] == ["4"]
    assert scene.registry.stages(scene.model) == {
        "1": "Archived",
        "2": "Production",
        "4": "Archived",
    }

    scene.decide("back", "Rollback", reason="answers look wrong")
    scene.wait_champion("1")
    scene.wait("it is held", lambda: scene.condition("Stalled") == ("True", "Held"))
    stages = scene.registry.stages(scene.model)
    assert (stages["1"], stages["2"]) == ("Production", "Archived")
    answered = scene.kubectl.get("promotiondecision", "back")["status"]
    assert answered["outcome"] == "Applied"


def test_status_wiped_and_promotion_recreated_lose_nothing(scene: Scene) -> None:
    promoted(scene, 0.91, 0.95)
    scene.decide("back", "Rollback", reason="wrong")
    scene.wait_champion("1")
    before = scene.template()

    scene.kubectl("patch", "mp", "p", "--subresource=status", "--type=json", "-p",
                  '[{"op": "remove", "path": "/status"}]')  # fmt: skip
    scene.wait("status is back", lambda: bool(scene.status().get("hold")))
    scene.wait_champion("1")

    scene.kubectl("delete", "mp", "p")
    scene.apply(scene.promotion())
    scene.wait("status is back", lambda: bool(scene.status().get("hold")))
    scene.wait_champion("1")
    assert scene.template() == before, "nothing was restarted"


def test_a_pod_that_was_evicted_long_ago_keeps_nothing_up(scene: Scene) -> None:
    """Kubernetes keeps it, though its ReplicaSet has no replicas any more."""
    promoted(scene, 0.91)
    pod = scene.kubectl("get", "pods", "-o", "name").split()[0]
    scene.kubectl("annotate", pod, "podium.dev/kwok-fault=evicted")
    scene.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", pod, "--timeout=30s")
    scene.wait_champion("1")
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion("2")
    assert scene.kubectl("get", pod, "-o", "jsonpath={.status.reason}") == "Evicted"


def test_drift_is_reverted(scene: Scene) -> None:
    promoted(scene, 0.91, 0.95)
    scene.registry.set_alias(scene.model, "champion", "1")
    scene.wait("it is moved back", lambda: scene.registry.alias(scene.model) == "2")
    scene.wait_champion("2")


def test_without_a_candidate_moving_the_alias_is_enough(scene: Scene) -> None:
    scene.registry.register(scene.model, accuracy=0.91)
    scene.registry.set_alias(scene.model, "champion", "1")
    scene.apply(scene.promotion(candidate=None))
    scene.wait_champion("1")
    assert "podium.dev/move-id" not in scene.template(), "adoption restarts nothing"
    scene.registry.register(scene.model, accuracy=0.95)
    scene.registry.register(scene.model, accuracy=0.2)
    scene.registry.set_alias(scene.model, "champion", "2")
    scene.wait_champion("2")
    assert scene.template()["podium.dev/model-version"] == "2"
    scene.registry.set_alias(scene.model, "champion", "3")
    scene.wait("3 is refused", lambda: scene.registry.alias(scene.model) == "2")
    scene.wait_champion("2")


def test_approval_by_a_quorum(scene: Scene) -> None:
    scene.apply(scene.promotion(approval={"required": 2}))
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait("it asks", lambda: scene.phase() == "AwaitingApproval")
    attempt = scene.status()["attempt"]
    said = {"attemptID": attempt["id"], "evidenceDigest": attempt["evidenceDigest"]}
    scene.decide("one", "Approve", **said)
    scene.wait("one", lambda: len(scene.status()["attempt"].get("approvals", [])) == 1)
    assert scene.registry.alias(scene.model) is None
    scene.decide("two", "Approve", **{**said, "decidedBy": "bob"})
    scene.wait_champion("1")


def test_a_killed_operator_goes_on_where_it_was(scene: Scene) -> None:
    promoted(scene, 0.91)
    for accuracy in (0.92, 0.93, 0.94):
        version = scene.registry.register(scene.model, accuracy=accuracy)
        scene.wait("it has begun", lambda v=version: scene.status()["attempt"]["version"] == v)  # type: ignore[misc]
        scene.operator.kill()
        scene.operator.start()
        scene.wait_champion(version, 90)


def test_at_rest_nothing_is_written(scene: Scene) -> None:
    promoted(scene, 0.91)
    time.sleep(2)
    before = (
        scene.get()["metadata"]["resourceVersion"],
        json.dumps(scene.registry.model(scene.model)),
    )
    time.sleep(8)
    after = (
        scene.get()["metadata"]["resourceVersion"],
        json.dumps(scene.registry.model(scene.model)),
    )
    assert before == after


def test_staging_and_production_chain(scene: Scene) -> None:
    scene.apply(deployment("staging"))
    staging = scene.promotion(
        "staging",
        alias="staging",
        stage="Staging",
        targets=[{"name": "api", "deployment": {"name": "staging"}}],
    )
    gates = [{"name": "soak", "minAge": {"duration": "4s"}}]
    scene.apply(staging, scene.promotion(candidate={"alias": "staging"}, gates=gates))
    scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion("1", 90)
    assert scene.registry.alias(scene.model, "staging") == "1"
    assert scene.registry.stages(scene.model) == {"1": "Production"}
    scene.registry.register(scene.model, accuracy=0.96)
    scene.wait_champion("2", 90)
    assert scene.registry.stages(scene.model) == {"1": "Archived", "2": "Production"}


def test_a_model_that_is_created_again_begins_anew(scene: Scene) -> None:
    promoted(scene, 0.91, 0.95)
    before = scene.template()
    scene.registry.call("DELETE", "registered-models/delete", {"name": scene.model})
    scene.registry.create(scene.model)
    scene.registry.register(scene.model, accuracy=0.5)
    scene.wait("1 is refused", lambda: scene.phase() == "Rejected")
    assert scene.registry.alias(scene.model) is None
    assert scene.template() == before, "nothing is restarted"

    scene.registry.register(scene.model, accuracy=0.92)
    scene.wait_champion("2")
    assert scene.registry.stages(scene.model) == {"2": "Production"}
    actions = [entry["action"] for entry in scene.status()["history"]]
    assert actions[-4:] == ["Recreated", "Rejected", "PromoteIntent", "Promoted"]


def test_a_key_that_leaked_is_taken_out_of_use(scene: Scene) -> None:
    """As docs/operations.md says."""
    promoted(scene, 0.91)
    leaked = scene.status()["signer"]
    scene.kubectl("delete", "secret", "podium-ledger-key", "-n", LEASE_NAMESPACE)
    scene.operator.stop()
    scene.operator.start()
    scene.kubectl(
        "patch",
        "modelpromotion",
        "p",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status": {"signer": null, "formerSigners": null}}',
    )
    version = scene.registry.register(scene.model, accuracy=0.95)
    scene.wait_champion(version)
    status = scene.status()
    assert status["signer"] != leaked
    assert "formerSigners" not in status
