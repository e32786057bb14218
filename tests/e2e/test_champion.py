"""The champion path with real servers: each test asks the pods what they serve, on fresh
connections, and compares with what the version's own artifact answers offline.

What the annotations say is not believed: a container that restarts in place loads whatever the
alias says at that moment, and no annotation changes.
"""

import json
from typing import Any

import pytest

from demo.models import RECIPES
from tests.e2e.brittle import ENDS_THE_SERVER, HANGS_THE_SERVER
from tests.e2e.scene import MOVE_ID, VERSION, Pod, Scene

# The first test waits for cluster, images and MLflow too: ten minutes when nothing is cached.
pytestmark = [pytest.mark.node, pytest.mark.timeout(1800)]

CENTROID, REGRESSION = RECIPES["1"].classifier, RECIPES["2"].classifier


def first_champion(scene: Scene) -> str:
    version = scene.register(CENTROID)
    scene.apply()
    scene.wait_phase(version, "Promoted")
    scene.assert_all_serve(version)
    scene.change("deployment", strategy={"rollingUpdate": {"maxUnavailable": 0}})
    return version


def brittle_in_bake(scene: Scene) -> str:
    """A candidate that has become the champion, is served by every pod and is still watched."""
    scene.change("modelpromotion", rollback={"bakeDuration": "90s"})
    version = scene.register_brittle()
    scene.wait_phase(version, "Baking")
    scene.assert_all_serve(version)
    return version


def test_two_champions_then_one_whose_server_ends_in_bake(scene: Scene) -> None:
    first = first_champion(scene)
    assert scene.stages() == {first: "Production"}

    second = scene.register(REGRESSION)
    scene.wait_phase(second, "Promoted")
    scene.assert_all_serve(second)
    assert scene.stages() == {first: "Archived", second: "Production"}

    third = brittle_in_bake(scene)
    assert scene.stages() == {first: "Archived", second: "Archived", third: "Production"}
    scene.show_odd_flower(scene.pods()[0], ENDS_THE_SERVER)
    status = scene.wait_phase(third, "RolledBack")
    scene.assert_all_serve(second)
    assert scene.stages() == {first: "Archived", second: "Production", third: "Archived"}
    # One exit: not ready, ended, started again. Which of them is seen first varies.
    told = status["attempt"]["reason"]
    assert told in ("ReadinessLost", "ContainerFailed", "ContainerRestarted")
    assert [each["version"] for each in status["quarantined"]] == [third]
    assert status["champion"]["version"] == second
    assert "hold" not in status


def test_wiped_status_and_recreated_promotion_lose_nothing(scene: Scene) -> None:
    first = first_champion(scene)
    failed = brittle_in_bake(scene)
    scene.show_odd_flower(scene.pods()[0], HANGS_THE_SERVER)
    known = scene.wait_phase(failed, "RolledBack")
    assert known["attempt"]["reason"] == "ReadinessLost"
    scene.assert_all_serve(first)
    containers = {(pod.uid, pod.restarts) for pod in scene.pods()}
    uid = scene.promotion()["metadata"]["uid"]

    def nothing_lost() -> None:
        status: dict[str, Any] = scene.wait("status is restored", lambda: restored(scene))
        assert status["history"] == known["history"]
        assert without_time(status["quarantined"]) == without_time(known["quarantined"])
        for what in ("version", "moveID"):
            assert status["champion"][what] == known["champion"][what]
        # The newest version is the candidate again, and is not tried again.
        scene.wait("it is refused", lambda: scene.condition("Stalled")[1] == "Quarantined")
        scene.assert_all_serve(first)
        assert {(pod.uid, pod.restarts) for pod in scene.pods()} == containers

    scene.kubectl("patch", "mp", "iris", "--subresource=status", "--type=json",
                  f"--patch={json.dumps([{'op': 'remove', 'path': '/status'}])}")  # fmt: skip
    nothing_lost()

    scene.kubectl("delete", "modelpromotion", "iris", "--wait=true")
    scene.apply()
    assert scene.promotion()["metadata"]["uid"] != uid
    nothing_lost()


def without_time(quarantined: list[dict[str, str]]) -> list[tuple[str, str]]:
    """The ledger keeps whole seconds."""
    return [(each["version"], each["reason"]) for each in quarantined]


def restored(scene: Scene) -> dict[str, Any] | None:
    status = scene.status()
    ready = scene.condition("Ready", status)[0] == "True"
    return status if ready and status.get("history") else None


@pytest.mark.parametrize("rollback", ["automatic", "by decision"])
def test_a_container_restarted_in_mid_promotion(scene: Scene, rollback: str) -> None:
    """An old pod restarts in place while the alias is at the candidate, and so serves the
    candidate under the old move's annotations. Going back must not keep it: Kubernetes would, had
    the pod template become again what it was."""
    champion = first_champion(scene)
    # New pods become ready, and old ones stay, until the test says that it is enough.
    hold_rollout = {"minReadySeconds": 300, "strategy": {"rollingUpdate": {"maxSurge": 1}}}
    scene.change("deployment", **hold_rollout)
    before = scene.pods()

    candidate = scene.register_brittle()
    scene.wait("the move has begun", lambda: scene.template().get(VERSION) == candidate)
    assert scene.alias() == candidate
    assert not any(pod.ready for pod in new_pods(scene)), "too late for this test"
    restarted = scene.restart_in_place(before[0])
    assert restarted.move_id == before[0].move_id
    assert scene.serves(restarted) == candidate, "the trap is set"
    assert scene.condition("Ready")[0] == "False"

    if rollback == "automatic":
        scene.wait_phase(candidate, "RollingBack", meanwhile=lambda: end_new_servers(scene))
    else:
        scene.decide("back", "Rollback", "the answers look wrong")
        scene.wait_phase(candidate, "RollingBack")
    assert restarted.uid in {pod.uid for pod in scene.pods()}, "the trap is still there"
    scene.change("deployment", minReadySeconds=0)
    status = scene.wait_phase(candidate, "RolledBack")
    scene.assert_all_serve(champion)

    assert scene.stages() == {champion: "Production", candidate: "Archived"}
    if rollback == "automatic":
        assert status["attempt"]["reason"] == "ContainerFailed"
        assert [each["version"] for each in status["quarantined"]] == [candidate]
    else:
        assert status["attempt"]["reason"] == "RollbackByDecision"
        assert scene.condition("Stalled") == ("True", "Held")


def end_new_servers(scene: Scene) -> None:
    for pod in new_pods(scene):
        if pod.ready:
            scene.show_odd_flower(pod, ENDS_THE_SERVER)


def new_pods(scene: Scene) -> list[Pod]:
    """Pods of the move that the Deployment's template carries now."""
    move = scene.template()[MOVE_ID]
    return [pod for pod in scene.pods() if pod.move_id == move]
