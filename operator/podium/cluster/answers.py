"""What an answer of the API server means: an object, or one of the errors of this package."""

import re
from dataclasses import dataclass

import msgspec

from podium.cluster.errors import (
    AlreadyExists,
    AmbiguousWrite,
    ApiUnavailable,
    ClusterError,
    Conflict,
    FieldConflict,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    OwnedField,
    Unauthenticated,
)
from podium.cluster.request import Request, Verb
from podium.cluster.resources import Raw

_MANAGER = re.compile(r'conflict with ("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Answer:
    status: int
    retry_after: str | None
    body: bytes


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    causes: tuple[_Cause, ...] | None = None
    retry_after_seconds: int | None = None


class _Status(msgspec.Struct, frozen=True):
    """metav1.Status, as far as it is looked at."""

    kind: str = ""
    message: str = ""
    reason: str = ""
    details: _Details | None = None


class _Page(msgspec.Struct):
    metadata: dict[str, object] = {}
    items: list[msgspec.Raw] | None = None  # null is what Go writes for none


def parse(request: "Request", answer: Answer) -> Raw:
    """The object that the server sent. Raises the ClusterError that its refusal means.

    The `items` of a LIST are left as msgspec.Raw, to be parsed one at a time: a whole page at once
    costs twice the CPU, most of it the garbage collector's, and its memory stays (measured).
    """
    if 200 <= answer.status < 300:
        try:
            if request.verb is Verb.LIST:
                page = msgspec.json.decode(answer.body, type=_Page)
                return {"metadata": page.metadata, "items": page.items or ()}
            return msgspec.json.decode(answer.body, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise _failed(request, answer, f"its answer is no JSON object: {error}") from error
    raise _refusal(request, answer)


def parse_item(request: "Request", item: msgspec.Raw) -> Raw:
    """One of the `items` of a LIST. Raises ApiUnavailable when it is no object."""
    try:
        return msgspec.json.decode(item, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ApiUnavailable(
            f"{request.verb} of {request.what}: no JSON object: {error}"
        ) from error


def _refusal(request: "Request", answer: Answer) -> ClusterError:
    try:
        status = msgspec.json.decode(answer.body, type=_Status)
    except msgspec.DecodeError:
        status = _Status()
    words = status.message or f"HTTP {answer.status}"
    did = f"{request.verb} of {request.what}"
    match answer.status:
        case 422 if any(cause.field == "metadata.uid" for cause in _causes(status)):
            # A patch that names the uid of the object that was there before.
            return Conflict(f"{request.what} was re-created since Podium read it.")
        case 400 | 413 | 415 | 422:
            return Invalid(f"{did}: the API server finds it invalid: {words}")
        case 401:
            return Unauthenticated(
                f"{did}: the API server does not accept Podium's credentials: {words}. Check its "
                "ServiceAccount token (or kubeconfig); Podium tries again by itself."
            )
        case 403 if any(cause.reason == "NamespaceTerminating" for cause in _causes(status)):
            return NamespaceTerminating(
                f"{did}: the namespace {request.namespace} is being deleted, nothing new can be "
                "made in it."
            )
        case 403:
            return _forbidden(request, words)
        case 404 if status.kind == "Status" and status.reason == "NotFound":
            return NotFound(
                f"{request.what} does not exist; Podium goes on once it does.",
                resource=request.resource.plural,
            )
        case 404:
            return ApiUnavailable(
                f"The API server does not serve {request.resource.plural} of "
                f"{request.resource.api_version}. For podium.dev, install the CRDs first."
            )
        case 409:
            return _conflict(request, status)
        case 410:
            return ApiUnavailable(f"{did}: {words}; Podium reads it again.")
        case 429:
            return ApiUnavailable(
                f"{did}: the API server asks to wait: {words}; Podium tries again by itself.",
                retry_after=_seconds(status, answer),
            )
        case _:
            return _failed(request, answer, words, _seconds(status, answer))


def _failed(
    request: "Request", answer: Answer, words: str, retry_after: float | None = None
) -> ClusterError:
    did = f"{request.verb} of {request.what}: the API server failed ({answer.status}): {words}"
    if request.verb.writes:
        # etcd may still commit what the API server gave up waiting for.
        return AmbiguousWrite(
            f"{did}; Podium looks whether it took effect.", retry_after=retry_after
        )
    return ApiUnavailable(f"{did}; Podium tries again by itself.", retry_after=retry_after)


def _forbidden(request: "Request", words: str) -> Forbidden:
    resource = request.resource
    plural = "/".join(part for part in (resource.plural, request.subresource) if part)
    where = f"in namespace {request.namespace}" if request.namespace else "in all namespaces"
    group = resource.group or '""'
    return Forbidden(
        f"Podium may not {request.verb} {plural} {where}: {words}. If RBAC refuses it, grant its "
        f"ServiceAccount a Role with apiGroups: [{group}], resources: [{plural}], "
        f"verbs: [{request.verb}]; if an admission policy does, resolve that."
    )


def _conflict(request: "Request", status: _Status) -> ClusterError:
    if status.reason == "AlreadyExists":
        return AlreadyExists(f"{request.what} exists already.")
    owned = tuple(
        OwnedField(_manager(cause.message), cause.field)
        for cause in _causes(status)
        if cause.reason == "FieldManagerConflict"
    )
    if owned:
        fields = ", ".join(f"{one.field} (owned by {one.manager})" for one in owned)
        return FieldConflict(
            f"{request.what}: other field managers own what Podium would set: {fields}.", owned
        )
    if "no existing object was found" in status.message:
        return NotFound(
            f"{request.what} does not exist any more; Podium goes on once it does.",
            resource=request.resource.plural,
        )
    return Conflict(f"{request.what} changed since Podium read it: {status.message}")


def _causes(status: _Status) -> tuple[_Cause, ...]:
    return (status.details.causes if status.details else None) or ()


def _manager(message: str) -> str:
    found = _MANAGER.search(message)
    # Go's %q: for the names in use, the same as a JSON string.
    return str(msgspec.json.decode(found.group(1))) if found else message


def _seconds(status: _Status, answer: Answer) -> float | None:
    if answer.retry_after is not None and answer.retry_after.isdigit():
        return float(answer.retry_after)
    asked = status.details.retry_after_seconds if status.details else None
    return None if asked is None else float(asked)
