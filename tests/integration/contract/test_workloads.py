"""Deployments that roll out, by their status and pods: real controllers and kwok, or the model.

Only what stays is compared (what each reaches, and what never happens on the way); how long it
takes is the machine's.
"""

from __future__ import annotations

from typing import Any

from tests.integration.contract.test_objects import deployment
from tests.integration.contract.transport import Api, Json

FAULT, VERSION = "podium.dev/kwok-fault", "podium.dev/model-version"


def path_of(api: Api) -> str:
    return api.path("deployments", "api", "apps/v1")


def start(api: Api, fault: str = "", **spec: Any) -> Json:
    """The Deployment of two replicas, rolled out."""
    annotations = {VERSION: "1", **({FAULT: fault} if fault else {})}
    made = api.create("deployments", deployment(annotations=annotations, **spec), "apps/v1")
    assert made.status == 201, made
    return api.until(path_of(api), rolled_out)


def rolled_out(found: Json) -> bool:
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and all(status.get(name) == wanted for name in names)
        and reason(found, "Progressing") == "NewReplicaSetAvailable"
    )


def reason(found: Json, kind: str) -> str:
    for each in found.get("status", {}).get("conditions", []):
        if each["type"] == kind:
            return str(each["reason"])
    return ""


def counts(found: Json) -> dict[str, int]:
    known = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return {name: found["status"].get(name, 0) for name in (*known, "unavailableReplicas")}


def to_version(api: Api, version: str, **more: str) -> Json:
    template = {"metadata": {"annotations": {VERSION: version, **more}}}
    got = api.merge(path_of(api), {"spec": {"template": template}})
    assert got.status == 200, got
    return got.body


def pods(api: Api) -> list[Json]:
    found = api.get(api.path("pods", group="v1"), labelSelector="app=api").body["items"]
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def of_version(api: Api, version: str) -> list[Json]:
    return [each for each in pods(api) if each["metadata"]["annotations"][VERSION] == version]


def container_of(pod: Json) -> Json:
    found: Json = pod["status"]["containerStatuses"][0]
    return found


def ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def test_a_new_deployment_gets_its_pods(api: Api) -> None:
    found = start(api)
    assert counts(found) == {
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 0,
    }
    assert reason(found, "Available") == "MinimumReplicasAvailable"
    running = pods(api)
    assert len(running) == 2
    for pod in running:
        assert ready(pod)
        assert pod["status"]["phase"] == "Running"
        assert pod["spec"]["nodeName"]
        digest = pod["metadata"]["labels"]["pod-template-hash"]
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["controller"]) == ("ReplicaSet", True)
        assert owner["name"] == f"api-{digest}"
        container = container_of(pod)
        assert (container["name"], container["ready"], container["restartCount"]) == (
            "server",
            True,
            0,
        )
        assert container["state"]["running"]["startedAt"]


def test_a_rollout_never_has_too_few_and_keeps_its_limits(api: Api) -> None:
    first = start(api)
    to_version(api, "2")
    last = api.until(path_of(api), rolled_out)
    assert last["status"]["observedGeneration"] == 2
    assert {each["metadata"]["annotations"][VERSION] for each in pods(api)} == {"2"}
    told = api.server.changes(
        api.path("deployments", group="apps/v1"), int(first["metadata"]["resourceVersion"]), 4
    )
    states = [found for _, found in told if "observedGeneration" in found.get("status", {})]
    assert len(states) > 2
    assert all(found["status"].get("readyReplicas", 0) >= 2 for found in states)
    assert all(found["status"].get("replicas", 0) <= 3 for found in states)


def test_a_template_that_comes_back_reuses_its_replica_set(api: Api) -> None:
    start(api)
    before = {each["metadata"]["labels"]["pod-template-hash"] for each in pods(api)}
    to_version(api, "2")
    api.until(path_of(api), rolled_out)
    between = {each["metadata"]["labels"]["pod-template-hash"] for each in pods(api)}
    to_version(api, "1")
    api.until(path_of(api), rolled_out)
    after = {each["metadata"]["labels"]["pod-template-hash"] for each in pods(api)}
    assert before == after != between


def test_a_version_that_is_never_ready_leaves_the_old_pods(api: Api) -> None:
    start(api, fault="not-ready@2", progressDeadlineSeconds=3)
    to_version(api, "2")
    stuck = api.until(
        path_of(api), lambda found: reason(found, "Progressing") == "ProgressDeadlineExceeded"
    )
    assert counts(stuck) == {
        "replicas": 3,
        "updatedReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 1,
    }
    assert reason(stuck, "Available") == "MinimumReplicasAvailable"
    (new,) = of_version(api, "2")
    container = container_of(new)
    assert not ready(new)
    assert (container["ready"], container["started"], container["restartCount"]) == (
        False,
        False,
        0,
    )
    assert "running" in container["state"]
    assert sum(map(ready, of_version(api, "1"))) == 2


