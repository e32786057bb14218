"""What PATCH means in each of its forms but server-side apply. Changes no object in place."""

from __future__ import annotations

import copy
from typing import Any

from tests.models import fields
from tests.models.shapes import Json, Names, Shape


class PatchError(Exception):
    """The patch does not fit the object."""


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    found = dict(value) if isinstance(value, dict) else {}
    for key, child in patch.items():
        if child is None:
            found.pop(key, None)
        else:
            found[key] = merge_patch(found.get(key), child)
    return found


def strategic_merge_patch(value: Any, patch: Any, names: Names, shape: Shape) -> Any:
    """Lists with keys are merged by key; of the directives only `$patch: delete` is known."""
    if isinstance(patch, dict) and isinstance(value, dict):
        found = dict(value)
        for key, child in patch.items():
            if child is None:
                found.pop(key, None)
            else:
                found[key] = strategic_merge_patch(found.get(key), child, (*names, key), shape)
        return found
    if isinstance(patch, list) and isinstance(value, list) and names in shape.keyed:
        return _merged_items(value, patch, names, shape)
    if isinstance(patch, list) and isinstance(value, list) and names in shape.sets:
        return [*value, *(item for item in patch if item not in value)]
    return copy.deepcopy(patch)


def _merged_items(value: list[Json], patch: list[Json], names: Names, shape: Shape) -> list[Json]:
    """Those of the patch in its order, and among them the others where they were."""
    keys = shape.keyed[names]
    before = {fields.key_of(item, keys): item for item in value}
    asked = {fields.key_of(item, keys): item for item in patch}
    theirs = [key for key, item in asked.items() if item.get("$patch") != "delete"]
    others = [key for key in before if key not in asked]
    place = {key: number for number, key in enumerate(before)}
    order = []
    while others or theirs:
        known = bool(others and theirs) and theirs[0] in place
        first = not theirs or (known and place[others[0]] < place[theirs[0]])
        order.append((others if first else theirs).pop(0))
    return [
        strategic_merge_patch(before.get(key), asked[key], names, shape)
        if key in asked
        else before[key]
        for key in order
    ]


def json_patch(value: Json, operations: list[Json]) -> Json:
    """RFC 6902 with add, remove, replace and test. Raises PatchError."""
    found = copy.deepcopy(value)
    for operation in operations:
        path = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        parent: Any = found
        try:
            for part in path[:-1]:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            _do(operation, parent, path[-1])
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise PatchError(f"{operation['op']} operation does not apply: {error}") from error
    return found


def _do(operation: Json, parent: Any, last: str) -> None:
    at: Any = last if isinstance(parent, dict) or last == "-" else int(last)
    match operation["op"]:
        case "test":
            if parent[at] != operation["value"]:
                raise PatchError("testing value failed")
        case "remove":
            del parent[at]
        case "replace":
            if isinstance(parent, dict) and at not in parent:
                raise KeyError(at)
            parent[at] = operation["value"]
        case "add" if isinstance(parent, dict):
            parent[at] = operation["value"]
        case "add":
            parent.insert(len(parent) if at == "-" else at, operation["value"])
        case other:
            raise PatchError(f"the operation {other} is not known")
