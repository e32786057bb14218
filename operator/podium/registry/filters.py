"""MLflow's filter strings: how names are quoted, and how many fit into one request.

Measured on MLflow 2.2.2, 2.22.2 and 3.17.2. A list (`name IN (...)`) is read by the server with
Python's `ast.literal_eval`, so it takes backslash escapes and every name fits. A single value
(`name = "..."`) knows no escape at all: whatever stands between the quotes is the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

MAX_NAMES_PER_REQUEST = 100
# nginx and most ingresses refuse a request line over 8 KiB.
MAX_FILTER_BYTES = 6_000


def name_in(names: Sequence[str]) -> str:
    """`name IN (...)`, with every name escaped as a Python string literal in double quotes."""
    return f"name IN ({', '.join(_literal(name) for name in names)})"


def _literal(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    # A line break ends a Python literal, and a filter has no other way to write one.
    escaped = escaped.replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def name_is(name: str) -> str:
    """A filter that matches the name, and may match more: compare the answer's names too.

    With both kinds of quotes no exact filter exists, so LIKE stands in, with the wildcard `_`
    for each quote and for backslashes (an escape character in PostgreSQL's LIKE).
    """
    if '"' not in name:
        return f'name = "{name}"'
    if "'" not in name:
        return f"name = '{name}'"
    pattern = name.replace('"', "_").replace("\\", "_")
    return f'name LIKE "{pattern}"'


def chunks(names: Sequence[str]) -> Iterator[list[str]]:
    """The names in portions that fit into one request each, by number and by encoded bytes."""
    portion: list[str] = []
    size = 0
    for name in names:
        cost = len(quote(_literal(name) + ", ", safe=""))
        if portion and (len(portion) >= MAX_NAMES_PER_REQUEST or size + cost > MAX_FILTER_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(name)
        size += cost
    if portion:
        yield portion
