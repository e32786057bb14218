"""MLflow's filter strings and page tokens, as far as Podium and its stories use them.

Known: attributes and tags with =, !=, LIKE, ILIKE and (of names and run ids) IN, joined by AND. A
list is read as Python reads it; a single value knows no escape.
"""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tests.models.http import MANY
from tests.models.mlflow_errors import invalid

_CLAUSE = re.compile(
    r"""\s*(?P<key>[\w.]+|tags?\.`[^`]+`|`[^`]+`)\s*
    (?P<comparator>!=|=|LIKE\b|ILIKE\b|NOT\s+IN\b|IN\b)\s*
    (?P<value>\((?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[\s,])*\)|"[^"]*"|'[^']*'|\d+)
    \s*(?P<and>AND\b|$)""",
    re.IGNORECASE | re.VERBOSE,
)
T = TypeVar("T")
Look = Callable[[T, str, bool], str | None]  # a thing, the key, whether it is a tag


def parsed(text: str, attributes: Sequence[str], look: Look[T]) -> Callable[[T], bool]:
    """Whether a thing fits the filter. Raises RefusedError."""
    tests: list[Callable[[T], bool]] = []
    rest = text
    while rest.strip():
        found = _CLAUSE.match(rest)
        if found is None:
            raise invalid(f"Invalid clause(s) in filter string: {rest.strip()}")
        tests.append(_test(found, attributes, look))
        rest = rest[found.end() :]
    return lambda thing: all(test(thing) for test in tests)


def _test(found: re.Match[str], attributes: Sequence[str], look: Look[T]) -> Callable[[T], bool]:
    key = found["key"]
    tag = re.match(r"tags?\.", key)
    key = (key[tag.end() :] if tag else key.removeprefix("attribute.")).strip("`")
    if not tag and key not in attributes:
        named = ", ".join(repr(name) for name in attributes)
        raise invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{{{named}}}'")
    comparator = " ".join(found["comparator"].upper().split())
    wanted = _value(found["value"])
    return lambda thing: _fits(look(thing, key, tag is not None), comparator, wanted)


def _value(text: str) -> list[str]:
    if text.startswith("("):
        values = ast.literal_eval(text)
        return [values] if isinstance(values, str) else list(values)
    return [text if text.isdigit() else text[1:-1]]


def _fits(value: str | None, comparator: str, wanted: list[str]) -> bool:
    if value is None:
        return False
    match comparator:
        case "=":
            return value == wanted[0]
        case "!=":
            return value != wanted[0]
        case "IN":
            return value in wanted
        case "NOT IN":
            return value not in wanted
    pattern = "".join(
        {"%": ".*", "_": "."}.get(character, re.escape(character)) for character in wanted[0]
    )
    flags = re.DOTALL | (re.IGNORECASE if comparator == "ILIKE" else 0)
    return re.fullmatch(pattern, value, flags) is not None


def ordered(
    things: Sequence[T],
    order_by: str,
    keys: Mapping[str, Callable[[T], int | str]],
    last: Sequence[str],
) -> list[T]:
    """By the clauses of order_by (joined by MANY), then by those of `last`."""
    clauses = [*(each for each in order_by.split(MANY) if each), *last]
    found = list(things)
    seen = set()
    steps = []
    for clause in clauses:
        name, _, way = clause.strip().partition(" ")
        if name not in keys:
            raise invalid(f"Invalid order by key '{name}' specified.")
        if name not in seen:
            seen.add(name)
            steps.append((keys[name], way.strip().upper() == "DESC"))
    for key, descending in reversed(steps):
        found.sort(key=key, reverse=descending)
    return found


def page(things: Sequence[T], token: str, size: int) -> tuple[Sequence[T], str]:
    """A page and the token of the next: an offset, so what changes meanwhile shifts pages."""
    offset = 0
    if token:
        try:
            offset = int(json.loads(base64.b64decode(token, validate=True))["offset"])
        except (ValueError, KeyError, TypeError):
            raise invalid("Invalid page token, could not base64-decode") from None
    found = things[offset : offset + size]
    if len(things) <= offset + size:
        return found, ""
    return found, base64.b64encode(json.dumps({"offset": offset + size}).encode()).decode()
