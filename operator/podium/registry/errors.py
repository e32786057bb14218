"""What can go wrong between Podium and an MLflow server, in words for people.

Every error says what happened, to which server or object, and what to do next, and carries a
`reason` that the status conditions show. No message ever holds a credential. What to do about
an error (wait, retry, stall) is decided by the callers.
"""

# ruff: noqa: N818 - they are conditions of a registry, named as the status shows them.
from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """Why a call to the registry failed; the words that conditions and metrics show."""

    UNAVAILABLE = "RegistryUnavailable"
    THROTTLED = "RegistryThrottled"
    TLS_FAILED = "RegistryTLSFailed"
    UNAUTHENTICATED = "RegistryUnauthenticated"
    FORBIDDEN = "RegistryForbidden"
    HOST_NOT_ALLOWED = "RegistryHostNotAllowed"
    CREDENTIALS_UNAVAILABLE = "RegistryCredentialsUnavailable"
    NOT_MLFLOW = "NotMLflow"
    WORKSPACE_UNSUPPORTED = "WorkspaceUnsupported"
    STAGES_UNSUPPORTED = "StagesUnsupported"
    MODEL_NOT_FOUND = "ModelNotFound"
    VERSION_NOT_FOUND = "VersionNotFound"
    RUN_NOT_FOUND = "RunNotFound"
    LOGGED_MODEL_NOT_FOUND = "LoggedModelNotFound"
    INVALID_NAME = "InvalidName"
    INVALID_REQUEST = "RegistryRefusedRequest"
    INVALID_ADDRESS = "InvalidTrackingURI"
    CONFLICT = "RegistryConflict"
    AMBIGUOUS_WRITE = "AmbiguousWrite"
    TOO_LARGE = "RegistryAnswerTooLarge"


class RegistryError(Exception):
    """Base of everything that this package raises on purpose."""

    reason: ClassVar[Reason]


class RegistryUnavailable(RegistryError):
    """No usable answer: no connection, a deadline that ran out, a 5xx, or the breaker is open.

    `retry_after` (seconds) is set when it is known how long asking again is pointless.
    """

    reason = Reason.UNAVAILABLE

    def __init__(
        self, message: str, *, retry_after: float | None = None, repeatable: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.repeatable = repeatable


class TlsFailed(RegistryUnavailable):
    """The server's certificate could not be verified."""

    reason = Reason.TLS_FAILED


class RegistryThrottled(RegistryError):
    """The server (429), or Podium's own rate limit, says to ask later: in `retry_after` seconds."""

    reason = Reason.THROTTLED

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthenticated(RegistryError):
    """401, also with credentials that were read again."""

    reason = Reason.UNAUTHENTICATED


class Forbidden(RegistryError):
    """403: the credentials are known, and not allowed this."""

    reason = Reason.FORBIDDEN


class HostNotAllowed(Forbidden):
    """403 by MLflow's host check: the server does not know the name that it is called by."""

    reason = Reason.HOST_NOT_ALLOWED


class CredentialsUnavailable(RegistryError):
    """The credentials could not be read from where they are kept."""

    reason = Reason.CREDENTIALS_UNAVAILABLE


class NotMlflow(RegistryError):
    """Something answers, but not as MLflow does: HTML, a redirect, JSON of another kind."""

    reason = Reason.NOT_MLFLOW


class EndpointMissing(NotMlflow):
    """This server does not have the endpoint: it is too old, too new, or not MLflow."""


class WorkspaceUnsupported(RegistryError):
    """A workspace is configured, and the server has none: old ones would silently ignore it."""

    reason = Reason.WORKSPACE_UNSUPPORTED


class StagesUnsupported(RegistryError):
    """The server has no model stages (Unity Catalog, or an MLflow that dropped them)."""

    reason = Reason.STAGES_UNSUPPORTED


class NotFound(RegistryError):
    """Base of what does not exist in the registry."""


class ModelNotFound(NotFound):
    """There is no registered model of that name."""

    reason = Reason.MODEL_NOT_FOUND


class VersionNotFound(NotFound):
    """The registered model has no such version."""

    reason = Reason.VERSION_NOT_FOUND


class RunNotFound(NotFound):
    """There is no such run, or it was deleted for good."""

    reason = Reason.RUN_NOT_FOUND


class LoggedModelNotFound(NotFound):
    """There is no such logged model."""

    reason = Reason.LOGGED_MODEL_NOT_FOUND


class InvalidRequest(RegistryError):
    """The server refuses the request as it stands (400)."""

    reason = Reason.INVALID_REQUEST


class InvalidName(InvalidRequest):
    """The name of a model, version, alias or tag cannot exist in MLflow."""

    reason = Reason.INVALID_NAME


class InvalidAddress(RegistryError):
    """The tracking URI or CA bundle cannot be used."""

    reason = Reason.INVALID_ADDRESS


class Conflict(RegistryError):
    """The registry already holds something that stands against this."""

    reason = Reason.CONFLICT


class AmbiguousWrite(RegistryError):
    """A write that was sent and not answered: it may or may not have taken effect, or still may.

    Read the value until it is settled before anything builds on it.
    """

    reason = Reason.AMBIGUOUS_WRITE


class TooLarge(RegistryError):
    """An answer over the size limit, or a request that the server finds too large."""

    reason = Reason.TOO_LARGE
