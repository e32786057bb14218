"""Changes of valid resources, found by walking the CRD's schema (after Acto).

For each property that a resource has, or could have: removed, emptied, of another type, at and
past its bounds, outside its enum, against its format; list items added, doubled, removed and put
in another order. Whether a change makes sense is not known here: the API server and the operator
have to answer it. Changes that only a person would think of are in `semantic`.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).parents[3] / "crds"
PLURALS = {
    "ModelPromotion": "modelpromotions",
    "ModelRegistry": "modelregistries",
    "PromotionDecision": "promotiondecisions",
}


class Moment(StrEnum):
    """When a change comes: what the promotion is doing just then."""

    CREATED = "Created"  # the resource comes into being with the change
    AT_REST = "AtRest"
    VALIDATING = "Validating"
    AWAITING_APPROVAL = "AwaitingApproval"
    PROMOTING = "Promoting"
    VERIFYING = "Verifying"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"


MID_ATTEMPT = tuple(Moment)[2:]


Edit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Change:
    """What is done to the spec `before`; `what` says it in words."""

    kind: str
    field: str
    what: str
    before: Mapping[str, Any]
    edit: Edit

    def __str__(self) -> str:
        return f"{self.kind} {self.field}: {self.what}"

    @cached_property
    def spec(self) -> Any:
        """The whole spec after the change. Made when it is asked for: most never are."""
        holder = {"spec": json.loads(json.dumps(self.before))}
        self.edit(holder)
        return holder["spec"]

    @property
    def changes_nothing(self) -> bool:
        return json.dumps(self.spec, sort_keys=True) == json.dumps(self.before, sort_keys=True)


@cache
def schema_of(kind: str) -> Mapping[str, Any]:
    """The schema of the kind's spec."""
    document = yaml.safe_load((CRDS / f"podium.dev_{PLURALS[kind]}.yaml").read_text())
    (version,) = document["spec"]["versions"]
    found: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def fields_of(schema: Mapping[str, Any], path: str = "spec") -> Iterator[str]:
    """Every property of a schema, as changes name it: list items all have the index 0."""
    for name, below in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields_of(below, f"{path}.{name}")
    if "items" in schema:
        yield from fields_of(schema["items"], f"{path}[0]")


def changes_of(kind: str, valid: Mapping[str, Any]) -> Iterator[Change]:
    """Every change of `valid` that the schema suggests, each field and wording once."""
    seen = set()
    for field, what, edit in _edits(schema_of(kind), valid, "spec"):
        if (field, what) not in seen:
            seen.add((field, what))
            yield Change(kind, field, what, valid, edit)


_Edits = Iterator[tuple[str, str, Edit]]
_MISSING = object()


def _edits(schema: Mapping[str, Any], value: Any, path: str) -> _Edits:
    """What can be done to `value`, which stands at `path`, and to all below it."""
    for said, new in _values(schema, value):
        yield path, said, _setting(path, new)
    if schema.get("type") == "object" and isinstance(value, dict):
        yield f"{path}.typo", "an unknown field", _setting(f"{path}.typo", "x")
        for name, below in schema.get("properties", {}).items():
            yield from _property_edits(below, value.get(name, _MISSING), f"{path}.{name}")
    if schema.get("type") == "array" and isinstance(value, list):
        for index in range(len(value)):
            yield from _edits(schema["items"], value[index], f"{path}[{index}]")


def _property_edits(schema: Mapping[str, Any], value: Any, path: str) -> _Edits:
    if value is not _MISSING:
        yield path, "removed", _removing(path)
        yield from _edits(schema, value, path)
        return
    sample = _sample(schema)
    add = _setting(path, sample)
    yield path, f"added: {_shown(sample)}", add
    for field, what, edit in _edits(schema, sample, path):
        yield field, what, _both(add, edit)


def _sample(schema: Mapping[str, Any]) -> Any:
    """A value of the right type that says little."""
    if "default" in schema and schema["default"] != {}:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            return {n: _sample(s) for n, s in schema.get("properties", {}).items() if n in required}
        case "array":
            return [_sample(schema["items"])]
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return {"duration": "1m", "decimal": "0.5", "number": "1"}.get(_format(schema), "sample")


_WRONG_TYPES: Mapping[str, tuple[Any, ...]] = {
    "string": (7, True, ["a"], {"a": "b"}, None),
    "integer": ("3", 1.5, True, [], None),
    "boolean": ("true", 0, None),
    "object": ("text", [], 1, None),
    "array": ({}, "text", None),
}
_DURATIONS = (
    "0s", "1ms", "1s", "90m", "1.5h", "999999d", "999999d999999d99999d", "0.000001ms", "1h1h1h",
    "-1s", "+1s", "1w", "10", "s", "1 s", "1S", "1s\n", "٣s",
)  # fmt: skip
_DECIMALS = (
    "0", "-0", "1", ".5", "+1", "-1", "1e99", "1e-99", "0.9000000000000000000000000000000000001",
    "NaN", "inf", "1,5", "0x10", "1e100", "5.", " 1", "1_0",
)  # fmt: skip
_NUMBERS = ("1", "2", "3", "9999999999", "0", "01", "-1", "1.0", "1e1", "v1", "latest", "1\n", "١")
_TEXTS = (
    "a", "a1", "server", "api", "champion", "mlflow", "true", "null", "0", "a.b", "x" * 60,
    "A", "ä", "日本", "-a", "a-", "a_b", "a b", "a/b", "a:b", "a\nb", "a\n", " ", "\t", "\u0000",
    "latest", "v1", "models:/a@b", "$(HOSTNAME)", "{{ x }}", "'\"`", "%00", "*", "[", "a?b",
    "https://127.0.0.1:9", "http://127.0.0.1:9", "ftp://127.0.0.1", "http://", "\U0001f3b8",
)  # fmt: skip


