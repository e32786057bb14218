"""The CRDs and the typed models describe the same resources: field by field, both ways."""

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import EnumType
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
import yaml

from podium.api.decision import PromotionDecision
from podium.api.model_registry import ModelRegistry
from podium.api.promotion import ModelPromotion
from podium.api.values import Duration, Resource, decode_hook

CRDS = Path(__file__).parents[2] / "crds"
MODELS = {
    "modelpromotions": ModelPromotion,
    "modelregistries": ModelRegistry,
    "promotiondecisions": PromotionDecision,
}

# Declared so that they are refused with a sentence rather than dropped without one.
REFUSED = {
    "spec.rollout.canary",
    "spec.rollback.analysis",
    *(f"spec.targets[].{k}" for k in ("statefulSet", "httpRoute", "inferenceService", "rollout")),
    *(
        f"spec.gates[].{k}"
        for k in (
            "signature",
            "dataset",
            "window",
            "job",
            "evaluate",
            "prometheus",
            "http",
            "cel",
        )
    ),
}
# The model takes more than a user may write.
NARROWER = {
    "spec.candidate.stage": {"Staging", "Production"},
    "spec.stage": {"None", "Staging", "Production"},
}
# The model has one word for text here, the CRD lists what may be written.
WRITTEN_ENUM = {"spec.gates[].metric.compare.to": {"Champion"}}
# A rule asks for it instead of `required`, so that another kind of target gets a sentence.
REQUIRED_BY_RULE = {"spec.targets[].deployment"}


@dataclass(frozen=True)
class Field:
    """One field of a CRD beside the same field of the model."""

    path: str
    schema: Mapping[str, Any]
    required: bool
    kind: Any  # the annotation, without `| None`
    field: msgspec.structs.FieldInfo


def document(plural: str) -> Any:
    return yaml.safe_load((CRDS / f"podium.dev_{plural}.yaml").read_text())


def schema_of(plural: str) -> Mapping[str, Any]:
    (version,) = document(plural)["spec"]["versions"]
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = [arg for arg in get_args(kind) if arg is not types.NoneType]
    return kind


