"""What is asked of the API server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from podium.cluster.resources import Raw, Resource


class Verb(StrEnum):
    """What is asked, in the words of Kubernetes RBAC."""

    GET = "get"
    LIST = "list"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"

    @property
    def writes(self) -> bool:
        return self not in (Verb.GET, Verb.LIST)


@dataclass(frozen=True)
class Request:
    """One call of the API."""

    verb: Verb
    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Raw | None = None
    content_type: str = "application/json"

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name, self.subresource)

    @property
    def what(self) -> str:
        """The object, for messages: `Deployment default/churn`."""
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.resource.kind} {where}".strip()