def _values(schema: Mapping[str, Any], value: Any) -> Iterator[tuple[str, Any]]:
    """Other values for one place; never the value that is there."""
    kind = str(schema.get("type"))
    for wrong in _WRONG_TYPES.get(kind, ()):
        yield f"another type: {_shown(wrong)}", wrong
    found: Iterator[tuple[str, Any]]
    match kind:
        case "string":
            found = _strings(schema)
        case "integer":
            found = _integers(schema)
        case "boolean":
            found = iter([("the other value", not value)])
        case "array":
            found = _lists(schema, value if isinstance(value, list) else [])
        case _:
            found = _objects(schema)
    for what, new in found:
        if new != value:
            yield what, new


def _strings(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "empty", ""
    for each in schema.get("enum", ()):
        yield f"of the enum: {each}", each
    if "enum" in schema:
        yield "outside the enum", "Sometimes"
        yield "in another case", str(schema["enum"][0]).lower()
        return
    form = _format(schema)
    corpus = {"duration": _DURATIONS, "decimal": _DECIMALS, "number": _NUMBERS}.get(form, _TEXTS)
    for each in corpus:
        yield f"the text {_shown(each)}", each
    fill = "9" if form in ("decimal", "number") else "a"
    if "maxLength" in schema:
        longest = schema["maxLength"]
        yield f"{longest} characters, as many as may be", fill * longest
        yield f"{longest + 1} characters, one too many", fill * (longest + 1)
        yield f"{longest} characters of 4 bytes", "\U0001f3b8" * longest


def _format(schema: Mapping[str, Any]) -> str:
    rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
    if "(ms|s|m|h" in rules:
        return "duration"
    if "[eE]" in rules:
        return "decimal"
    return "number" if "^[1-9][0-9]*$" in rules else "text"


def _integers(schema: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, beyond in (("minimum", -1), ("maximum", 1)):
        if name in schema:
            yield f"the {name}", schema[name]
            yield f"past the {name}", schema[name] + beyond
    for each in (0, 1, 2, -1, 2**31, 2**63, 10**30):
        yield f"the number {each}", each


def _lists(schema: Mapping[str, Any], value: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    yield "an empty list", []
    sample = _sample(schema["items"])
    yield "an item added", [*value, sample]
    yield "an item of null added", [*value, None]
    yield "an item of another type added", [*value, [[]]]
    if value:
        yield "the first item removed", value[1:]
        yield "the last item removed", value[:-1]
        yield "the last item doubled", [*value, value[-1]]
        yield "the last item doubled under another name", [*value, _renamed(value[-1], "twin")]
        yield "in the other order", value[::-1]
    most = schema.get("maxItems")
    if most:
        item = value[-1] if value else sample
        many = [_renamed(item, f"n{number}") for number in range(most + 1)]
        yield f"{most} items, as many as may be", many[:most]
        yield f"{most + 1} items, one too many", many


def _renamed(item: Any, name: str) -> Any:
    return {**item, "name": name} if isinstance(item, dict) and "name" in item else item


def _objects(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if not schema.get("required"):
        yield "an empty object", {}
    if "additionalProperties" not in schema:
        return
    most = schema.get("maxProperties", 8)
    longest = schema["additionalProperties"].get("maxLength", 64)
    yield "another key", {"other": "true"}
    yield "a key with odd characters", {"a/b c\U0001f3b8.'\"": "true"}
    yield "an empty key", {"": "true"}
    yield "an empty value", {"reviewed": ""}
    yield "a value of another type", {"reviewed": True}
    yield "the longest value", {"reviewed": "a" * longest}
    yield "a value too long", {"reviewed": "a" * (longest + 1)}
    yield f"{most} entries", {f"k{number}": "v" for number in range(most)}
    yield f"{most + 1} entries, one too many", {f"k{number}": "v" for number in range(most + 1)}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 48 else f"{text[:45]}..."


_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def _steps(path: str) -> list[str | int]:
    return [name or int(index) for name, index in _STEP.findall(path)]


def _setting(path: str, value: Any) -> Edit:
    def edit(root: dict[str, Any]) -> None:
        *way, last = _steps(path)
        _walk(root, way)[last] = copy.deepcopy(value)

    return edit


def _removing(path: str) -> Edit:
    def edit(root: dict[str, Any]) -> None:
        *way, last = _steps(path)
        del _walk(root, way)[last]

    return edit


def _both(first: Edit, second: Edit) -> Edit:
    def edit(root: dict[str, Any]) -> None:
        first(root)
        second(root)

    return edit


def _walk(root: Any, way: list[str | int]) -> Any:
    for step in way:
        root = root[step]
    return root
