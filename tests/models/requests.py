"""What the path of a request to the API server names."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from tests.models.kinds import Kind, kinds
from tests.models.storage import Where


@dataclass(frozen=True)
class Target:
    """`name` is "" for the list, `namespace` for all of them (or a kind without)."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def where(self) -> Where:
        return self.namespace, self.name


def target_of(path: str) -> Target | None:
    """None for a path that is not served."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    group = ""
    if parts[0] == "apis" and len(parts) > 3:
        group, parts = parts[1], parts[2:]
    elif parts[0] == "api" and len(parts) > 2:
        parts = parts[1:]
    else:
        return None
    version, *rest = parts
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and (group, version, rest[2]) in kinds():
        namespace, rest = rest[1], rest[2:]
    kind = kinds().get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or (rest[1:] and kind.namespaced and not namespace):
        return None
    return Target(kind, namespace, *rest[1:])
