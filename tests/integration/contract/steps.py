"""Random sequences of requests, and what of their answers must be the same on both servers.

A step is a request with placeholders (`$rv:a:0`, the newest resourceVersion seen of object `a` on
that server), so that one sequence can be played on two servers that choose their own uids,
versions and times. `Played` fills them in, and masks the answers.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.contract.transport import Got, Json

NO_UID = "00000000-0000-4000-8000-000000000000"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_VERSION = re.compile(r"(?<= in record )\((\d+)\)|(?<= in the precondition )\((\d+)\)")
_TIMES = ("creationTimestamp", "deletionTimestamp", "time")
_MOMENTS = ("creation_timestamp", "last_updated_timestamp")
# Written by controllers at times of their own.
_CONTROLLED = ("deployments",)
_CONTROLLERS = ("kube-controller-manager",)


@dataclass(frozen=True)
class Step:
    """`what` is the object's plural and name: `modelpromotions/a`."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)
    what: str = ""


@dataclass
class Played:
    """What one server has said so far, as far as it chose it itself."""

    namespace: str = ""
    versions: dict[str, list[str]] = field(default_factory=dict)
    uids: dict[str, list[str]] = field(default_factory=dict)
    going_on: str = ""
    _labels: dict[str, str] = field(default_factory=dict)

    def filled(self, value: Any) -> Any:
        """With this server's own values in the place of placeholders."""
        if isinstance(value, dict):
            return {key: self.filled(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self.filled(child) for child in value]
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        kind, _, rest = value[1:].partition(":")
        if kind == "continue":
            return self.going_on
        what, _, back = rest.partition(":")
        seen = (self.versions if kind == "rv" else self.uids).get(what, [])
        at = len(seen) - 1 - int(back)
        return seen[at] if at >= 0 else ("1" if kind == "rv" else NO_UID)

    def saw(self, step: Step, got: Got) -> None:
        """Remembers what later steps may ask for."""
        metadata = got.body.get("metadata") or {}
        if step.what and metadata.get("uid"):
            for kept, name in ((self.versions, "resourceVersion"), (self.uids, "uid")):
                seen = kept.setdefault(step.what, [])
                if not seen or seen[-1] != metadata[name]:
                    seen.append(metadata[name])
        if metadata.get("continue"):
            self.going_on = metadata["continue"]

    def masked(self, step: Step, got: Got) -> tuple[int, Any]:
        """The answer with a name for each value that the server chose, the same at each place."""
        if got.status == 422:
            # Validation is not modelled: that something is wrong must agree, not all that is.
            causes = (got.body.get("details") or {}).get("causes") or []
            about = {each["field"] for each in causes if each["field"].startswith("metadata.")}
            return got.status, [got.body["reason"], sorted(about)]
        controlled = any(f"/{plural}" in step.path for plural in _CONTROLLED)
        return got.status, self._masked(got.body, controlled=controlled)

    def _masked(self, value: Any, *, controlled: bool, name: str = "") -> Any:
        if isinstance(value, dict):
            return self._masked_map(value, controlled=controlled)
        if isinstance(value, list):
            return self._masked_list(value, controlled=controlled, name=name)
        if name in _TIMES:
            return "a time"
        if name in _MOMENTS:
            return self._label("moment", str(value))
        if isinstance(value, str):
            return self._masked_text(value, name)
        return value

    def _masked_map(self, value: Json, *, controlled: bool) -> Json:
        found: Json = {}
        is_list = "items" in value and "kind" in value
        for key, child in value.items():
            if controlled and key in ("status", "resourceVersion"):
                continue
            if is_list and key == "metadata":
                found[key] = {"remaining": child.get("remainingItemCount")}
            elif key in ("fieldsV1", "time") or (key == "continue" and child):
                found[key] = child if key == "fieldsV1" else key
            else:
                found[key] = self._masked(child, controlled=controlled, name=key)
        return found

    def _masked_list(self, value: list[Any], *, controlled: bool, name: str) -> list[Any]:
        if name == "managedFields":
            value = [each for each in value if each["manager"] not in _CONTROLLERS]
        found = [self._masked(child, controlled=controlled) for child in value]
        if name in ("managedFields", "causes", "tags", "aliases", "latest_versions"):
            found.sort(key=lambda each: json.dumps(each, sort_keys=True))
        return found

    def _masked_text(self, value: str, name: str) -> str:
        if name == "resourceVersion":
            return self._label("version", value)
        if self.namespace:
            value = value.replace(self.namespace, "the-namespace")
        value = _UUID.sub(lambda found: self._label("uid", found[0]), value)
        value = _VERSION.sub(
            lambda found: f"({self._label('version', found[1] or found[2])})", value
        )
        if name == "message" and "Apply failed with" in value:
            return "\n".join(sorted(value.splitlines()))
        return value

    def _label(self, kind: str, value: str) -> str:
        if value == NO_UID:
            return value
        number = sum(label.startswith(kind) for label in self._labels.values())
        return self._labels.setdefault(f"{kind} {value}", f"{kind} {number + 1}")


# Kubernetes

PODIUM, APPS, LEASES = "podium.dev/v1alpha1", "apps/v1", "coordination.k8s.io/v1"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
JSON_PATCH, STRATEGIC = "application/json-patch+json", "application/strategic-merge-patch+json"


def _path(plural: str, name: str = "") -> str:
    group = {"modelpromotions": PODIUM, "deployments": APPS, "leases": LEASES}.get(plural, "v1")
    root = f"/apis/{group}" if "/" in group else f"/api/{group}"
    return f"{root}/namespaces/NAMESPACE/{plural}" + (f"/{name}" if name else "")


def _guards(rng: random.Random, what: str) -> Json:
    """What a write may say of the object that it is meant for."""
    found: Json = {}
    if rng.random() < 0.6:
        found["resourceVersion"] = f"$rv:{what}:{int(rng.random() < 0.3)}"
    if rng.random() < 0.3:
        found["uid"] = f"$uid:{what}:{int(rng.random() < 0.3)}"
    return found


def _spec(rng: random.Random) -> Json:
    targets = [{"name": "api", "deployment": {"name": "api", "container": "server"}}]
    if rng.random() < 0.3:
        targets.append({"name": "b", "deployment": {"name": "b"}})
    found: Json = {"model": "churn", "targets": targets}
    if rng.random() < 0.5:
        tags = {key: rng.choice("12") for key in rng.sample("abc", rng.randint(0, 2))}
        found["candidate"] = {"latest": {"matchTags": tags} if tags else {}}
    if rng.random() < 0.5:
        found["suspend"] = rng.random() < 0.5
    if rng.random() < 0.5:
        found["historyLimit"] = rng.randint(1, 3)
    if rng.random() < 0.3:
        found["rollback"] = {"automatic": rng.random() < 0.5}
    return found


def _metadata(rng: random.Random, name: str) -> Json:
    found: Json = {"name": name}
    for key in ("labels", "annotations"):
        if rng.random() < 0.4:
            found[key] = {each: rng.choice("12") for each in rng.sample("xyz", rng.randint(0, 2))}
    if rng.random() < 0.1:
        found["finalizers"] = ["example.com/wait"]
    return found


def _status(rng: random.Random) -> Json:
    found: Json = {}
    if rng.random() < 0.6:
        found["ledgerHead"] = f"sha256:{rng.choice('ab')}"
    if rng.random() < 0.6:
        found["champion"] = {"version": rng.choice("12"), "since": "2026-01-01T00:00:00Z"}
    return found


def _promotion(rng: random.Random) -> Step:
    name = rng.choice("ab")
    what = f"modelpromotions/{name}"
    path = _path("modelpromotions", name)
    kind = {"apiVersion": PODIUM, "kind": "ModelPromotion"}
    whole: Json = {**kind, "metadata": _metadata(rng, name), "spec": _spec(rng)}
    guarded: Json = {**whole, "metadata": {**whole["metadata"], **_guards(rng, what)}}
    sub = rng.choice(["", "/status"])
    match rng.choice(["create", "put", "status", "merge", "apply", "apply", "delete", "get"]):
        case "create":
            body = {**whole, "status": _status(rng)}
            return Step("POST", _path("modelpromotions"), body, what=what)
        case "put":
            return Step("PUT", path, {**guarded, "status": _status(rng)}, what=what)
        case "status":
            body = {**guarded, "status": _status(rng)}
            return Step(
                "PUT", f"{path}/status", body, what=what, query={"fieldManager": "operator"}
            )
        case "merge":
            patch: Json = {"metadata": {**_metadata(rng, name), **_guards(rng, what)}}
            patch["status"] = {**_status(rng), "ledgerSeq": rng.choice([None, 1])}
            patch["spec"] = {"suspend": rng.choice([None, True, False])}
            if "finalizers" not in patch["metadata"] and rng.random() < 0.5:
                patch["metadata"]["finalizers"] = None
            return Step("PATCH", path + sub, patch, MERGE, what=what)
        case "apply":
            body = guarded if rng.random() < 0.3 else whole
            return Step("PATCH", path, body, APPLY, _applies(rng), what)
        case "delete":
            wanted = _guards(rng, what)
            options = {"preconditions": wanted} if wanted else None
            return Step("DELETE", path, options, what=what)
    return Step("GET", path + sub, what=what)


def _applies(rng: random.Random) -> dict[str, str]:
    return {
        "fieldManager": rng.choice(["one", "two", "three"]),
        "force": rng.choice(["true", "false"]),
    }


def _configmap(rng: random.Random) -> Step:
    what, path = "configmaps/c", _path("configmaps", "c")
    values = {key: rng.choice("12") for key in rng.sample("abcd", rng.randint(0, 3))}
    whole: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(rng, "c")}
    whole["metadata"].pop("finalizers", None)
    if values or rng.random() < 0.5:
        whole["data"] = values
    match rng.choice(["create", "put", "merge", "strategic", "json", "apply", "apply", "delete"]):
        case "create":
            return Step("POST", _path("configmaps"), whole, what=what)
        case "put":
            metadata = {**whole["metadata"], **_guards(rng, what)}
            return Step("PUT", path, {**whole, "metadata": metadata}, what=what)
        case "merge":
            return Step("PATCH", path, {"data": {**values, "d": None}}, MERGE, what=what)
        case "strategic":
            return Step("PATCH", path, {"data": values}, STRATEGIC, what=what)
        case "json":
            key = rng.choice("ab")
            patch = [{"op": "test", "path": f"/data/{key}", "value": "1"}]
            patch.append({"op": "replace", "path": f"/data/{key}", "value": "2"})
            return Step("PATCH", path, patch, JSON_PATCH, what=what)
        case "apply":
            return Step("PATCH", path, whole, APPLY, _applies(rng), what)
    return Step("DELETE", path, what=what)


