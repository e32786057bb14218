"""The API server's objects: creation, preconditions, status, generation, defaults, deletion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.contract.transport import Api, Json

MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)
CHAMPION = {"version": "1", "since": "2026-01-01T00:00:00Z"}
UID = "00000000-0000-4000-8000-000000000000"


def promotion(name: str = "churn", **spec: Any) -> Json:
    target = {"name": "api", "deployment": {"name": "api", "container": "server"}}
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "ModelPromotion",
        "metadata": {"name": name},
        "spec": {"model": "churn", "candidate": {"latest": {}}, "targets": [target], **spec},
    }


def lease(holder: str, **metadata: str) -> Json:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "podium", **metadata},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 12, "leaseTransitions": 0},
    }


def deployment(name: str = "api", annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    labels = {"app": name}
    container = {"name": "server", "image": "serving:1", "env": [{"name": "A", "value": "1"}]}
    template = {
        "metadata": {"labels": labels, **({"annotations": annotations} if annotations else {})},
        "spec": {"containers": [container]},
    }
    whole = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template, **spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": whole,
    }


def test_what_is_created_gets_its_metadata(api: Api) -> None:
    got = api.create("modelpromotions", promotion())
    assert got.status == 201
    assert (got.body["apiVersion"], got.body["kind"]) == ("podium.dev/v1alpha1", "ModelPromotion")
    assert (got.metadata["name"], got.metadata["namespace"]) == ("churn", api.namespace)
    assert len(got.uid) == 36
    assert got.metadata["creationTimestamp"].endswith("Z")
    assert got.metadata["generation"] == 1
    assert int(got.version) > 0
    assert api.get(api.path("modelpromotions", "churn")).body == got.body


def test_what_is_there_is_not_created_again(api: Api) -> None:
    api.create("modelpromotions", promotion())
    assert api.create("modelpromotions", promotion()).refusal == (
        409,
        "AlreadyExists",
        'modelpromotions.podium.dev "churn" already exists',
    )


def test_what_is_not_there_is_named(api: Api) -> None:
    for got, what in (
        (api.get(api.path("modelpromotions", "x")), 'modelpromotions.podium.dev "x" not found'),
        (api.get(api.path("deployments", "x", "apps/v1")), 'deployments.apps "x" not found'),
        (api.get(api.path("secrets", "x", "v1")), 'secrets "x" not found'),
        (api.delete(api.path("modelpromotions", "x")), 'modelpromotions.podium.dev "x" not found'),
        (
            api.put(api.path("modelpromotions", "x"), promotion("x")),
            'modelpromotions.podium.dev "x" not found',
        ),
        (
            api.put(api.path("modelpromotions", "x/status"), promotion("x")),
            'modelpromotions.podium.dev "x" not found',
        ),
        (
            api.merge(api.path("modelpromotions", "x"), {}),
            'modelpromotions.podium.dev "x" not found',
        ),
    ):
        assert got.refusal == (404, "NotFound", what)
    api.namespace = f"{api.namespace}-missing"
    got = api.create("modelpromotions", promotion())
    assert got.refusal == (404, "NotFound", f'namespaces "{api.namespace}" not found')
    assert api.get("/apis/nothing.example/v1/things").status == 404


def test_a_promotion_is_filled_with_the_defaults_of_its_crd(api: Api) -> None:
    sent = promotion(
        gates=[{"name": "accuracy", "metric": {"key": "acc", "compare": {"goal": "Maximize"}}}],
        approval={},
        unknown="dropped",
    )
    got = api.create("modelpromotions", sent)
    assert got.status == 201, got
    assert got.body["spec"] == {
        "registryRef": {"name": "default"},
        "model": "churn",
        "alias": "champion",
        "candidate": {"latest": {}},
        "supersede": "BeforeApproval",
        "gates": [
            {
                "name": "accuracy",
                "metric": {
                    "key": "acc",
                    "source": "Run",
                    "compare": {"to": "Champion", "goal": "Maximize", "tolerance": "0"},
                },
                "dryRun": False,
                "deadline": "10m",
            }
        ],
        "approval": {"required": 1, "excludeAuthors": True, "expireAfter": "72h"},
        "targets": [
            {
                "name": "api",
                "deployment": {"name": "api", "container": "server"},
                "modelSource": {"type": "Alias", "envVar": "MODEL_URI", "takeover": False},
            }
        ],
        "rollout": {"progressDeadline": "10m"},
        "rollback": {"automatic": True, "bakeDuration": "0s", "whenUnknown": "Hold"},
        "suspend": False,
        "historyLimit": 10,
    }


def test_a_registry_is_filled_with_the_defaults_of_its_crd(api: Api) -> None:
    sent = {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "ModelRegistry",
        "metadata": {"name": "mlflow"},
        "spec": {"trackingURI": "https://mlflow:5000", "tls": {"caSecretRef": {"name": "ca"}}},
    }
    assert api.create("modelregistries", sent).body["spec"] == {
        "trackingURI": "https://mlflow:5000",
        "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}},
        "pollInterval": "15s",
    }


def test_a_deployment_is_filled_with_the_defaults_of_apps(api: Api) -> None:
    got = api.create("deployments", deployment(), "apps/v1")
    assert got.body["spec"] == {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "api"}},
        "template": {
            "metadata": {"labels": {"app": "api"}},
            "spec": {
                "containers": [
                    {
                        "name": "server",
                        "image": "serving:1",
                        "env": [{"name": "A", "value": "1"}],
                        "resources": {},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                        "imagePullPolicy": "IfNotPresent",
                    }
                ],
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst",
                "securityContext": {},
                "schedulerName": "default-scheduler",
            },
        },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
        },
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    assert got.metadata["generation"] == 1


def test_status_is_written_by_its_subresource_alone(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    made = api.create("modelpromotions", {**promotion(), "status": {"ledgerHead": "sha256:0"}})
    assert "status" not in made.body
    body = {**made.body, "status": {"ledgerHead": "sha256:a", "champion": CHAMPION}}
    body = {**body, "spec": {**made.body["spec"], "suspend": True}}
    body["metadata"] = {**made.metadata, "labels": {"a": "b"}}
    written = api.put(f"{path}/status", body)
    assert written.status == 200, written
    assert written.body["status"] == {"ledgerHead": "sha256:a", "champion": CHAMPION}
    assert written.body["spec"] == made.body["spec"]
    assert "labels" not in written.metadata
    assert written.metadata["generation"] == 1
    assert int(written.version) > int(made.version)
    # What is no longer set is gone, and the main resource leaves status alone.
    again = api.put(f"{path}/status", {**written.body, "status": {"ledgerHead": "sha256:b"}})
    assert again.body["status"] == {"ledgerHead": "sha256:b"}
    main = api.put(path, {**again.body, "status": {}, "metadata": again.metadata})
    assert main.body["status"] == {"ledgerHead": "sha256:b"}
    del again.body["status"]
    assert api.put(path, again.body).body["status"] == {"ledgerHead": "sha256:b"}
    merged = api.merge(path, {"status": None})
    assert merged.body["status"] == {"ledgerHead": "sha256:b"}
    merged = api.merge(f"{path}/status", {"status": {"ledgerHead": None, "ledgerSeq": 3}})
    assert merged.body["status"] == {"ledgerSeq": 3}


def test_generation_counts_changes_of_the_spec(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    api.create("modelpromotions", promotion())
    seen = [
        api.merge(path, {"metadata": {"labels": {"a": "b"}}}),
        api.merge(path, {"metadata": {"annotations": {"a": "b"}}}),
        api.merge(path, {"spec": {"suspend": True}}),
        api.merge(path, {"spec": {"suspend": True}}),
        api.merge(f"{path}/status", {"status": {"ledgerHead": "sha256:a"}}),
        api.merge(path, {"spec": {"suspend": None}}),  # the default comes back
    ]
    assert [got.metadata["generation"] for got in seen] == [1, 1, 2, 2, 2, 3]


def test_the_generation_of_a_deployment_counts_its_annotations_too(api: Api) -> None:
    path = api.path("deployments", "api", "apps/v1")
    api.create("deployments", deployment(paused=True), "apps/v1")
    seen = [
        api.merge(path, {"metadata": {"labels": {"a": "b"}}}),
        api.merge(path, {"metadata": {"annotations": {"a": "b"}}}),
        api.merge(path, {"spec": {"replicas": 3}}),
        api.merge(path, {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}),
    ]
    assert [got.metadata["generation"] for got in seen] == [1, 2, 3, 4]


def test_a_write_that_changes_nothing_is_no_write(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    made = api.create("modelpromotions", promotion())
    status = api.put(f"{path}/status", {**made.body, "status": {"ledgerHead": "sha256:a"}})
    for got in (
        api.put(path, status.body),
        api.put(f"{path}/status", status.body),
        api.merge(path, {"spec": {"model": "churn"}}),
        api.merge(path, {}),
    ):
        assert got.body == status.body


def test_a_stale_resource_version_is_refused(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    made = api.create("modelpromotions", promotion())
    api.merge(path, {"spec": {"suspend": True}})
    words = f'Operation cannot be fulfilled on modelpromotions.podium.dev "churn": {MODIFIED}'
    stale = {**made.body, "status": {"ledgerHead": "sha256:a"}}
    for got in (
        api.put(f"{path}/status", stale),
        api.put(path, stale),
        api.merge(path, {"metadata": {"resourceVersion": made.version}}),
        api.apply(
            path,
            {**promotion(), "metadata": {"name": "churn", "resourceVersion": made.version}},
            "somebody",
            force="true",
        ),
    ):
        assert got.refusal == (409, "Conflict", words)
    assert "status" not in api.get(path).body


def test_a_put_that_names_another_uid_is_refused(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    made = api.create("modelpromotions", promotion())
    other = {**made.body, "metadata": {**made.metadata, "uid": UID}}
    key = f"/registry/podium.dev/modelpromotions/{api.namespace}/churn"
    for got in (api.put(f"{path}/status", other), api.put(path, other)):
        assert got.refusal == (
            409,
            "Conflict",
            'Operation cannot be fulfilled on modelpromotions.podium.dev "churn": StorageError: '
            f"invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            f"Precondition failed: UID in precondition: {UID}, UID in object meta: {made.uid}",
        )


def test_a_patch_that_names_another_uid_is_refused(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    api.create("modelpromotions", promotion())
    got = api.merge(path, {"metadata": {"uid": UID}})
    status, reason, message = got.refusal
    assert (status, reason) == (422, "Invalid")
    assert f'metadata.uid: Invalid value: "{UID}": field is immutable' in message
    assert {each["field"] for each in got.body["details"]["causes"]} == {"metadata.uid"}


@pytest.mark.parametrize("sub", ["", "/status"])
def test_a_put_of_a_custom_resource_names_its_resource_version(api: Api, sub: str) -> None:
    path = api.path("modelpromotions", "churn")
    made = api.create("modelpromotions", promotion())
    blind = {**made.body, "metadata": {"name": "churn"}}
    got = api.put(path + sub, blind)
    assert got.status == 422, got
    causes = got.body["details"]["causes"]
    assert [each["field"] for each in causes] == ["metadata.resourceVersion"]
    assert "must be specified for an update" in got.body["message"]


def test_a_put_of_a_deployment_need_not(api: Api) -> None:
    path = api.path("deployments", "api", "apps/v1")
    api.create("deployments", deployment(paused=True), "apps/v1")
    got = api.put(path, deployment(paused=True, replicas=5))
    assert (got.status, got.body["spec"]["replicas"]) == (200, 5)


def test_a_put_keeps_what_the_server_gave(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    made = api.create("modelpromotions", promotion())
    body = {**made.body, "metadata": {"name": "churn", "resourceVersion": made.version}}
    got = api.put(path, {**body, "metadata": {**body["metadata"], "labels": {"a": "b"}}})
    assert got.uid == made.uid
    assert got.metadata["creationTimestamp"] == made.metadata["creationTimestamp"]
    assert got.metadata["labels"] == {"a": "b"}
    wrong = api.put(path, {**got.body, "metadata": {**got.metadata, "name": "other"}})
    assert (wrong.status, wrong.body["reason"]) == (400, "BadRequest")


def test_a_deleted_object_comes_back_as_another(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    first = api.create("modelpromotions", promotion())
    api.put(f"{path}/status", {**first.body, "status": {"ledgerHead": "sha256:a"}})
    wrong = {"preconditions": {"uid": UID}}
    assert api.delete(path, wrong).refusal == (
        409,
        "Conflict",
        'Operation cannot be fulfilled on ModelPromotion.podium.dev "churn": the UID in the '
        f"precondition ({UID}) does not match the UID in record ({first.uid}). The object might "
        "have been deleted and then recreated",
    )
    gone = api.delete(path, {"preconditions": {"uid": first.uid}})
    assert (gone.status, gone.body["status"]) == (200, "Success")
    assert gone.body["details"] == {
        "name": "churn",
        "group": "podium.dev",
        "kind": "modelpromotions",
        "uid": first.uid,
    }
    assert api.get(path).status == 404
    second = api.create("modelpromotions", promotion())
    assert second.uid != first.uid
    assert int(second.version) > int(first.version)
    assert second.metadata["generation"] == 1
    assert "status" not in second.body


def test_a_finalizer_holds_what_is_deleted(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    body = promotion()
    body["metadata"]["finalizers"] = ["example.com/wait"]
    api.create("modelpromotions", body)
    held = api.delete(path)
    assert held.status == 200
    assert held.metadata["deletionTimestamp"].endswith("Z")
    assert held.metadata["deletionGracePeriodSeconds"] == 0
    assert held.metadata["generation"] == 2
    assert api.delete(path).version == held.version
    last = api.merge(path, {"metadata": {"finalizers": None}})
    assert last.status == 200
    assert api.get(path).status == 404


def test_of_two_that_renew_a_lease_one_wins(api: Api) -> None:
    made = api.create("leases", lease("a"), "coordination.k8s.io/v1")
    path = api.path("leases", "podium", "coordination.k8s.io/v1")
    assert made.status == 201
    assert "generation" not in made.metadata
    first = api.put(path, lease("a", resourceVersion=made.version))
    assert first.status == 200
    patch = {
        "metadata": {"resourceVersion": made.version},
        "spec": {"holderIdentity": "b", "acquireTime": None},
    }
    words = f'Operation cannot be fulfilled on leases.coordination.k8s.io "podium": {MODIFIED}'
    # `first` changed nothing, so the version is still that of the creation.
    taken = api.merge(path, patch)
    assert (taken.status, taken.body["spec"]["holderIdentity"]) == (200, "b")
    assert "acquireTime" not in taken.body["spec"]
    assert api.put(path, lease("a", resourceVersion=made.version)).refusal == (
        409,
        "Conflict",
        words,
    )
    assert api.merge(path, patch).refusal == (409, "Conflict", words)
    assert api.get(path).body["spec"]["holderIdentity"] == "b"


def test_an_event_is_created_and_becomes_a_series(api: Api) -> None:
    made = api.create(
        "events",
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "churn.1"},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Normal",
            "reason": "Promoted",
            "action": "Reconcile",
            "note": "version 2 serves",
            "regarding": {"kind": "ModelPromotion", "name": "churn", "namespace": api.namespace},
            "reportingController": "podium.dev/operator",
            "reportingInstance": "podium-0",
        },
        "events.k8s.io/v1",
    )
    assert made.status == 201, made
    path = api.path("events", "churn.1", "events.k8s.io/v1")
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:09.000000Z"}
    got = api.merge(path, {"series": series})
    assert (got.status, got.body["series"], got.body["note"]) == (200, series, "version 2 serves")
    missing = api.merge(api.path("events", "x", "events.k8s.io/v1"), {"series": series})
    assert missing.refusal[:2] == (404, "NotFound")


def test_a_secret_keeps_plain_text_encoded(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    made = api.create("secrets", {**body, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}, "v1")
    assert made.status == 201
    found = api.get(api.path("secrets", "s", "v1")).body
    assert (found["data"], found["type"]) == ({"a": "Yg==", "c": "ZA=="}, "Opaque")
    assert "stringData" not in found
    assert api.create("secrets", body, "v1").refusal == (
        409,
        "AlreadyExists",
        'secrets "s" already exists',
    )


def test_an_autoscaler_is_listed(api: Api) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}
    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "api"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 3},
    }
    assert api.create("horizontalpodautoscalers", body, "autoscaling/v2").status == 201
    listed = api.get(api.path("horizontalpodautoscalers", group="autoscaling/v2")).body
    assert listed["kind"] == "HorizontalPodAutoscalerList"
    assert [each["spec"]["scaleTargetRef"] for each in listed["items"]] == [target]
