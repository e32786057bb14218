"""One request and one answer as values, and what an answer of MLflow means.

Turns HTTP statuses and MLflow's error codes into the errors of `errors`. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NoReturn, TypeVar
from urllib.parse import quote

import msgspec
from yarl import URL

from podium.registry import wire
from podium.registry.errors import (
    AmbiguousWrite,
    Conflict,
    EndpointMissing,
    Forbidden,
    HostNotAllowed,
    InvalidName,
    InvalidRequest,
    LoggedModelNotFound,
    ModelNotFound,
    NotFound,
    NotMlflow,
    RegistryUnavailable,
    RunNotFound,
    TooLarge,
    Unauthenticated,
    VersionNotFound,
    WorkspaceUnsupported,
)

MAX_QUOTED_CHARACTERS = 300
T = TypeVar("T")


class Kind(Enum):
    """What a request is about, hence what is missing when the server answers 404."""

    MODEL = ModelNotFound
    VERSION = VersionNotFound
    RUN = RunNotFound
    LOGGED_MODEL = LoggedModelNotFound


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `what` completes "the registry was asked to ..."; `subject` names the object."""

    operation: str
    method: str
    path: str
    kind: Kind
    subject: str
    what: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    writes: bool = False

    def url(self, base: URL) -> URL:
        """The address to call, with everything percent-encoded here and by nobody else."""
        query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in self.query)
        text = f"{str(base).rstrip('/')}/{self.path}"
        return URL(f"{text}?{query}" if query else text, encoded=True)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP answer, read to its end."""

    status: int
    content_type: str
    retry_after: str | None
    location: str | None
    body: bytes

    @classmethod
    def part(cls, body: bytes) -> Answer:
        """A piece of a good answer's JSON, to be decoded on its own."""
        return cls(
            status=200,
            content_type="application/json",
            retry_after=None,
            location=None,
            body=body,
        )


def decode(answer: Answer, answer_type: type[T], call: Call, address: str) -> T:
    """The answer's JSON as the given type, or NotMlflow."""
    try:
        return msgspec.json.decode(answer.body, type=answer_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise NotMlflow(
        f"What answers at {address} does not speak MLflow's API: asked to {call.what}, it sent "
        f"{_described(answer)}. Check spec.trackingURI, and any proxy or login page before it."
    )


def raise_for_status(answer: Answer, call: Call, address: str, secrets: Sequence[str]) -> None:
    """Raise what this answer means, unless it is a success. `secrets` are cut from messages."""
    status = answer.status
    if 200 <= status < 300:
        return
    said = _error_of(answer)
    message = _quotable(said.message if said else "", secrets)
    code = str(said.error_code) if said else ""
    if 300 <= status < 400:
        raise NotMlflow(
            f"The registry at {address} redirects to {_host(answer.location)}: a login page, or "
            "https wanted. Podium does not follow. Check spec.trackingURI."
        )
    if code == "FEATURE_DISABLED":
        raise WorkspaceUnsupported(
            f"The registry at {address} refuses the workspace: {message}. Leave spec.workspace "
            "out, or enable workspaces on the server."
        )
    if code in ("NOT_IMPLEMENTED", "ENDPOINT_NOT_FOUND") or status in (405, 501):
        raise _missing_endpoint(call, address)
    if status >= 500:
        _raise_server_error(answer, call, address, message)
    _raise_client_error(answer, call, address, code, message)


def _raise_server_error(answer: Answer, call: Call, address: str, message: str) -> NoReturn:
    said = f": {message}" if message else ""
    if call.writes:
        # A proxy's 502-504 says nothing about what the server behind it did, and MLflow can
        # answer 500 after its commit.
        raise AmbiguousWrite(
            f"The registry at {address} was asked to {call.what} and answered "
            f"{answer.status}{said}. It may or may not have been done; Podium reads it again "
            "until it is settled."
        )
    raise RegistryUnavailable(
        f"The registry at {address} answered {answer.status} when asked to {call.what}{said}. "
        "Look at the MLflow server's log.",
        repeatable=True,
    )


def _raise_client_error(
    answer: Answer, call: Call, address: str, code: str, message: str
) -> NoReturn:
    status = answer.status
    if status == 401:
        raise Unauthenticated(
            f"The registry at {address} does not accept the credentials. Check the Secret of "
            "spec.credentialsSecretRef (keys username and password, or token)."
        )
    if status == 403:
        _raise_forbidden(answer, call, address, message)
    if status == 404 and not code:
        raise _missing_endpoint(call, address)
    if status == 404 or code == "RESOURCE_DOES_NOT_EXIST":
        raise _not_found(call, address, message)
    if status in (413, 414, 431):
        raise TooLarge(
            f"The registry at {address} finds the request to {call.what} too large ({status})."
        )
    if status == 409 or code in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_CONFLICT"):
        raise Conflict(f"The registry at {address} could not {call.what}: {message}.")
    if not code and not message:
        raise NotMlflow(
            f"What answers at {address} does not speak MLflow's API: asked to {call.what}, it "
            f"sent {status} with {_described(answer)}. Check spec.trackingURI."
        )
    lowered = message.lower()
    kind = InvalidName if "name" in lowered or "alias" in lowered else InvalidRequest
    raise kind(f"The registry at {address} refuses to {call.what}: {message}")


def _raise_forbidden(answer: Answer, call: Call, address: str, message: str) -> NoReturn:
    if b"Invalid Host header" in answer.body[:4096]:
        host = URL(address).raw_authority
        raise HostNotAllowed(
            f"The MLflow server does not accept requests for the host name {host}. Start it with "
            f"--allowed-hosts listing {host} (each name with and without its port)."
        )
    said = f" ({message})" if message else ""
    raise Forbidden(
        f"The credentials for the registry at {address} are not allowed to {call.what}{said}. "
        "EDIT permission on the model suffices for all but deleting aliases and tags (MANAGE)."
    )


def _missing_endpoint(call: Call, address: str) -> EndpointMissing:
    return EndpointMissing(
        f"The server at {address} has no endpoint to {call.what}. Check spec.trackingURI (its "
        "path too), and that this MLflow is in the supported range."
    )


def _not_found(call: Call, address: str, message: str) -> NotFound:
    lowered = message.lower()
    # A request about a version fails on its model too, and one that sets an alias on its version.
    if lowered.startswith("model version"):
        error: type[NotFound] = VersionNotFound
    elif lowered.startswith("registered model"):
        error = ModelNotFound
    else:
        error = call.kind.value
    said = f" ({message})" if message else ""
    return error(f"The registry at {address} could not {call.what}: it does not exist there{said}.")


def _error_of(answer: Answer) -> wire.ErrorAnswer | None:
    try:
        return msgspec.json.decode(answer.body, type=wire.ErrorAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _quotable(message: str | None, secrets: Sequence[str]) -> str:
    text = message or ""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    if len(text) > MAX_QUOTED_CHARACTERS:
        text = text[: MAX_QUOTED_CHARACTERS - 3] + "..."
    return text.rstrip(".")


def _described(answer: Answer) -> str:
    if not answer.body:
        return "nothing"
    if answer.content_type == "text/html" or answer.body.lstrip()[:1] == b"<":
        return "an HTML page"
    return f"{len(answer.body)} bytes of {answer.content_type} that are not the JSON expected"


def _host(location: str | None) -> str:
    try:
        return URL(location or "").host or "another path"
    except ValueError:
        return "another address"