def _deployment(rng: random.Random) -> Step:
    what, path = "deployments/d", _path("deployments", "d")
    kind = {"apiVersion": APPS, "kind": "Deployment"}
    annotations = {key: rng.choice("12") for key in rng.sample("abc", rng.randint(0, 2))}
    env = [{"name": key, "value": rng.choice("12")} for key in rng.sample("ABC", rng.randint(0, 2))]
    container: Json = {"name": "server", "env": env} if env else {"name": "server"}
    if rng.random() < 0.6:
        template: Json = {"metadata": {"annotations": annotations}} if annotations else {}
        if env:
            template["spec"] = {"containers": [container]}
        body: Json = {**kind, "metadata": {"name": "d"}}
        if template:
            body["spec"] = {"template": template}
        if rng.random() < 0.3:
            body["metadata"]["uid"] = f"$uid:{what}:{int(rng.random() < 0.3)}"
        return Step("PATCH", path, body, APPLY, _applies(rng), what)
    labels = {"app": "d"}
    container["image"] = "serving:1"
    metadata: Json = {"labels": labels, **({"annotations": annotations} if annotations else {})}
    spec = {
        "replicas": rng.randint(0, 2),
        "paused": True,
        "selector": {"matchLabels": labels},
        "template": {"metadata": metadata, "spec": {"containers": [container]}},
    }
    whole: Json = {**kind, "metadata": _metadata(rng, "d"), "spec": spec}
    whole["metadata"].pop("finalizers", None)
    match rng.choice(["create", "create", "put", "merge", "strategic", "delete"]):
        case "create":
            return Step("POST", _path("deployments"), whole, what=what)
        case "put":
            return Step("PUT", path, whole, what=what)
        case "merge":
            fewer = {"metadata": {"annotations": {**annotations, "c": None}}}
            return Step("PATCH", path, {"spec": {"template": fewer}}, MERGE, what=what)
        case "strategic":
            more = {"spec": {"containers": [{"name": "server", "env": env}]}}
            return Step("PATCH", path, {"spec": {"template": more}}, STRATEGIC, what=what)
    return Step("DELETE", path, what=what)


