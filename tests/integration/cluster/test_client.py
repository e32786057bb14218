"""KubernetesClient against a real API server: what guards a write, and what a refusal becomes."""

import json
from typing import Any

import pytest

from podium.api.promotion import DeploymentRef, ModelSource, ModelSourceType, Target
from podium.cluster import (
    AlreadyExists,
    ApiConnection,
    ApiUnavailable,
    Conflict,
    FieldConflict,
    Forbidden,
    Invalid,
    KubernetesClient,
    NamespaceTerminating,
    NotFound,
    PodiumKind,
    load_access,
)
from podium.cluster.request import Request, Verb
from podium.cluster.resources import Resource
from podium.engine.decision import EventType
from podium.targets import apply_body, conflict_policy, field_manager, observe
from tests.integration.cluster.conftest import DEPLOYMENT
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

ALIAS = Target(name="api", deployment=DeploymentRef(name="churn", container="server"))
VERSION = Target(
    name="api",
    deployment=DeploymentRef(name="churn"),
    model_source=ModelSource(type=ModelSourceType.VERSION),
)


def guard(found: dict[str, Any]) -> dict[str, str]:
    metadata = found["metadata"]
    return {"uid": metadata["uid"], "resource_version": metadata["resourceVersion"]}


async def write(client: KubernetesClient, found: dict[str, Any], status: Any) -> dict[str, Any]:
    namespace = found["metadata"]["namespace"]
    return dict(
        await client.write_status(
            PodiumKind.PROMOTIONS, namespace, "churn", **guard(found), status=status
        )
    )


async def test_a_cluster_has_the_uid_of_kube_system(
    client: KubernetesClient, kubectl: Kubectl
) -> None:
    namespace = kubectl.get("namespace", "kube-system")
    assert await client.cluster_id() == namespace["metadata"]["uid"]


async def test_what_does_not_exist_is_none(client: KubernetesClient, namespace: str) -> None:
    assert await client.get_promotion(namespace, "none") is None
    assert await client.get_decision(namespace, "none") is None
    assert await client.get_deployment(namespace, "none") is None
    assert await client.get_secret(namespace, "none") is None


async def test_a_status_is_replaced_as_a_whole_and_alone(
    client: KubernetesClient, promotion: dict[str, Any]
) -> None:
    first = await write(client, promotion, {"observedGeneration": 1, "ledgerHead": "sha256:aa"})
    second = await write(client, first, {"observedGeneration": 2})
    assert second["status"] == {"observedGeneration": 2}
    assert second["spec"] == promotion["spec"]
    assert second["metadata"]["generation"] == promotion["metadata"]["generation"]
    assert second["metadata"].get("annotations") == promotion["metadata"].get("annotations")


async def test_the_same_status_again_changes_nothing(
    client: KubernetesClient, promotion: dict[str, Any]
) -> None:
    first = await write(client, promotion, {"observedGeneration": 1})
    again = await write(client, first, {"observedGeneration": 1})
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_status_write_on_an_old_resource_version_conflicts(
    client: KubernetesClient, promotion: dict[str, Any], kubectl: Kubectl
) -> None:
    kubectl("annotate", "mp", "churn", "note=changed")
    with pytest.raises(Conflict):
        await write(client, promotion, {"observedGeneration": 1})
    assert "status" not in kubectl.get("mp", "churn")


async def test_a_status_write_on_a_recreated_object_conflicts(
    client: KubernetesClient, promotion: dict[str, Any], kubectl: Kubectl
) -> None:
    kubectl("delete", "mp", "churn")
    with pytest.raises(NotFound):
        await write(client, promotion, {"observedGeneration": 1})
    manifest = {key: promotion[key] for key in ("apiVersion", "kind", "spec")}
    kubectl("create", "-f", "-", stdin=json.dumps({**manifest, "metadata": {"name": "churn"}}))
    remade = kubectl.get("mp", "churn")
    remade["metadata"]["uid"] = promotion["metadata"]["uid"]
    with pytest.raises(Conflict):
        await write(client, remade, {"observedGeneration": 1})


async def test_a_status_that_the_crd_refuses_is_invalid(
    client: KubernetesClient, promotion: dict[str, Any]
) -> None:
    with pytest.raises(Invalid, match="observedGeneration"):
        await write(client, promotion, {"observedGeneration": "many"})


