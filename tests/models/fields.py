"""Who owns which field: sets of field paths, and server-side apply on them.

A small form of structured-merge-diff (`merge/update.go`, `typed/compare.go`), on JSON and a Shape.
Not modelled: duplicates in keyed lists, several API versions of one kind, editing managedFields.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from tests.models.shapes import Json, Names, Shape


class Key(NamedTuple):
    """An item of a list that is merged by key: the key's fields and values."""

    fields: tuple[tuple[str, Any], ...]


class Member(NamedTuple):
    """A value of a list that is a set."""

    value: Any


Element = str | Key | Member
Path = tuple[Element, ...]
Paths = frozenset[Path]

_ABSENT = object()  # as opposed to null: a map that lost all its fields is still there

# The API server keeps these itself, so nobody owns them.
_NOT_OWNED: Paths = frozenset(
    {("apiVersion",), ("kind",), ("metadata",)}
    | {
        ("metadata", name)
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    }
)


@dataclass(frozen=True)
class Comparison:
    """Which paths differ between two objects."""

    added: Paths
    modified: Paths
    removed: Paths


def owned_by_config(config: Json, shape: Shape) -> Paths:
    """The fields that an applied configuration names: typed/tofieldset.go."""
    return frozenset(_config_paths(config, (), (), shape)) - _NOT_OWNED


def compare(old: Json, new: Json, shape: Shape) -> Comparison:
    """typed/compare.go."""
    added: set[Path] = set()
    modified: set[Path] = set()
    removed: set[Path] = set()
    _compare(old, new, (), (), shape, (added, modified, removed))
    return Comparison(*(frozenset(each) - _NOT_OWNED for each in (added, modified, removed)))


def _compare(
    old: Any, new: Any, path: Path, names: Names, shape: Shape, into: tuple[set[Path], ...]
) -> None:
    added, modified, removed = into
    if old is new:
        return
    if _is_leaf(old, new, names, shape):
        if old is _ABSENT:
            added.add(path)
        elif new is _ABSENT:
            removed.add(path)
        elif old != new:
            modified.add(path)
        return
    before, after = _children(old, names, shape), _children(new, names, shape)
    for element in before.keys() | after.keys():
        below = (*names, element) if isinstance(element, str) else names
        here = (*path, element)
        were, are = before.get(element, _ABSENT), after.get(element, _ABSENT)
        _compare(were, are, here, below, shape, into)
    if old is _ABSENT:
        added.add(path)
    elif new is _ABSENT:
        removed.add(path)


def _is_leaf(old: Any, new: Any, names: Names, shape: Shape) -> bool:
    if old in (_ABSENT, None, {}) and new in (_ABSENT, None, {}):
        return True
    if old in (_ABSENT, None, []) and new in (_ABSENT, None, []):
        return True
    return not any(_is_granular(one, names, shape) for one in (old, new))


def _is_granular(value: Any, names: Names, shape: Shape) -> bool:
    if isinstance(value, dict):
        return names not in shape.atomic
    return isinstance(value, list) and (names in shape.keyed or names in shape.sets)


def _children(value: Any, names: Names, shape: Shape) -> dict[Element, Any]:
    if isinstance(value, dict):
        return dict(value)
    if not isinstance(value, list):
        return {}
    if names in shape.sets:
        return {Member(item): item for item in value}
    keys = shape.keyed[names]
    return {key_of(item, keys): item for item in value}


def key_of(item: Json, keys: Iterable[str]) -> Key:
    # A port without protocol is TCP: the only default that is part of a key.
    found = {key: item.get(key, "TCP" if key == "protocol" else None) for key in sorted(keys)}
    return Key(tuple((key, value) for key, value in found.items() if value is not None))


def _config_paths(value: Any, path: Path, names: Names, shape: Shape) -> Iterator[Path]:
    if not _is_granular(value, names, shape):
        yield path
        return
    for element, child in _children(value, names, shape).items():
        below = (*names, element) if isinstance(element, str) else names
        here = (*path, element)
        yield from _config_paths(child, here, below, shape)
        if not isinstance(element, str) or child in (None, {}) or names in shape.free:
            yield here