def _lease(rng: random.Random) -> Step:
    what, path = "leases/l", _path("leases", "l")
    spec: Json = {"holderIdentity": rng.choice("ab"), "leaseDurationSeconds": 12}
    metadata: Json = {"name": "l", **_guards(rng, what)}
    whole = {"apiVersion": LEASES, "kind": "Lease", "metadata": metadata, "spec": spec}
    match rng.choice(["create", "put", "merge", "delete"]):
        case "create":
            return Step("POST", _path("leases"), {**whole, "metadata": {"name": "l"}}, what=what)
        case "put":
            metadata.setdefault("resourceVersion", f"$rv:{what}:0")
            return Step("PUT", path, whole, what=what)
        case "merge":
            spec["leaseDurationSeconds"] = rng.choice([None, 15])
            return Step("PATCH", path, {"metadata": metadata, "spec": spec}, MERGE, what=what)
    return Step("DELETE", path, what=what)


def _listing(rng: random.Random) -> Step:
    query = rng.choice(
        [{}, {"limit": "1"}, {"labelSelector": "x=1"}, {"labelSelector": "x,y notin (2)"}]
    )
    return Step("GET", _path("modelpromotions"), query=query)


def kubernetes_steps(seed: int, count: int) -> list[Step]:
    rng = random.Random(seed)
    kinds = [_promotion] * 6 + [_configmap] * 3 + [_deployment] * 4 + [_lease] * 2 + [_listing]
    return [rng.choice(kinds)(rng) for _ in range(count)]


