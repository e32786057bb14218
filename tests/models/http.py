"""A request and an answer as values, as the models take and give them.

Sends nothing: who speaks HTTP turns bytes into these and back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

MANY = "\n"  # between the values of a parameter that was sent more than once


@dataclass(frozen=True)
class Asked:
    """`path` is as it was sent, percent-encoding kept and without the query; `query` is decoded."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        """The header's value whatever the case of its name; "" for none."""
        for key, value in self.headers.items():
            if key.lower() == name.lower():
                return value
        return ""


@dataclass(frozen=True)
class Answered:
    """An answer, read to its end."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def query_of(raw: str) -> dict[str, str]:
    """A URL's query, decoded; the values of a repeated parameter (order_by) joined by MANY."""
    found: dict[str, str] = {}
    for key, value in parse_qsl(raw, keep_blank_values=True):
        found[key] = f"{found[key]}{MANY}{value}" if key in found else value
    return found


def query_text(query: Mapping[str, str]) -> str:
    """The opposite of `query_of`."""
    return urlencode([(key, one) for key, value in query.items() for one in value.split(MANY)])
