"""labelSelector and fieldSelector of a list, as functions of an object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tests.models.shapes import Json

_IN = re.compile(r"\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*")
_COMMA = re.compile(r",(?![^(]*\))")
Test = Callable[[Mapping[str, str]], bool]


def chooses(query: Mapping[str, str]) -> Callable[[Json], bool]:
    """Whether the selectors of a list's query choose an object."""
    labels = [_label_test(part) for part in _COMMA.split(query.get("labelSelector", "")) if part]
    wanted = [part.split("=", 1) for part in query.get("fieldSelector", "").split(",") if part]

    def chosen(found: Json) -> bool:
        metadata = found["metadata"]
        return all(test(metadata.get("labels") or {}) for test in labels) and all(
            metadata.get(path.rstrip("=!").removeprefix("metadata.")) == value.lstrip("=")
            for path, value in wanted
        )

    return chosen


def _label_test(part: str) -> Test:
    among = _IN.fullmatch(part)
    if among:
        key, values = among[1], {value.strip() for value in among[3].split(",")}
        if among[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    text = part.strip()
    if "!=" in text:
        key, value = text.split("!=")
        return lambda labels: labels.get(key.strip()) != value.strip()
    if "=" in text:
        key, value = re.split("==?", text, maxsplit=1)
        return lambda labels: labels.get(key.strip()) == value.strip()
    if text.startswith("!"):
        return lambda labels: text[1:].strip() not in labels
    return lambda labels: text in labels