async def test_pages_follow_each_other(
    client: KubernetesClient,
    promotion: dict[str, Any],
    kubectl: Kubectl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("podium.cluster.client.PAGE", 2)
    for number in range(4):
        manifest = {key: promotion[key] for key in ("apiVersion", "kind", "spec")}
        manifest["metadata"] = {"name": f"m{number}"}
        kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    namespace = promotion["metadata"]["namespace"]
    names = [one["metadata"]["name"] async for one in client.list_promotions(namespace)]  # type: ignore[index]
    assert names == ["churn", "m0", "m1", "m2", "m3"]


async def test_an_apply_owns_its_fields_and_leaves_the_rest(
    client: KubernetesClient, deployment: dict[str, Any], kubectl: Kubectl, namespace: str
) -> None:
    body = apply_body(VERSION, deployment, model="churn", version="7", move_id="m1")
    assert isinstance(body, dict)
    applied = await client.apply_deployment(
        namespace, "churn", body, field_manager=field_manager("churn")
    )
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    after = kubectl.get("deployment", "churn")
    for found in (dict(applied), after):
        seen = observe(VERSION, found, None, False)
        assert (seen.model_version, seen.move_id) == ("7", "m1")
        assert seen.env_value == "models:/churn/7"
        assert seen.template == observe(VERSION, deployment, None, False).template
    env = after["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "LOG_LEVEL", "value": "info"} in env


async def test_an_apply_never_creates_and_never_follows_a_name(
    client: KubernetesClient, deployment: dict[str, Any], kubectl: Kubectl, namespace: str
) -> None:
    body = apply_body(ALIAS, deployment, model="churn", version="7", move_id="m1")
    assert isinstance(body, dict)
    kubectl("delete", "deployment", "churn")
    with pytest.raises(NotFound) as absent:
        await client.apply_deployment(namespace, "churn", body, field_manager="podium-churn")
    assert absent.value.problem().reason == "TargetNotFound"
    assert kubectl("get", "deployment", "-o", "name") == ""
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    with pytest.raises(Conflict):
        await client.apply_deployment(namespace, "churn", body, field_manager="podium-churn")


async def test_another_managers_env_is_named_and_taken_only_with_takeover(
    client: KubernetesClient, deployment: dict[str, Any], kubectl: Kubectl, namespace: str
) -> None:
    theirs = DEPLOYMENT.replace("LOG_LEVEL, value: info", "MODEL_URI, value: models:/old/1")
    kubectl("apply", "-f", "-", stdin=theirs)
    deployment = kubectl.get("deployment", "churn")
    body = apply_body(VERSION, deployment, model="churn", version="7", move_id="m1")
    assert isinstance(body, dict)
    with pytest.raises(FieldConflict) as met:
        await client.apply_deployment(namespace, "churn", body, field_manager="podium-churn")
    (conflict,) = met.value.conflicts
    assert conflict.manager == "kubectl-client-side-apply"
    assert conflict.field.endswith('containers[name="server"].env[name="MODEL_URI"].value')
    problem = conflict_policy(VERSION, met.value.conflicts)
    assert problem is not None
    assert conflict.manager in problem.message
    taking = Target(
        name="api",
        deployment=DeploymentRef(name="churn"),
        model_source=ModelSource(type=ModelSourceType.VERSION, takeover=True),
    )
    assert conflict_policy(taking, met.value.conflicts) is None
    forced = await client.apply_deployment(
        namespace, "churn", body, field_manager="podium-churn", force=True
    )
    assert observe(VERSION, dict(forced), None, False).env_value == "models:/churn/7"


async def test_an_annotation_that_somebody_took_is_forced(
    client: KubernetesClient, deployment: dict[str, Any], kubectl: Kubectl, namespace: str
) -> None:
    body = apply_body(ALIAS, deployment, model="churn", version="7", move_id="m1")
    assert isinstance(body, dict)
    await client.apply_deployment(namespace, "churn", body, field_manager="podium-churn")
    patch = '{"spec":{"template":{"metadata":{"annotations":{"podium.dev/model-version":"6"}}}}}'
    kubectl("patch", "deployment", "churn", "-p", patch)
    with pytest.raises(FieldConflict) as met:
        await client.apply_deployment(namespace, "churn", body, field_manager="podium-churn")
    assert met.value.conflicts[0].manager == "kubectl-patch"
    assert conflict_policy(ALIAS, met.value.conflicts) is None
    forced = await client.apply_deployment(
        namespace, "churn", body, field_manager="podium-churn", force=True
    )
    assert observe(ALIAS, dict(forced), None, False).model_version == "7"


async def test_a_variable_from_elsewhere_is_refused_as_the_server_would(
    client: KubernetesClient, kubectl: Kubectl, namespace: str
) -> None:
    from_field = "MODEL_URI, valueFrom: {fieldRef: {fieldPath: metadata.name}}"
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.replace("LOG_LEVEL, value: info", from_field))
    found = kubectl.get("deployment", "churn")
    body = apply_body(VERSION, found, model="churn", version="7", move_id="m1")
    assert not isinstance(body, dict)
    container = {"name": "server", "env": [{"name": "MODEL_URI", "value": "x"}]}
    raw = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "churn", "namespace": namespace, "uid": found["metadata"]["uid"]},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    with pytest.raises(Invalid, match="valueFrom"):
        await client.apply_deployment(namespace, "churn", raw, field_manager="podium-churn")


