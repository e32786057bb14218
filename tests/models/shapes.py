"""What the API server's schemas say of the kinds that the models hold, as far as merging needs it.

For server-side apply: which lists are merged by key, which are sets, what is one field as a whole,
and where keys are free. For custom resources all of it is read from the CRD, and the defaults and
the pruning of unknown fields too. Values are not validated: what is sent is held to be valid.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
Names = tuple[str, ...]  # the fields on the way, without the list items between them

CRDS = Path(__file__).parents[2] / "crds"


@dataclass(frozen=True)
class Shape:
    """Where an object is more than nested structs. Lists are atomic unless named here."""

    keyed: Mapping[Names, tuple[str, ...]] = field(default_factory=dict)
    sets: frozenset[Names] = frozenset()
    atomic: frozenset[Names] = frozenset()
    free: frozenset[Names] = frozenset()  # maps whose keys are no fields of a schema


_METADATA_FREE = (("metadata", "labels"), ("metadata", "annotations"))
METADATA = Shape(
    keyed={("metadata", "ownerReferences"): ("uid",)},
    sets=frozenset({("metadata", "finalizers")}),
    free=frozenset(_METADATA_FREE),
)

_POD = {
    ("containers",): ("name",),
    ("containers", "env"): ("name",),
    ("containers", "ports"): ("containerPort", "protocol"),
    ("containers", "volumeMounts"): ("mountPath",),
    ("initContainers",): ("name",),
    ("initContainers", "env"): ("name",),
    ("initContainers", "volumeMounts"): ("mountPath",),
    ("volumes",): ("name",),
    ("imagePullSecrets",): ("name",),
    ("readinessGates",): ("conditionType",),
}
_POD_ATOMIC: set[Names] = {
    ("nodeSelector",),
    ("containers", "env", "valueFrom", "secretKeyRef"),
    ("containers", "env", "valueFrom", "configMapKeyRef"),
    ("containers", "env", "valueFrom", "fieldRef"),
}
_POD_FREE: set[Names] = {
    ("containers", "resources", "limits"),
    ("containers", "resources", "requests"),
}
_TEMPLATE = ("spec", "template")


def _below(prefix: Names, names: set[Names]) -> frozenset[Names]:
    return frozenset(prefix + each for each in names)


POD = Shape(
    keyed={
        **METADATA.keyed,
        **{("spec", *names): keys for names, keys in _POD.items()},
        ("status", "conditions"): ("type",),
    },
    sets=METADATA.sets,
    atomic=_below(("spec",), _POD_ATOMIC),
    free=METADATA.free | _below(("spec",), _POD_FREE),
)
DEPLOYMENT = Shape(
    keyed={
        **METADATA.keyed,
        **{(*_TEMPLATE, "spec", *names): keys for names, keys in _POD.items()},
        ("status", "conditions"): ("type",),
    },
    sets=METADATA.sets,
    atomic=_below((*_TEMPLATE, "spec"), _POD_ATOMIC) | {("spec", "selector")},
    free=METADATA.free
    | _below((*_TEMPLATE, "spec"), _POD_FREE)
    | {(*_TEMPLATE, *names) for names in _METADATA_FREE},
)
WITH_DATA = Shape(
    keyed=METADATA.keyed, sets=METADATA.sets, free=METADATA.free | {("data",), ("stringData",)}
)


@cache
def crd_schemas() -> Mapping[str, Json]:
    """The structural schema of each of Podium's CRDs, by plural."""
    found = {}
    for file in sorted(CRDS.glob("podium.dev_*.yaml")):
        crd = yaml.safe_load(file.read_text())
        version = crd["spec"]["versions"][0]
        found[str(crd["spec"]["names"]["plural"])] = version["schema"]["openAPIV3Schema"]
    return found


def shape_of(schema: Json) -> Shape:
    """The Shape that a structural schema describes, with that of all metadata."""
    keyed, sets, atomic, free = dict(METADATA.keyed), set(METADATA.sets), set(), set(METADATA.free)
    for names, node in _nodes(schema, ()):
        kind = node.get("x-kubernetes-list-type")
        if kind == "map":
            keyed[names] = tuple(node["x-kubernetes-list-map-keys"])
        elif kind == "set":
            sets.add(names)
        if node.get("x-kubernetes-map-type") == "atomic":
            atomic.add(names)
        if "additionalProperties" in node or node.get("x-kubernetes-preserve-unknown-fields"):
            free.add(names)
    return Shape(keyed, frozenset(sets), frozenset(atomic), frozenset(free))


def _nodes(schema: Json, names: Names) -> Iterator[tuple[Names, Json]]:
    yield names, schema
    for key, child in (schema.get("properties") or {}).items():
        yield from _nodes(child, (*names, key))
    if "items" in schema:
        yield from _nodes(schema["items"], names)


def with_defaults(value: Any, schema: Json) -> Any:
    """`value` with the defaults of a structural schema, in place."""
    if isinstance(value, dict):
        for key, child in (schema.get("properties") or {}).items():
            if value.get(key) is None and "default" in child:
                value[key] = copy.deepcopy(child["default"])
            if key in value:
                with_defaults(value[key], child)
    elif isinstance(value, list) and "items" in schema:
        for item in value:
            with_defaults(item, schema["items"])
    return value


class NullError(Exception):
    """A null where the schema wants a value: the path of the field."""


def pruned(value: Any, schema: Json, path: str = "") -> Any:
    """`value` without the fields that the schema does not know. Raises NullError."""
    if isinstance(value, list):
        items = schema.get("items") or {}
        return [pruned(item, items, f"{path}[{number}]") for number, item in enumerate(value)]
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return value
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    found = {}
    for key, child in value.items():
        known = properties.get(key)
        if not path and key in ("apiVersion", "kind", "metadata"):
            found[key] = child
        elif known is not None:
            if child is None and "default" in known:
                continue
            if child is None and not known.get("nullable"):
                raise NullError(f"{path}.{key}".lstrip("."))
            found[key] = pruned(child, known, f"{path}.{key}")
        elif extra:
            found[key] = pruned(child, extra, f"{path}.{key}") if extra is not True else child
    return found


def deployment_defaults(deployment: Json) -> Json:
    """`deployment` with what apps/v1 fills in, in place."""
    spec = deployment.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    pod_defaults(template.setdefault("spec", {}))
    for metadata in (deployment["metadata"], template["metadata"]):
        for name in ("labels", "annotations"):
            if not metadata.get(name):  # Go leaves an empty map out
                metadata.pop(name, None)
    return deployment


def pod_defaults(spec: Json) -> Json:
    """A pod's spec with what core/v1 fills in, in place."""
    for key, value in {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
    }.items():
        spec.setdefault(key, value)
    spec.setdefault("securityContext", {})
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or []:
            _container_defaults(container)
    return spec


def _container_defaults(container: Json) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = tag in ("", "latest") and "@" not in image
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    if not container.get("env", True):
        del container["env"]