def item_of(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def fields(schema: Mapping[str, Any], model: type[Resource], path: str) -> Iterator[Field]:
    """Every field below `path` that both sides have, in the schema's order."""
    hints = get_type_hints(model)
    infos = {info.encode_name: info for info in msgspec.structs.fields(model)}
    for name, prop in schema["properties"].items():
        where = f"{path}.{name}".lstrip(".")
        if where in REFUSED or name not in infos:
            continue
        kind = without_none(hints[infos[name].name])
        yield Field(where, prop, name in schema.get("required", ()), kind, infos[name])
        inner, below, suffix = kind, prop, ""
        if (item := item_of(kind)) is not None:
            inner, below, suffix = item, prop["items"], "[]"
        if isinstance(inner, type) and issubclass(inner, Resource):
            yield from fields(below, inner, where + suffix)


def all_fields(plural: str) -> list[Field]:
    schema, model = schema_of(plural), MODELS[plural]
    hints = get_type_hints(model)
    return [
        field
        for part in ("spec", "status")
        for field in fields(schema["properties"][part], hints[part], part)
    ]


def structs(schema: Mapping[str, Any], model: type[Resource], path: str) -> Iterator[Any]:
    """(path, field names in the CRD, field names in the model) of every object."""
    yield path, set(schema["properties"]), {f.encode_name for f in msgspec.structs.fields(model)}
    for field in fields(schema, model, path):
        inner = item_of(field.kind) or field.kind
        if isinstance(inner, type) and issubclass(inner, Resource):
            below = field.schema["items"] if item_of(field.kind) else field.schema
            suffix = "[]" if item_of(field.kind) else ""
            names = {f.encode_name for f in msgspec.structs.fields(inner)}
            yield field.path + suffix, set(below["properties"]), names


@pytest.mark.parametrize("plural", MODELS)
def test_the_fields_are_those_of_the_model(plural: str) -> None:
    hints = get_type_hints(MODELS[plural])
    refused = set()
    for part in ("spec", "status"):
        schema = schema_of(plural)["properties"][part]
        for path, in_crd, in_model in structs(schema, hints[part], part):
            only_in_crd = {f"{path}.{name}" for name in in_crd - in_model}
            assert only_in_crd <= REFUSED, f"{path}: the model lacks {only_in_crd - REFUSED}"
            assert in_model <= in_crd, f"{path}: the CRD lacks {in_model - in_crd}"
            refused |= only_in_crd
    assert refused == (REFUSED if plural == "modelpromotions" else set())


@pytest.mark.parametrize("plural", MODELS)
def test_the_types_and_enums_are_those_of_the_model(plural: str) -> None:
    for field in all_fields(plural):
        assert field.schema["type"] == json_type(field.kind), field.path
        written = set(field.schema.get("enum", ()))
        if isinstance(field.kind, EnumType):
            wanted = NARROWER.get(field.path, {str(member) for member in field.kind})
            assert written == wanted, field.path
        else:
            assert written == WRITTEN_ENUM.get(field.path, set()), field.path
        if field.kind is datetime:
            assert field.schema["format"] == "date-time", field.path


@pytest.mark.parametrize("plural", MODELS)
def test_the_defaults_and_required_fields_are_those_of_the_model(plural: str) -> None:
    for field in all_fields(plural):
        in_status = field.path.startswith("status.")
        has_default = "default" in field.schema
        assert not (in_status and has_default), f"{field.path}: status is as the operator wrote it"
        if field.path not in REQUIRED_BY_RULE:
            wanted = field.field.required or field.path.startswith("status.conditions[].")
            optional = field.path == "status.conditions[].observedGeneration"
            assert field.required == (wanted and not optional), field.path
        if in_status or field.field.required:
            continue
        default = field.field.default
        if default is msgspec.NODEFAULT:  # a default factory: an empty map
            default = field.field.default_factory()  # type: ignore[operator, misc]
        if has_default:
            assert read_as(field.kind, field.schema["default"]) == default, field.path
        else:  # the API server adds nothing, so absent must mean empty in the model
            assert default in (None, (), {}), field.path


def test_status_stays_small_by_bounds_on_every_list() -> None:
    for plural in MODELS:
        for path, schema in walk(schema_of(plural), ""):
            if schema.get("type") == "array":
                assert "maxItems" in schema, f"{plural}: {path} has no bound"
            if schema.get("type") == "string" and "format" not in schema and "enum" not in schema:
                bounded = "maxLength" in schema or path in (".apiVersion", ".kind")
                assert bounded, f"{plural}: {path} has no bound"
            if "additionalProperties" in schema:
                assert "maxProperties" in schema, f"{plural}: {path} has no bound"


@pytest.mark.parametrize(("plural", "short"), [
    ("modelpromotions", "mp"), ("modelregistries", "mreg"), ("promotiondecisions", "pd"),
])  # fmt: skip
def test_names_scope_and_status_subresource(plural: str, short: str) -> None:
    spec = document(plural)["spec"]
    assert spec["scope"] == "Namespaced"
    assert spec["names"]["shortNames"] == [short]
    assert spec["names"]["categories"] == ["podium"]
    (version,) = spec["versions"]
    assert version["name"] == "v1alpha1"
    assert version["subresources"] == {"status": {}}


def test_every_rule_says_what_to_do() -> None:
    for plural in MODELS:
        for path, schema in walk(schema_of(plural), ""):
            for rule in schema.get("x-kubernetes-validations", ()):
                assert len(rule["message"]) > 15, f"{plural}: {path}: {rule['rule']}"
            assert "pattern" not in schema, f"{plural}: {path}: its error is no sentence"


PAGES = {
    "modelpromotions": "modelpromotion.md",
    "modelregistries": "modelregistry.md",
    "promotiondecisions": "promotiondecision.md",
}


@pytest.mark.parametrize("plural", MODELS)
def test_each_field_is_in_its_page(plural: str) -> None:
    page = (CRDS.parent / "docs" / PAGES[plural]).read_text()
    told = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`|^### .+$", page, re.MULTILINE))))
    schema = schema_of(plural)["properties"]
    paths = [path for path, _ in walk(schema["spec"], "spec")]
    paths += [f"status.{name}" for name in schema["status"]["properties"]]
    names = {re.sub(r"[\[\]{}]", "", path.split(".")[-1]) for path in paths}
    assert names - told - {"spec"} == set()


def test_kubectl_explain_says_a_word_about_each_field() -> None:
    for plural in MODELS:
        for part in ("spec", "status"):
            schema = schema_of(plural)["properties"][part]
            silent = [
                name for name, field in schema["properties"].items() if "description" not in field
            ]
            assert "description" in schema and not silent, f"{plural}: {part}: {silent}"
        for field in all_fields(plural):
            if field.path.startswith("spec."):
                assert field.schema.get("description"), f"{plural}: {field.path}"


def json_type(kind: Any) -> str:
    simple = {bool: "boolean", int: "integer", str: "string", datetime: "string"}
    simple |= {Duration: "string", Decimal: "string"}
    if kind in simple:
        return simple[kind]
    if isinstance(kind, EnumType):
        return "string"
    return "array" if get_origin(kind) is tuple else "object"


def read_as(kind: Any, value: object) -> object:
    return msgspec.convert(value, kind, dec_hook=decode_hook, strict=True)


def walk(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, schema
    for name, prop in schema.get("properties", {}).items():
        yield from walk(prop, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")