async def test_pods_of_a_deployment_are_seen(
    client: KubernetesClient, deployment: dict[str, Any], kubectl: Kubectl, namespace: str
) -> None:
    kubectl("rollout", "status", "deployment/churn", "--timeout=60s", timeout=70)
    found = kubectl.get("deployment", "churn")
    pods = await client.list_pods(namespace, found["spec"]["selector"])
    seen = observe(ALIAS, found, pods, False)
    assert seen.settled
    assert seen.pods is not None
    assert [pod.ready for pod in seen.pods] == [True, True]
    assert all(pod.started and not pod.failed and pod.ready_since for pod in seen.pods)


async def test_autoscalers_are_listed(
    client: KubernetesClient, deployment: dict[str, Any], kubectl: Kubectl, namespace: str
) -> None:
    kubectl("autoscale", "deployment", "churn", "--max=3", "--cpu-percent=80")
    (scaler,) = await client.list_autoscalers(namespace)
    assert scaler["spec"]["scaleTargetRef"]["name"] == "churn"  # type: ignore[index]


async def test_a_secret_is_made_once(client: KubernetesClient, namespace: str) -> None:
    await client.create_secret(namespace, "key", {"private": b"\x00\xff"})
    with pytest.raises(AlreadyExists):
        await client.create_secret(namespace, "key", {"private": b"other"})
    assert await client.get_secret(namespace, "key") == {"private": b"\x00\xff"}


async def test_describe_shows_one_event_with_its_count(
    client: KubernetesClient, promotion: dict[str, Any], kubectl: Kubectl
) -> None:
    for _ in range(2):
        await client.emit_event(
            promotion, type=EventType.NORMAL, reason="Promoted", message="version 7 is served"
        )
    described = kubectl("describe", "mp", "churn")
    assert "version 7 is served" in described
    (line,) = [one for one in described.splitlines() if "version 7 is served" in one]
    assert "Promoted" in line
    assert "x2" in line
    assert "podium.dev/operator" in line
    (event,) = kubectl.get("events.events.k8s.io", "--field-selector=reason=Promoted")["items"]
    assert event["series"]["count"] == 2
    assert event["regarding"]["uid"] == promotion["metadata"]["uid"]
    assert event["regarding"]["resourceVersion"] == promotion["metadata"]["resourceVersion"]


async def test_an_event_that_is_gone_is_made_anew(
    client: KubernetesClient, promotion: dict[str, Any], kubectl: Kubectl
) -> None:
    for _ in range(2):
        await client.emit_event(promotion, type=EventType.WARNING, reason="Held", message="why")
        kubectl("delete", "events.events.k8s.io", "--all")
    await client.emit_event(promotion, type=EventType.WARNING, reason="Held", message="other")
    assert "other" in kubectl("describe", "mp", "churn")


async def test_a_namespace_that_is_being_deleted_takes_nothing_new(
    client: KubernetesClient, promotion: dict[str, Any], kubectl: Kubectl
) -> None:
    # A finalizer keeps the namespace in that state for as long as the test looks.
    held = '{"metadata": {"finalizers": ["test.podium.dev/held"]}}'
    kubectl("patch", "mp", "churn", "--type=merge", "-p", held)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
    try:
        with pytest.raises(NamespaceTerminating, match="being deleted"):
            await client.create_secret(kubectl.namespace, "new", {})
        told = {"type": EventType.NORMAL, "reason": "Promoted", "message": "iris 2"}
        await client.emit_event(promotion, **told)  # lost, and nothing raised
    finally:
        kubectl("patch", "mp", "churn", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


async def test_forbidden_says_what_to_grant(
    control_cluster: Kubectl, kubectl: Kubectl, namespace: str, tmp_path: Any
) -> None:
    kubectl("create", "serviceaccount", "nobody")
    token = kubectl("create", "token", "nobody").strip()
    config = tmp_path / "kubeconfig"
    plain = Kubectl(control_cluster.program, config)
    config.write_text(control_cluster.kubeconfig.read_text())
    plain("config", "set-credentials", "nobody", f"--token={token}")
    plain("config", "set-context", "--current", "--user=nobody")
    connection = ApiConnection(await load_access(str(config)))
    try:
        client = KubernetesClient(connection, fence=lambda _seconds: None)
        with pytest.raises(Forbidden) as met:
            await client.get_deployment(namespace, "churn")
    finally:
        await connection.close()
    assert "resources: [deployments]" in str(met.value)
    assert "verbs: [get]" in str(met.value)
    assert namespace in str(met.value)
    assert token not in str(met.value)


async def test_a_resource_that_the_server_lacks_is_not_an_absent_object(
    connection: ApiConnection, namespace: str
) -> None:
    lacking = Resource("podium.dev", "v9", "modelpromotions", "ModelPromotion")
    with pytest.raises(ApiUnavailable, match="install the CRDs"):
        await connection.read(Request(Verb.GET, lacking, namespace, "churn"), deadline=1.0)
