"""What is seen of a Deployment, and what Podium applies to it."""

from typing import Any

import pytest

from podium.api.promotion import DeploymentRef, ModelSource, ModelSourceType, Target
from podium.api.reasons import Reason
from podium.cluster import OwnedField
from podium.engine.observation import Problem, ProblemKind, TargetState
from podium.targets import apply_body, autoscaled, conflict_policy, field_manager, observe
from podium.targets.pods import MOVE_ID
from tests.unit.targets.pods_seen import container, deployment, pod, running, terminated


def target(mode: str = "Alias", *, named: str | None = None, takeover: bool = False) -> Target:
    return Target(
        name="api",
        deployment=DeploymentRef(name="churn", container=named),
        model_source=ModelSource(type=ModelSourceType(mode), takeover=takeover),
    )


def see(raw: dict[str, Any], mode: str = "Alias") -> TargetState:
    return observe(target(mode), raw, None, False)


def template(raw: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = raw["spec"]["template"]
    return found


def with_env(*env: dict[str, Any]) -> dict[str, Any]:
    raw = deployment()
    template(raw)["spec"]["containers"][0]["env"] = list(env)
    return raw


def test_an_absent_or_dying_deployment_is_waited_for() -> None:
    dying = deployment()
    dying["metadata"]["deletionTimestamp"] = "2026-11-21T14:00:00Z"
    for raw in (None, dying):
        problem = observe(target(), raw, None, False).problem
        assert problem is not None
        assert (problem.kind, problem.reason) == (ProblemKind.WAITING, Reason.TARGET_NOT_FOUND)


@pytest.mark.parametrize("named", [None, "servre"])
def test_a_container_that_cannot_be_told_is_asked_for_by_name(named: str | None) -> None:
    raw = deployment()
    template(raw)["spec"]["containers"].append({"name": "proxy"})
    wanted = target(named=named)
    seen = observe(wanted, raw, None, False).problem
    body = apply_body(wanted, raw, model="churn", version="7", move_id="m1")
    assert seen == body
    assert isinstance(seen, Problem)
    assert (seen.kind, seen.reason) == (ProblemKind.STALLED, Reason.CONTAINER_NOT_FOUND)
    assert "server, proxy" in seen.message


def test_what_the_deployment_says_is_seen() -> None:
    raw = deployment(paused=True, strategy={"type": "Recreate"}, replicas=3)
    template(raw)["metadata"]["annotations"] = {
        "podium.dev/model-version": "7",
        "podium.dev/move-id": "m1",
    }
    raw["metadata"]["generation"] = 3
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    raw["status"] |= {"conditions": [condition], "readyReplicas": 1}
    seen = observe(target(), raw, None, True)
    assert (seen.model_version, seen.move_id, seen.env_value) == ("7", "m1", None)
    assert (seen.desired, seen.replicas, seen.updated, seen.ready) == (3, 2, 2, 1)
    assert not seen.observed
    assert seen.progress_deadline_exceeded
    assert seen.paused
    assert seen.recreate
    assert seen.autoscaled
    assert seen.pods is None


def test_why_no_pods_are_made_is_told_in_the_deployments_words() -> None:
    raw = deployment()
    refused = {"type": "ReplicaFailure", "reason": "FailedCreate", "message": "exceeded quota: q"}
    raw["status"]["conditions"] = [{**refused, "status": "True"}]
    assert see(raw).trouble == "FailedCreate: exceeded quota: q"
    raw["status"]["conditions"] = [{**refused, "status": "False"}]
    assert see(raw).trouble is None


def test_a_fresh_deployment_without_status_is_not_settled() -> None:
    raw = deployment()
    del raw["status"]
    del raw["spec"]["replicas"]
    seen = see(raw)
    assert seen.desired == 1
    assert not seen.settled


def test_only_the_deployments_own_pods_count() -> None:
    own = pod(container(state=running()))
    canary = pod(container(state=running()))
    canary["metadata"]["ownerReferences"][0]["name"] = "churn-canary-5d4f"
    job = pod(container(state=running()))
    job["metadata"]["ownerReferences"][0]["kind"] = "Job"
    bare = pod(container(state=running()))
    del bare["metadata"]["ownerReferences"]
    seen = observe(target(), deployment(), [own, canary, job, bare], False)
    assert seen.pods is not None
    assert len(seen.pods) == 1


def test_a_pod_of_another_move_that_was_evicted_is_past() -> None:
    """Kubernetes keeps it when its ReplicaSet has no replicas any more. Of this move, it explains
    why a rollout takes long."""
    evicted = {"phase": "Failed", "reason": "Evicted"}
    now, past, leaving = (pod(container(state=terminated(137)), **evicted) for _ in range(3))
    now["metadata"]["annotations"] = {MOVE_ID: "m2"}
    past["metadata"]["annotations"] = {MOVE_ID: "m1"}
    leaving["metadata"] |= {
        "annotations": {MOVE_ID: "m1"},
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    carrying = deployment()
    carrying["spec"]["template"]["metadata"]["annotations"] = {MOVE_ID: "m2"}
    seen = observe(target(), carrying, [now, past, leaving], False)
    assert seen.pods is not None
    assert [(each.move_id, each.terminating) for each in seen.pods] == [("m2", False), ("m1", True)]


def test_the_template_digest_leaves_out_what_podium_owns() -> None:
    plain = see(deployment()).template
    moved = deployment()
    template(moved)["metadata"]["annotations"] = {
        "podium.dev/model-version": "7",
        "podium.dev/move-id": "m1",
    }
    assert see(moved).template == plain
    template(moved)["metadata"].pop("annotations")
    template(moved)["metadata"]["creationTimestamp"] = None
    assert see(moved).template == plain
    uri = with_env({"name": "MODEL_URI", "value": "models:/churn/7"})
    assert see(uri, "Version").template == see(deployment(), "Version").template
    assert see(uri).template != plain  # in Alias mode the variable is the user's


def test_the_template_digest_sees_what_the_user_changes() -> None:
    plain = see(deployment()).template
    restarted, image = deployment(), deployment()
    template(restarted)["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    template(image)["spec"]["containers"][0]["image"] = "server:2"
    assert len({plain, see(restarted).template, see(image).template}) == 3


def test_observing_changes_nothing() -> None:
    raw = with_env({"name": "MODEL_URI", "value": "x"})
    before = repr(raw)
    see(raw, "Version")
    assert repr(raw) == before


def test_an_alias_target_gets_two_annotations_and_nothing_else() -> None:
    body = apply_body(target(), deployment(), model="churn", version="7", move_id="m1")
    annotations = {"podium.dev/model-version": "7", "podium.dev/move-id": "m1"}
    assert body == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "churn", "namespace": "ml", "uid": "d1"},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    }


def test_a_version_target_also_gets_the_uri_in_its_container() -> None:
    body = apply_body(target("Version"), deployment(), model="churn", version="7", move_id="m1")
    assert isinstance(body, dict)
    assert body["spec"]["template"]["spec"] == {
        "containers": [
            {"name": "server", "env": [{"name": "MODEL_URI", "value": "models:/churn/7"}]}
        ]
    }


def test_a_variable_that_comes_from_elsewhere_stalls() -> None:
    raw = with_env({"name": "MODEL_URI", "valueFrom": {"configMapKeyRef": {"name": "c"}}})
    body = apply_body(target("Version"), raw, model="churn", version="7", move_id="m1")
    assert isinstance(body, Problem)
    assert body.kind is ProblemKind.STALLED
    assert "MODEL_URI" in body.message
    assert see(raw, "Version").env_value is None


ANNOTATION = OwnedField(
    "kubectl-rollout", ".spec.template.metadata.annotations.podium.dev/model-version"
)
ENV = OwnedField(
    "argocd-controller",
    '.spec.template.spec.containers[name="server"].env[name="MODEL_URI"].value',
)
EMPTY_MAP = OwnedField("helm", ".spec.template.metadata.annotations")
OTHER_ENV = OwnedField("helm", ENV.field.replace("MODEL_URI", "MODEL_URI_2"))


@pytest.mark.parametrize(
    ("wanted", "conflicts", "named"),
    [
        (target(), [ANNOTATION], None),
        (target("Version"), [ANNOTATION], None),
        (target(), [EMPTY_MAP], None),
        (target("Version"), [ENV], "argocd-controller"),
        (target("Version"), [ANNOTATION, ENV], "argocd-controller"),
        (target("Version", takeover=True), [ANNOTATION, ENV], None),
        (target("Version", takeover=True), [OTHER_ENV], "helm"),
        (target("Alias", takeover=True), [ENV], "argocd-controller"),
    ],
)
def test_whose_fields_are_forced(
    wanted: Target, conflicts: list[OwnedField], named: str | None
) -> None:
    problem = conflict_policy(wanted, conflicts)
    if named is None:
        assert problem is None
        return
    assert problem is not None
    assert (problem.kind, problem.reason) == (ProblemKind.STALLED, Reason.FIELD_CONFLICT)
    assert named in problem.message
    assert conflicts[-1].field in problem.message
    assert "kubectl-rollout" not in problem.message


def test_field_managers_fit_and_differ() -> None:
    assert field_manager("churn") == "podium-churn"
    long = ["a" * 250 + end for end in "xy"]
    assert {len(field_manager(name)) for name in long} == {128}
    assert field_manager(long[0]) != field_manager(long[1])
    assert len(field_manager("a" * 121)) == 128
    assert field_manager("a" * 121) == "podium-" + "a" * 121


def test_an_autoscaler_of_this_deployment() -> None:
    def scaler(kind: str, name: str) -> dict[str, Any]:
        return {"spec": {"scaleTargetRef": {"kind": kind, "name": name}}}

    assert autoscaled([scaler("Deployment", "other"), scaler("Deployment", "churn")], "churn")
    assert not autoscaled([scaler("StatefulSet", "churn"), scaler("Deployment", "x")], "churn")
