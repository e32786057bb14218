"""The kinds that the model of the API server holds, and how each is served."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.models import shapes
from tests.models.shapes import Json, Shape


def _as_is(body: Json) -> Json:
    return body


@dataclass(frozen=True, eq=False)
class Kind:
    """`group` is "" for the core group. `complete` fills in what the server fills in."""

    group: str
    version: str
    plural: str
    kind: str
    shape: Shape = shapes.METADATA
    namespaced: bool = True
    has_status: bool = False
    has_generation: bool = False
    custom: bool = False  # defined by a CRD
    created_by_put: bool = False
    complete: Callable[[Json], Json] = _as_is
    # What Go's structs have before anything is set: nobody comes to own it.
    empty: Mapping[str, Any] = field(default_factory=dict)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As errors name it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """The path of all objects of the kind: `/apis/apps/v1/deployments`."""
        before = f"/apis/{self.group}" if self.group else "/api"
        return f"{before}/{self.version}/{self.plural}"

    def generation_follows(self, old: Json, new: Json) -> bool:
        """Whether the difference is one that metadata.generation counts."""
        if not self.has_generation:
            return False
        if self.custom:
            return _rest(old) != _rest(new)
        if old.get("spec") != new.get("spec"):
            return True
        # apps/v1 counts a Deployment's annotations too (its controller copies them).
        return self.plural == "deployments" and _annotations(old) != _annotations(new)


def _rest(found: Json) -> Json:
    return {key: value for key, value in found.items() if key not in ("metadata", "status")}


def _annotations(found: Json) -> Json:
    return found["metadata"].get("annotations") or {}


def _custom(plural: str, kind: str) -> Kind:
    schema = shapes.crd_schemas()[plural]

    def complete(body: Json) -> Json:
        return shapes.with_defaults(shapes.pruned(body, schema), schema)  # type: ignore[no-any-return]

    return Kind(
        "podium.dev",
        "v1alpha1",
        plural,
        kind,
        shape=shapes.shape_of(schema),
        has_status=True,
        has_generation=True,
        custom=True,
        complete=complete,
    )


def _with_data(body: Json) -> Json:
    for name in ("data", "binaryData"):
        if not body.get(name, True):  # Go leaves an empty map out
            del body[name]
    return body


def _secret(body: Json) -> Json:
    plain = body.pop("stringData", None) or {}
    if plain:
        coded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        body["data"] = {**(body.get("data") or {}), **coded}
    body.setdefault("type", "Opaque")
    return _with_data(body)


def _pod(body: Json) -> Json:
    shapes.pod_defaults(body.setdefault("spec", {}))
    return body


def _autoscaler(body: Json) -> Json:
    body.setdefault("spec", {}).setdefault("minReplicas", 1)
    return body


def _namespace(body: Json) -> Json:
    name = body["metadata"].get("name")
    body["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    body["spec"] = {"finalizers": ["kubernetes"]}
    body["status"] = copy.deepcopy(body.get("status") or {"phase": "Active"})
    return body


_EMPTY_DEPLOYMENT: Json = {
    "spec": {"strategy": {}, "template": {"metadata": {}, "spec": {"containers": []}}},
    "status": {},
}


@cache
def kinds() -> dict[tuple[str, str, str], Kind]:
    """By group, version and plural."""
    found = [
        Kind("", "v1", "namespaces", "Namespace", namespaced=False, complete=_namespace),
        Kind(
            "",
            "v1",
            "pods",
            "Pod",
            shape=shapes.POD,
            has_status=True,
            has_generation=True,
            complete=_pod,
        ),
        Kind("", "v1", "secrets", "Secret", shape=shapes.WITH_DATA, complete=_secret),
        Kind("", "v1", "configmaps", "ConfigMap", shape=shapes.WITH_DATA, complete=_with_data),
        Kind(
            "apps",
            "v1",
            "deployments",
            "Deployment",
            shape=shapes.DEPLOYMENT,
            has_status=True,
            has_generation=True,
            complete=shapes.deployment_defaults,
            empty=_EMPTY_DEPLOYMENT,
        ),
        Kind(
            "apps",
            "v1",
            "replicasets",
            "ReplicaSet",
            shape=shapes.DEPLOYMENT,
            has_status=True,
            has_generation=True,
        ),
        Kind(
            "autoscaling",
            "v2",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            has_status=True,
            complete=_autoscaler,
        ),
        Kind(
            "coordination.k8s.io",
            "v1",
            "leases",
            "Lease",
            created_by_put=True,
            empty={"spec": {}},
        ),
        Kind("events.k8s.io", "v1", "events", "Event", created_by_put=True),
        _custom("modelpromotions", "ModelPromotion"),
        _custom("modelregistries", "ModelRegistry"),
        _custom("promotiondecisions", "PromotionDecision"),
    ]
    return {(kind.group, kind.version, kind.plural): kind for kind in found}


def kind_of(plural: str) -> Kind:
    """The kind of that plural, which is unique here."""
    return next(kind for kind in kinds().values() if kind.plural == plural)