def merged(live: Any, config: Any, names: Names, shape: Shape) -> Any:
    """`live` with what `config` says laid over it: typed/merge.go."""
    if not (_is_granular(config, names, shape) and _is_granular(live, names, shape)):
        return copy.deepcopy(config)
    if isinstance(config, dict):
        found = dict(live)
        for key, child in config.items():
            below = (*names, key)
            found[key] = merged(live[key], child, below, shape) if key in live else child
        return found
    theirs, mine = _children(config, names, shape), _children(live, names, shape)
    return [
        merged(mine[element], theirs[element], names, shape)
        if element in mine and element in theirs
        else copy.deepcopy(theirs[element])
        if element in theirs
        else mine[element]
        for element in _interleaved(list(mine), list(theirs))
    ]


def _interleaved(mine: list[Element], theirs: list[Element]) -> list[Element]:
    """The order of a merged list: theirs as it is, mine among them as far as it goes."""
    shared = [element for element in theirs if element in mine]
    order: list[Element] = []
    left, right = list(mine), list(theirs)
    while left or right:
        if left and right:
            if left[0] == right[0]:
                order.append(right.pop(0))
                left.pop(0)
                shared = shared[1:]
                continue
            if left[0] in theirs and shared and shared[0] != left[0]:
                left.pop(0)  # shared, but not what comes next of the shared ones
                continue
        if left and left[0] not in theirs:
            order.append(left.pop(0))
            continue
        if left and left[0] in order:
            left.pop(0)
        if right:
            element = right.pop(0)
            order.append(element)
            if shared and shared[0] == element:
                shared = shared[1:]
    return order


def without(value: Any, gone: Paths, shape: Shape) -> Any:
    """`value` without the fields of these paths; maps and lists that end up empty become null."""
    return _without(value, (), (), gone, shape)


def _without(value: Any, path: Path, names: Names, gone: Paths, shape: Shape) -> Any:
    if not value or not _is_granular(value, names, shape):
        return value
    kept: dict[Element, Any] = {}
    for element, child in _children(value, names, shape).items():
        here = (*path, element)
        if here in gone:
            continue
        below = (*names, element) if isinstance(element, str) else names
        kept[element] = _without(child, here, below, gone, shape)
    if not kept:
        return None
    return kept if isinstance(value, dict) else list(kept.values())


def without_nulls(value: Any) -> Any:
    """As Go's structs are written: what is null is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [without_nulls(child) for child in value]
    return value


def with_named(paths: Paths, shape: Shape) -> Paths:
    """With the struct fields on the way to each path: Set.EnsureNamedFieldsAreMembers."""
    found = set(paths)
    for path in paths:
        for length in range(len(path) - 1, 0, -1):
            prefix = path[:length]
            if prefix in found:
                continue
            names = tuple(element for element in prefix[:-1] if isinstance(element, str))
            if isinstance(prefix[-1], str) and names not in shape.free:
                found.add(prefix)
    return frozenset(found)


def written(path: Path) -> str:
    """`.spec.template.spec.containers[name="server"].image`"""
    return "".join(_written(element) for element in path)


def _written(element: Element) -> str:
    if isinstance(element, str):
        return f".{element}"
    if isinstance(element, Member):
        return f"[={json.dumps(element.value)}]"
    return "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in element.fields) + "]"


@lru_cache(maxsize=10_000)
def fields_v1(paths: Paths) -> Json:
    """metav1.FieldsV1. Nobody may change it: the same is given for the same paths."""
    root: Json = {}
    for path in paths:
        node = root
        for element in path:
            node = node.setdefault(_coded(element), {})
        node["."] = {}
    _drop_dots_of_leaves(root)
    return root


def _coded(element: Element) -> str:
    if isinstance(element, str):
        return f"f:{element}"
    if isinstance(element, Member):
        return f"v:{json.dumps(element.value)}"
    return "k:" + json.dumps(dict(element.fields), separators=(",", ":"))


def _drop_dots_of_leaves(node: Json) -> None:
    for child in node.values():
        if list(child) == ["."]:
            child.clear()
        else:
            _drop_dots_of_leaves(child)


def below(path: Path, roots: Iterable[Path]) -> bool:
    """Whether the path is one of the roots or lies under one."""
    return any(path[: len(root)] == root for root in roots)