def test_a_version_that_crashes_restarts_for_ever(api: Api) -> None:
    start(api, fault="crash@2")
    to_version(api, "2")

    def crashed_twice(_: Json) -> bool:
        return any(
            each["status"].get("containerStatuses") and container_of(each)["restartCount"] >= 2
            for each in of_version(api, "2")
        )

    stuck = api.until(path_of(api), crashed_twice)
    assert counts(stuck)["readyReplicas"] == 2
    (new,) = of_version(api, "2")
    end = container_of(new)["lastState"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (1, "Error")
    assert not ready(new)
    back = to_version(api, "1")
    assert back["metadata"]["generation"] == 3
    api.until(path_of(api), rolled_out)
    assert of_version(api, "2") == []


def test_readiness_that_is_lost_later_is_seen(api: Api) -> None:
    start(api)
    name = pods(api)[0]["metadata"]["name"]
    pod = api.path("pods", name, "v1")
    api.server.sleep(1.1)  # condition times have whole seconds
    assert api.merge(pod, {"metadata": {"annotations": {FAULT: "not-ready"}}}).status == 200
    found = api.until(path_of(api), lambda each: counts(each)["readyReplicas"] == 1)
    assert counts(found)["updatedReplicas"] == 2
    lost = api.get(pod).body
    assert not ready(lost)
    at = {each["type"]: each["lastTransitionTime"] for each in lost["status"]["conditions"]}
    assert at["Ready"] > container_of(lost)["state"]["running"]["startedAt"]


def test_a_pod_that_is_evicted_is_replaced(api: Api) -> None:
    start(api)
    name = pods(api)[0]["metadata"]["name"]
    pod = api.path("pods", name, "v1")
    api.merge(pod, {"metadata": {"annotations": {FAULT: "evicted"}}})
    api.until(pod, lambda found: found["status"].get("reason") == "Evicted")
    assert api.get(pod).body["status"]["phase"] == "Failed"
    api.until(path_of(api), lambda found: len(pods(api)) == 3 and rolled_out(found))


def test_a_container_that_restarts_in_place_is_ready_again(api: Api) -> None:
    start(api, fault="restart-1@2")
    to_version(api, "2")
    api.until(
        path_of(api),
        lambda found: (
            rolled_out(found)
            and [container_of(each)["restartCount"] for each in pods(api)] == [1, 1]
        ),
    )


def test_a_deleted_pod_comes_back_as_another(api: Api) -> None:
    start(api)
    first = pods(api)[0]
    api.delete(api.path("pods", first["metadata"]["name"], "v1"))
    api.until(
        path_of(api),
        lambda found: (
            rolled_out(found)
            and first["metadata"]["uid"] not in {each["metadata"]["uid"] for each in pods(api)}
        ),
    )


def test_a_paused_deployment_does_not_roll_out(api: Api) -> None:
    start(api)
    api.merge(path_of(api), {"spec": {"paused": True}})
    changed = to_version(api, "2")
    generation = changed["metadata"]["generation"]
    api.until(path_of(api), lambda found: found["status"]["observedGeneration"] == generation)
    api.server.sleep(1)
    assert len(of_version(api, "1")) == 2
    assert of_version(api, "2") == []
    api.merge(path_of(api), {"spec": {"paused": False}})
    api.until(path_of(api), rolled_out)
    assert len(of_version(api, "2")) == 2


def test_a_deployment_is_scaled(api: Api) -> None:
    start(api)
    api.merge(path_of(api), {"spec": {"replicas": 4}})
    api.until(path_of(api), lambda found: rolled_out(found) and len(pods(api)) == 4)
    api.merge(path_of(api), {"spec": {"replicas": 1}})
    api.until(path_of(api), lambda found: rolled_out(found) and len(pods(api)) == 1)


def test_recreate_ends_the_old_pods_first(api: Api) -> None:
    start(api, strategy={"type": "Recreate"})
    to_version(api, "2", **{FAULT: "not-ready@2"})
    found = api.until(
        path_of(api),
        lambda each: counts(each)["updatedReplicas"] == 2 and len(of_version(api, "2")) == 2,
    )
    assert counts(found)["readyReplicas"] == 0
    assert of_version(api, "1") == []


def test_a_deleted_deployment_takes_its_pods(api: Api) -> None:
    start(api)
    assert api.delete(path_of(api), {"propagationPolicy": "Background"}).status == 200
    assert api.get(path_of(api)).status == 404
    api.until(
        api.path("pods", group="v1"), lambda listed: listed["kind"] == "PodList" and not pods(api)
    )


def test_a_pod_that_fits_no_node_waits(api: Api) -> None:
    body = deployment()
    body["spec"]["template"]["spec"]["nodeSelector"] = {"gpu": "yes"}
    api.create("deployments", body, "apps/v1")

    def unschedulable(_: Json) -> bool:
        conditions = [c for pod in pods(api) for c in pod["status"].get("conditions", [])]
        return [each["reason"] for each in conditions if each["type"] == "PodScheduled"] == [
            "Unschedulable",
            "Unschedulable",
        ]

    found = api.until(path_of(api), unschedulable)
    assert counts(found)["readyReplicas"] == 0
    assert {each["status"]["phase"] for each in pods(api)} == {"Pending"}
