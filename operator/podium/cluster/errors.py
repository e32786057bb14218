"""What can go wrong between Podium and the API server, in words for people.

Every error says what happened, to which object, and what to do next. `problem()` says how a
promotion goes on after it. No message holds a token or the value of a Secret.
"""

# ruff: noqa: N818 - the names say what happened, as in the API: Conflict, NotFound

from dataclasses import dataclass
from typing import ClassVar

from podium.api.reasons import Reason
from podium.engine.observation import Problem, ProblemKind


@dataclass(frozen=True)
class OwnedField:
    """A field that another manager owns, as server-side apply names both."""

    manager: str
    field: str


class ClusterError(Exception):
    """Base of everything that this package raises on purpose."""

    kind: ClassVar[ProblemKind] = ProblemKind.TRANSIENT
    reason: Reason = Reason.KUBERNETES_UNAVAILABLE

    def problem(self) -> Problem:
        return Problem(self.kind, self.reason, str(self))


class ApiUnavailable(ClusterError):
    """No usable answer, and nothing was changed: no connection, a read that took too long, 5xx on
    a read, 429. `retry_after` (seconds) is set when the server said how long to stay away."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthenticated(ApiUnavailable):
    """401, also with a token that was read again."""


class AmbiguousWrite(ClusterError):
    """A write that was sent and not answered, or answered with 5xx: it may have taken effect, or
    still may. Read the value until it is settled before anything builds on it."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(ClusterError):
    """The object changed, or was re-created, since it was read: look again."""


class AlreadyExists(Conflict):
    """Somebody else made an object of that name."""


class NotFound(ClusterError):
    """The object that was to be written does not exist."""

    kind = ProblemKind.WAITING
    _REASONS: ClassVar = {
        "deployments": Reason.TARGET_NOT_FOUND,
        "secrets": Reason.SECRET_NOT_FOUND,
        "modelregistries": Reason.REGISTRY_NOT_FOUND,
    }

    def __init__(self, message: str, *, resource: str) -> None:
        super().__init__(message)
        self.reason = self._REASONS.get(resource, Reason.KUBERNETES_UNAVAILABLE)


class NamespaceTerminating(ClusterError):
    """The namespace is being deleted: nothing new can be made in it."""


class Forbidden(ClusterError):
    """RBAC (or admission) refuses the request."""

    kind = ProblemKind.STALLED
    reason = Reason.FORBIDDEN


class Invalid(ClusterError):
    """The API server finds the request, or the object as it would become, invalid (400, 422)."""

    kind = ProblemKind.STALLED
    reason = Reason.INVALID_SPEC


class FieldConflict(ClusterError):
    """Server-side apply: other managers own fields that Podium would set."""

    kind = ProblemKind.STALLED
    reason = Reason.FIELD_CONFLICT

    def __init__(self, message: str, conflicts: tuple[OwnedField, ...]) -> None:
        super().__init__(message)
        self.conflicts = conflicts


class NotLeader(ClusterError):
    """This replica does not hold the Lease for as long as the write may take: nothing was sent."""
