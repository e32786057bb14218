"""Lists in pages, what selectors choose, and the order in which watches tell."""

from __future__ import annotations

import pytest

from tests.integration.contract.test_objects import deployment, promotion
from tests.integration.contract.transport import Api, GoneError


def test_pages_show_one_revision(api: Api) -> None:
    for name in ("c", "a", "e", "b", "d"):
        api.create("modelpromotions", promotion(name))
    path = api.path("modelpromotions")
    first = api.get(path, limit="2")
    assert [each["metadata"]["name"] for each in first.body["items"]] == ["a", "b"]
    assert first.metadata["remainingItemCount"] == 3
    api.create("modelpromotions", promotion("ab"))
    api.create("modelpromotions", promotion("f"))
    api.delete(api.path("modelpromotions", "d"))
    api.merge(api.path("modelpromotions", "c"), {"spec": {"suspend": True}})
    second = api.get(path, limit="2", **{"continue": first.metadata["continue"]})
    third = api.get(path, limit="2", **{"continue": second.metadata["continue"]})
    pages = [*second.body["items"], *third.body["items"]]
    assert [each["metadata"]["name"] for each in pages] == ["c", "d", "e"]
    assert pages[0]["spec"]["suspend"] is False
    assert not third.metadata.get("continue")
    assert first.version == second.version == third.version
    now = api.get(path)
    assert [each["metadata"]["name"] for each in now.body["items"]] == [
        "a",
        "ab",
        "b",
        "c",
        "e",
        "f",
    ]
    assert int(now.version) > int(first.version)


def test_a_list_says_what_it_lists(api: Api) -> None:
    api.create("modelpromotions", promotion())
    api.create("deployments", deployment(paused=True), "apps/v1")
    custom = api.get(api.path("modelpromotions")).body
    assert (custom["kind"], custom["apiVersion"]) == ("ModelPromotionList", "podium.dev/v1alpha1")
    assert custom["items"][0]["kind"] == "ModelPromotion"
    built_in = api.get(api.path("deployments", group="apps/v1")).body
    assert (built_in["kind"], built_in["apiVersion"]) == ("DeploymentList", "apps/v1")
    assert "kind" not in built_in["items"][0]
    everywhere = api.get("/apis/podium.dev/v1alpha1/modelpromotions").body["items"]
    mine = [each for each in everywhere if each["metadata"]["namespace"] == api.namespace]
    assert mine == custom["items"]
    assert api.get(api.path("leases", group="coordination.k8s.io/v1")).body["items"] == []


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("app=a", ["one", "two"]),
        ("app==a,tier=web", ["two"]),
        ("app!=a", ["none", "three"]),
        ("app in (a, b)", ["one", "three", "two"]),
        ("app in (a),tier notin (web)", ["one"]),
        ("tier", ["three", "two"]),
        ("!tier", ["none", "one"]),
        ("app=", []),
    ],
)
def test_labels_choose(api: Api, selector: str, chosen: list[str]) -> None:
    for name, labels in {
        "none": {},
        "one": {"app": "a"},
        "two": {"app": "a", "tier": "web"},
        "three": {"app": "b", "tier": "db"},
    }.items():
        body = promotion(name)
        body["metadata"]["labels"] = labels
        assert api.create("modelpromotions", body).status == 201
    found = api.get(api.path("modelpromotions"), labelSelector=selector)
    assert [each["metadata"]["name"] for each in found.body["items"]] == chosen


def test_a_field_chooses_one_by_name(api: Api) -> None:
    api.create("modelpromotions", promotion("a"))
    api.create("modelpromotions", promotion("b"))
    found = api.get(api.path("modelpromotions"), fieldSelector="metadata.name=b")
    assert [each["metadata"]["name"] for each in found.body["items"]] == ["b"]


def test_a_watch_tells_each_change_in_order(api: Api) -> None:
    list_path, path = api.path("modelpromotions"), api.path("modelpromotions", "a")
    before = int(api.get(list_path).version)
    made = api.create("modelpromotions", promotion("a"))
    api.create("modelpromotions", promotion("b"))
    api.merge(path, {"spec": {"suspend": True}})
    api.merge(path, {"spec": {"suspend": True}})  # nothing changes, nothing is told
    api.merge(f"{path}/status", {"status": {"ledgerHead": "sha256:a"}})
    api.delete(path)
    again = api.create("modelpromotions", promotion("a"))
    told = api.server.changes(list_path, before, 6)
    assert [(type_, content["metadata"]["name"]) for type_, content in told] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("MODIFIED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "a"),
    ]
    versions = [int(content["metadata"]["resourceVersion"]) for _, content in told]
    assert versions == sorted(set(versions))
    assert told[0][1] == made.body
    assert told[5][1] == again.body
    # The last word on a deleted object is what it was, with the revision of its end.
    assert told[4][1]["status"] == {"ledgerHead": "sha256:a"}
    assert versions[4] > versions[3]
    assert told[4][1]["metadata"]["uid"] == made.uid
    later = api.server.changes(list_path, versions[2], 3)
    assert later == told[3:]


def test_a_watch_tells_of_its_own_kind_and_namespace(api: Api) -> None:
    before = int(api.get(api.path("modelpromotions")).version)
    api.create("deployments", deployment(paused=True), "apps/v1")
    made = api.create("modelpromotions", promotion())
    told = [("ADDED", made.body)]
    assert api.server.changes(api.path("modelpromotions"), before, 1) == told
    everywhere = "/apis/podium.dev/v1alpha1/modelpromotions"
    assert api.server.changes(everywhere, int(made.version) - 1, 1) == told


def test_a_watch_from_what_is_forgotten_is_gone(api: Api) -> None:
    api.create("modelpromotions", promotion())
    with pytest.raises(GoneError, match="too old resource version"):
        api.server.changes(api.path("modelpromotions"), api.server.forgotten(), 1)