# MLflow


def _models(rng: random.Random, name: str) -> Step:
    base: Json = {"name": name}
    match rng.choice(["create", "create", "get", "tag", "untag", "delete", "search"]):
        case "create":
            tags = [{"key": rng.choice("ab"), "value": "1"}] if rng.random() < 0.3 else []
            return Step("POST", "registered-models/create", {**base, "tags": tags})
        case "get":
            return Step("GET", "registered-models/get", base)
        case "tag":
            key = rng.choice(["a", "podium.dev/owner/x", "a b", "k?", "../k", "k" * 251])
            return Step("POST", "registered-models/set-tag", {**base, "key": key, "value": "2"})
        case "untag":
            key = rng.choice(["a", "podium.dev/owner/x"])
            return Step("DELETE", "registered-models/delete-tag", {**base, "key": key})
        case "delete":
            if rng.random() < 0.3:
                return Step("DELETE", "registered-models/delete", base)
    return Step("GET", "registered-models/search", {"filter": 'name IN ("MODEL a", "MODEL b")'})


def _versions(rng: random.Random, name: str) -> Step:
    at: Json = {"name": name, "version": rng.choice("1122334x")}
    match rng.choice(
        ["create", "create", "get", "tag", "untag", "stage", "stage", "delete", "search"]
    ):
        case "create":
            tags = [{"key": rng.choice("ab"), "value": rng.choice("12")}]
            body = {"name": name, "source": "s3://bucket/m", "tags": tags[: rng.randint(0, 1)]}
            return Step("POST", "model-versions/create", body)
        case "get":
            return Step("GET", "model-versions/get", at)
        case "tag":
            body = {**at, "key": rng.choice("ab"), "value": rng.choice(["1", "2", ""])}
            return Step("POST", "model-versions/set-tag", body)
        case "untag":
            return Step("DELETE", "model-versions/delete-tag", {**at, "key": rng.choice("ab")})
        case "stage":
            stage = rng.choice(["None", "Staging", "Production", "production", "Archived", "Best"])
            archive = rng.random() < 0.5
            moved = {**at, "stage": stage, "archive_existing_versions": archive}
            return Step("POST", "model-versions/transition-stage", moved)
        case "delete":
            return Step("DELETE", "model-versions/delete", at)
    query = {
        "filter": rng.choice(
            [
                f"name = '{name}'",
                'name IN ("MODEL a", "MODEL b")',
                f"name = '{name}' AND tags.a = '1'",
                f"name = '{name}' AND tags.b != '1'",
            ]
        ),
        "max_results": rng.choice(["2", "100"]),
    }
    order = rng.choice(["", "version_number ASC", "name DESC\nversion_number DESC"])
    return Step("GET", "model-versions/search", query | ({"order_by": order} if order else {}))


def _aliases(rng: random.Random, name: str) -> Step:
    at: Json = {"name": name, "alias": rng.choice(["champion", "champion", "next", "v1", "a b"])}
    match rng.choice(["set", "set", "get", "delete", "latest"]):
        case "set":
            body = {**at, "version": rng.choice("1234")}
            return Step("POST", "registered-models/alias", body)
        case "get":
            return Step("GET", "registered-models/alias", at)
        case "delete":
            return Step("DELETE", "registered-models/alias", at)
    stages = rng.choice(["Production", "Staging", "Archived"])
    return Step("GET", "registered-models/get-latest-versions", {"name": name, "stages": stages})


def mlflow_steps(seed: int, count: int) -> list[Step]:
    """Names begin with MODEL, which stands for the test's own."""
    rng = random.Random(seed)
    kinds = [_models, *[_versions] * 4, *[_aliases] * 2]
    return [rng.choice(kinds)(rng, f"MODEL {rng.choice('aab')}") for _ in range(count)]
