"""How a pass goes on after an error of the registry: the error as a Problem."""

from podium.api.reasons import Reason
from podium.cluster.errors import ClusterError
from podium.engine.observation import Problem, ProblemKind
from podium.registry import errors

_WAITING, _STALLED, _TRANSIENT = (
    ProblemKind.WAITING,
    ProblemKind.STALLED,
    ProblemKind.TRANSIENT,
)

# The first class that fits counts, so subclasses stand before their bases.
_MEANINGS: tuple[tuple[type[errors.RegistryError], ProblemKind, Reason], ...] = (
    (errors.RegistryThrottled, _TRANSIENT, Reason.REGISTRY_THROTTLED),
    (errors.RegistryUnavailable, _TRANSIENT, Reason.REGISTRY_UNAVAILABLE),
    (errors.AmbiguousWrite, _TRANSIENT, Reason.REGISTRY_UNAVAILABLE),
    (errors.Conflict, _TRANSIENT, Reason.REGISTRY_REFUSED),
    (errors.CredentialsUnavailable, _WAITING, Reason.SECRET_NOT_FOUND),
    (errors.ModelNotFound, _WAITING, Reason.MODEL_NOT_FOUND),
    (errors.NotFound, _WAITING, Reason.VERSION_NOT_FOUND),
    (errors.Unauthenticated, _STALLED, Reason.UNAUTHENTICATED),
    (errors.HostNotAllowed, _STALLED, Reason.HOST_NOT_ALLOWED),
    (errors.Forbidden, _STALLED, Reason.REGISTRY_FORBIDDEN),
    (errors.NotMlflow, _STALLED, Reason.NOT_MLFLOW),
    (errors.InvalidAddress, _STALLED, Reason.INVALID_SPEC),
    (errors.InvalidName, _STALLED, Reason.INVALID_SPEC),
    (errors.WorkspaceUnsupported, _STALLED, Reason.NOT_SUPPORTED),
    (errors.StagesUnsupported, _STALLED, Reason.NOT_SUPPORTED),
)


def of_registry(error: errors.RegistryError) -> Problem:
    """The problem; a refusal that is not known otherwise is the server's own word."""
    if isinstance(error.__cause__, ClusterError):  # it is Kubernetes that keeps the Secret back
        cause = error.__cause__.problem()
        return Problem(cause.kind, cause.reason, str(error))
    for known, kind, reason in _MEANINGS:
        if isinstance(error, known):
            return Problem(kind, reason, str(error))
    return Problem(_STALLED, Reason.REGISTRY_REFUSED, str(error))
