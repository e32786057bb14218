"""Server-side apply and the other patches: who owns which field of a Deployment."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.contract.test_objects import UID, deployment, promotion
from tests.integration.contract.transport import Api, Got, Json

KUBECTL = "kubectl-client-side-apply"
ENV = '.spec.template.spec.containers[name="server"].env[name="A"].value'


@pytest.fixture
def path(api: Api) -> str:
    """A Deployment that kubectl made, paused: no controller writes between."""
    body = deployment(paused=True, annotations={"team": "risk"})
    made = api.create("deployments", body, "apps/v1", fieldManager=KUBECTL)
    assert made.status == 201
    return api.path("deployments", "api", "apps/v1")


def body(annotations: dict[str, str] | None = None, env: Any = None, **metadata: str) -> Json:
    template: Json = {}
    if annotations is not None:
        template["metadata"] = {"annotations": annotations}
    if env is not None:
        listed = [{"name": name, "value": value} for name, value in env.items()]
        template["spec"] = {"containers": [{"name": "server", "env": listed}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api", **metadata},
        **({"spec": {"template": template}} if template else {}),
    }


def annotations_of(got: Got) -> dict[str, str]:
    return dict(got.body["spec"]["template"]["metadata"].get("annotations", {}))


def env_of(got: Got) -> dict[str, str]:
    (container,) = got.body["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container.get("env", [])}


def causes(got: Got) -> list[tuple[str, str, str]]:
    listed = got.body["details"]["causes"]
    return sorted((each["reason"], each["message"], each["field"]) for each in listed)


def managers(got: Got) -> set[tuple[str, str, str]]:
    return {
        (each["manager"], each["operation"], each.get("subresource", ""))
        for each in got.metadata["managedFields"]
    }


def fields_of(got: Got, manager: str) -> Json:
    found = [each for each in got.metadata["managedFields"] if each["manager"] == manager]
    assert len(found) == 1, found
    return dict(found[0]["fieldsV1"])


def test_what_nobody_owns_is_added(api: Api, path: str) -> None:
    got = api.apply(path, body({"podium.dev/model-version": "1"}), "podium-churn")
    assert got.status == 200
    assert annotations_of(got) == {"team": "risk", "podium.dev/model-version": "1"}
    assert got.metadata["generation"] == 2
    assert ("podium-churn", "Apply", "") in managers(got)
    assert fields_of(got, "podium-churn") == {
        "f:spec": {
            "f:template": {"f:metadata": {"f:annotations": {"f:podium.dev/model-version": {}}}}
        }
    }


def test_what_was_applied_and_is_not_applied_again_goes(api: Api, path: str) -> None:
    api.apply(path, body({"podium.dev/a": "1", "podium.dev/b": "1"}, {"B": "1"}), "podium")
    got = api.apply(path, body({"podium.dev/a": "2"}), "podium")
    assert annotations_of(got) == {"team": "risk", "podium.dev/a": "2"}
    assert env_of(got) == {"A": "1"}
    last = api.apply(path, body(), "podium")
    assert annotations_of(last) == {"team": "risk"}
    assert "podium" not in {name for name, _, _ in managers(last)}


def test_the_same_again_is_no_write(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    first = api.apply(path, promotion(suspend=True), "tester")
    assert api.apply(path, promotion(suspend=True), "tester").body == first.body
    # To own what another owns too is a write.
    second = api.apply(path, promotion(suspend=True), "another")
    assert int(second.version) > int(first.version)
    assert second.metadata["generation"] == 1


def test_a_value_that_an_update_set_is_not_taken(api: Api, path: str) -> None:
    got = api.apply(path, body(env={"A": "2"}), "podium")
    assert got.refusal == (
        409,
        "Conflict",
        f'Apply failed with 1 conflict: conflict with "{KUBECTL}" using apps/v1: {ENV}',
    )
    assert causes(got) == [
        ("FieldManagerConflict", f'conflict with "{KUBECTL}" using apps/v1', ENV)
    ]
    assert env_of(api.get(path)) == {"A": "1"}


def test_a_value_that_another_applied_is_not_taken(api: Api, path: str) -> None:
    api.apply(path, body({"podium.dev/a": "1"}), "argocd-controller")
    got = api.apply(path, body({"podium.dev/a": "2"}), "podium")
    field = ".spec.template.metadata.annotations.podium.dev/a"
    assert got.refusal == (
        409,
        "Conflict",
        f'Apply failed with 1 conflict: conflict with "argocd-controller": {field}',
    )
    assert causes(got) == [("FieldManagerConflict", 'conflict with "argocd-controller"', field)]


def test_several_conflicts_are_listed_by_manager(api: Api, path: str) -> None:
    api.apply(path, body({"podium.dev/a": "1"}), "argocd-controller")
    got = api.apply(path, body({"podium.dev/a": "2", "team": "fraud"}, {"A": "2"}), "podium")
    assert got.status == 409
    root = ".spec.template.metadata.annotations"
    by_kubectl = f'conflict with "{KUBECTL}" using apps/v1'
    assert causes(got) == sorted(
        [
            ("FieldManagerConflict", 'conflict with "argocd-controller"', f"{root}.podium.dev/a"),
            ("FieldManagerConflict", by_kubectl, f"{root}.team"),
            ("FieldManagerConflict", by_kubectl, ENV),
        ]
    )
    assert sorted(got.body["message"].splitlines()) == sorted(
        [
            'Apply failed with 3 conflicts: conflicts with "argocd-controller":',
            f"- {root}.podium.dev/a",
            f'conflicts with "{KUBECTL}" using apps/v1:',
            f"- {root}.team",
            f"- {ENV}",
        ]
    )


def test_force_takes_a_field_over(api: Api, path: str) -> None:
    got = api.apply(path, body(env={"A": "2"}), "podium", force="true")
    assert (got.status, env_of(got)) == (200, {"A": "2"})
    # The old owner has lost it: its next apply of the old value is refused in turn.
    back = api.apply(path, body(env={"A": "1"}), "somebody")
    assert causes(back) == [("FieldManagerConflict", 'conflict with "podium"', ENV)]
    # What was taken by force goes with the one that took it; the item was kubectl's and stays.
    gone = api.apply(path, body(), "podium")
    (container,) = gone.body["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A"}]


def test_two_that_apply_the_same_share_it(api: Api, path: str) -> None:
    api.apply(path, body({"podium.dev/a": "1"}), "one")
    second = api.apply(path, body({"podium.dev/a": "1"}), "two")
    assert second.status == 200
    kept = api.apply(path, body(), "one")
    assert annotations_of(kept)["podium.dev/a"] == "1"
    gone = api.apply(path, body(), "two")
    assert "podium.dev/a" not in annotations_of(gone)


def test_the_same_value_as_an_update_set_is_shared(api: Api, path: str) -> None:
    assert api.apply(path, body(env={"A": "1"}), "podium").status == 200
    got = api.apply(path, body(), "podium")
    assert env_of(got) == {"A": "1"}


def test_an_update_takes_what_it_changes(api: Api, path: str) -> None:
    api.apply(path, body({"podium.dev/a": "1", "podium.dev/b": "1"}), "podium")
    changed = api.merge(
        path,
        {"spec": {"template": {"metadata": {"annotations": {"podium.dev/a": "9"}}}}},
        fieldManager="kubectl-rollout",
    )
    assert changed.status == 200
    got = api.apply(path, body({"podium.dev/a": "2", "podium.dev/b": "2"}), "podium")
    assert causes(got) == [
        (
            "FieldManagerConflict",
            'conflict with "kubectl-rollout" using apps/v1',
            ".spec.template.metadata.annotations.podium.dev/a",
        )
    ]


def test_one_that_applies_an_empty_map_owns_it(api: Api) -> None:
    made = deployment(paused=True)
    api.create("deployments", made, "apps/v1", fieldManager=KUBECTL)
    path = api.path("deployments", "api", "apps/v1")
    assert api.apply(path, body({}), "empty").status == 200
    got = api.apply(path, body({"podium.dev/a": "1"}), "podium")
    assert causes(got) == [
        (
            "FieldManagerConflict",
            'conflict with "empty"',
            ".spec.template.metadata.annotations",
        )
    ]


def test_items_of_a_keyed_list_are_owned_one_by_one(api: Api, path: str) -> None:
    got = api.apply(path, body(env={"B": "1", "C": "1"}), "podium")
    assert env_of(got) == {"A": "1", "B": "1", "C": "1"}
    got = api.apply(path, body(env={"C": "2"}), "podium")
    assert env_of(got) == {"A": "1", "C": "2"}


def test_an_apply_that_names_a_uid_creates_nothing(api: Api) -> None:
    path = api.path("deployments", "x", "apps/v1")
    got = api.apply(path, body(uid=UID) | {"metadata": {"name": "x", "uid": UID}}, "podium")
    assert got.refusal == (
        409,
        "Conflict",
        'Operation cannot be fulfilled on deployments.apps "x": uid mismatch: the provided object '
        f"specified uid {UID}, and no existing object was found",
    )


def test_an_apply_that_names_another_uid_changes_nothing(api: Api, path: str) -> None:
    got = api.apply(path, body({"podium.dev/a": "1"}, uid=UID), "podium", force="true")
    assert got.status == 422
    assert {each["field"] for each in got.body["details"]["causes"]} == {"metadata.uid"}
    assert annotations_of(api.get(path)) == {"team": "risk"}


def test_an_apply_of_a_part_creates_no_deployment(api: Api) -> None:
    path = api.path("deployments", "api", "apps/v1")
    got = api.apply(path, body({"podium.dev/a": "1"}), "podium")
    assert (got.status, got.body["reason"]) == (422, "Invalid")
    assert api.get(path).status == 404


def test_an_apply_of_the_whole_creates(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    gate = {"name": "reviewed", "tag": {"key": "reviewed", "values": ["true"]}}
    made = api.apply(path, promotion(gates=[gate]), "tester")
    assert made.status == 201
    assert made.metadata["generation"] == 1
    assert made.body["spec"]["alias"] == "champion"
    changed = api.apply(path, promotion(suspend=True), "tester")
    assert (changed.status, changed.metadata["generation"]) == (200, 2)
    assert "gates" not in changed.body["spec"]
    assert changed.body["spec"]["suspend"] is True
    back = api.apply(path, promotion(), "tester")
    assert back.body["spec"]["suspend"] is False


def test_an_apply_leaves_status_alone(api: Api) -> None:
    path = api.path("modelpromotions", "churn")
    api.apply(path, promotion(), "tester")
    api.merge(f"{path}/status", {"status": {"ledgerHead": "sha256:a"}}, fieldManager="operator")
    got = api.apply(path, promotion(suspend=True) | {"status": {"ledgerSeq": 1}}, "tester")
    assert (got.status, got.body["status"]) == (200, {"ledgerHead": "sha256:a"})
    assert ("operator", "Update", "status") in managers(got)


def test_an_apply_names_its_manager(api: Api, path: str) -> None:
    got = api.ask("PATCH", path, body(), "application/apply-patch+yaml")
    assert got.status >= 400


def test_without_a_manager_the_program_is_named(api: Api, path: str) -> None:
    got = api.merge(path, {"spec": {"replicas": 3}})
    assert ("contract", "Update", "") in managers(got)


def test_a_merge_patch_replaces_lists_and_a_strategic_one_merges_them(api: Api, path: str) -> None:
    container = {"name": "server", "env": [{"name": "B", "value": "2"}]}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    merged = api.ask("PATCH", path, patch, "application/strategic-merge-patch+json")
    assert env_of(merged) == {"A": "1", "B": "2"}
    (kept,) = merged.body["spec"]["template"]["spec"]["containers"]
    assert kept["image"] == "serving:1"
    container["image"] = "serving:2"
    replaced = api.merge(path, patch)
    assert env_of(replaced) == {"B": "2"}


def test_a_json_patch_tests_before_it_writes(api: Api, path: str) -> None:
    where = "/spec/template/metadata/annotations/team"
    wrong = [
        {"op": "test", "path": where, "value": "fraud"},
        {"op": "replace", "path": where, "value": "ops"},
    ]
    kind = "application/json-patch+json"
    assert api.ask("PATCH", path, wrong, kind).status == 422
    right = [{**wrong[0], "value": "risk"}, wrong[1], {"op": "remove", "path": "/spec/paused"}]
    got = api.ask("PATCH", path, right, kind)
    assert (got.status, annotations_of(got)) == (200, {"team": "ops"})
    assert "paused" not in got.body["spec"]


def test_a_custom_resource_takes_no_strategic_patch(api: Api) -> None:
    api.create("modelpromotions", promotion())
    path = api.path("modelpromotions", "churn")
    got = api.ask("PATCH", path, {}, "application/strategic-merge-patch+json")
    assert (got.status, got.body["reason"]) == (415, "UnsupportedMediaType")
