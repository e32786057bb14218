"""metav1.Status: how the API server says no, in its own words."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tests.models.http import Answered
from tests.models.kinds import Kind
from tests.models.ownership import FieldConflictError
from tests.models.shapes import Json

MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)
COMPACTED = (
    "The provided continue parameter is too old to display a consistent list result. You can start "
    "a new list without the continue parameter, or use the continue token in this response to "
    "retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


class RefusedError(Exception):
    """The request is refused with this answer."""

    def __init__(self, answer: Answered) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


def _refused(code: int, reason: str, message: str, details: Json | None = None) -> RefusedError:
    body: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details:
        body["details"] = details
    return RefusedError(answered({**body, "code": code}, code))


def answered(body: Any, status: int = 200) -> Answered:
    return Answered(status, msgspec.json.encode(body))


def _details(kind: Kind, name: str, **more: Any) -> Json:
    found: Json = {"name": name, "group": kind.group, "kind": kind.plural, **more}
    return {key: value for key, value in found.items() if value}


def not_found(kind: Kind, name: str) -> RefusedError:
    message = f'{kind.qualified} "{name}" not found'
    return _refused(404, "NotFound", message, _details(kind, name))


def no_such_path() -> RefusedError:
    return RefusedError(Answered(404, b"404 page not found\n", "text/plain; charset=utf-8"))


def not_allowed(method: str) -> RefusedError:
    return _refused(
        405,
        "MethodNotAllowed",
        f"the server does not allow this method ({method}) on the requested resource",
    )


def already_exists(kind: Kind, name: str, *, ending: bool = False) -> RefusedError:
    message = f'{kind.qualified} "{name}" already exists'
    if ending:
        message = f"object is being deleted: {message}"
    return _refused(409, "AlreadyExists", message, _details(kind, name))


def conflict(kind: Kind, name: str, words: str) -> RefusedError:
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {words}'
    return _refused(409, "Conflict", message, _details(kind, name))


def precondition_failed(kind: Kind, name: str, words: str) -> RefusedError:
    """Of a deletion, which names the kind where others name the plural."""
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    message = f'Operation cannot be fulfilled on {qualified} "{name}": {words}'
    return _refused(409, "Conflict", message, {**_details(kind, name), "kind": kind.kind})


def other_uid(kind: Kind, where: tuple[str, str], asked: str, found: str) -> RefusedError:
    """A PUT that names the uid of the object that was there before."""
    # Built-in kinds lie under their plural, custom ones under group and plural.
    folder = f"{kind.group}/{kind.plural}" if kind.custom else kind.plural
    key = "/".join(part for part in ("/registry", folder, *where) if part)
    return conflict(
        kind,
        where[1],
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, "
        "AdditionalErrorMsg: Precondition failed: "
        f"UID in precondition: {asked}, UID in object meta: {found}",
    )


def owned_by_others(error: FieldConflictError) -> RefusedError:
    return _refused(409, "Conflict", error.message, {"causes": error.causes})


def invalid(
    kind: Kind,
    name: str,
    field: str,
    words: str,
    cause: str,
    *,
    by_plural: bool = False,
    times: int = 1,
) -> RefusedError:
    """One field that is wrong; `words` begin with what is wrong with it."""
    named = kind.plural if by_plural else kind.kind
    qualified = f"{named}.{kind.group}" if kind.group else named
    details = {
        **_details(kind, name),
        "kind": named,
        "causes": [{"reason": cause, "message": words, "field": field}] * times,
    }
    return _refused(422, "Invalid", f'{qualified} "{name}" is invalid: {field}: {words}', details)


def patch_does_not_fit() -> RefusedError:
    """A JSON patch whose test failed, or whose path is not there."""
    words = "the server rejected our request due to an error in our request"
    refused = _refused(422, "Invalid", words)
    return RefusedError(answered({**json.loads(refused.answer.body), "details": {}}, 422))


def bad_request(message: str) -> RefusedError:
    return _refused(400, "BadRequest", message)


def unsupported(content_type: str) -> RefusedError:
    message = f"the body of the request was in an unknown format ({content_type})"
    return _refused(415, "UnsupportedMediaType", message)


def expired(message: str, going_on: str = "") -> RefusedError:
    refused = _refused(410, "Expired", message)
    if going_on:
        body = json.loads(refused.answer.body)
        body["metadata"] = {"continue": going_on}
        return RefusedError(answered(body, 410))
    return refused


def deleted(kind: Kind, name: str, uid: str) -> Answered:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return answered({**body, "details": _details(kind, name, uid=uid)})
