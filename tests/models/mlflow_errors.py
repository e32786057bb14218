"""How MLflow 3.17 says no: error code, HTTP status, and the checks of parameters in its words.

Sources: mlflow/exceptions.py, mlflow/utils/validation.py, server/handlers.py.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any

from tests.models.http import Answered

Json = dict[str, Any]

_STATUS = {"RESOURCE_DOES_NOT_EXIST": 404, "INTERNAL_ERROR": 500}
_CLASS = {
    "RESOURCE_DOES_NOT_EXIST": "RESOURCE_NOT_FOUND",
    "INTERNAL_ERROR": "CLIENT_INTERNAL_ERROR",
}
_TAG_KEY = re.compile(r"^[/\w.\- :]*$")
_ALIAS = re.compile(r"^[\w\-]*$")
_SEE = " See the API docs for more information about request parameters."
MAX_TAG_KEY, MAX_TAG_VALUE, MAX_ALIAS = 250, 100_000, 255


class RefusedError(Exception):
    """The request is refused; `answer` is how."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        body = {
            "error_code": code,
            "message": message,
            "sqlstate": "XXM00" if code == "INTERNAL_ERROR" else "KAM00",
            "error_class": _CLASS.get(code, code),
        }
        self.answer = Answered(_STATUS.get(code, 400), json.dumps(body).encode())


def invalid(message: str) -> RefusedError:
    return RefusedError("INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> RefusedError:
    return RefusedError("RESOURCE_DOES_NOT_EXIST", message)


def no_model(name: str) -> RefusedError:
    return missing(f"Registered Model with name={name} not found")


def no_version(name: str, version: int) -> RefusedError:
    return missing(f"Model Version (name={name}, version={version}) not found")


def required(sent: Json, *names: str) -> list[str]:
    """The values of parameters that must be there, as text."""
    for name in names:
        value = sent.get(name)
        if value is None or value == "":
            raise invalid(f"Missing value for required parameter '{name}'.{_SEE}")
        if not isinstance(value, str):
            raise invalid(
                f"{_invalid_value(name, value)}  Hint: Value was of type "
                f"'{type(value).__name__}'.{_SEE}"
            )
    return [sent[name] for name in names]


def max_results(sent: Json, default: int, most: int) -> int:
    value = sent.get("max_results", default)
    if str(value).isdigit() and int(value) <= most:
        return int(value)
    raise invalid(
        f"{_invalid_value('max_results', value)}  Hint: Value was of type "
        f"'{type(value).__name__}'.{_SEE}"
    )


def _invalid_value(name: str, value: object) -> str:
    return f"Invalid value {json.dumps(value)} for parameter '{name}' supplied:"


def check_model_name(name: str) -> None:
    if not name.strip():
        raise invalid("Missing value for required parameter 'name'.")
    if "/" in name or ":" in name:
        raise invalid(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    _check_path("name", name)


def check_tag(key: str, value: str = "") -> None:
    if not _TAG_KEY.match(key):
        raise invalid(
            f"{_invalid_value('key', key)} Names may only contain alphanumerics, underscores (_), "
            "dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
        )
    _check_path("key", key)
    for what, text, most in (("key", key, MAX_TAG_KEY), ("value", value, MAX_TAG_VALUE)):
        _check_length(what, text, most)


def check_alias(alias: str) -> None:
    if not _ALIAS.match(alias):
        raise invalid(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores "
            "(_), and dashes (-)."
        )
    _check_length("Registered model alias name", alias, MAX_ALIAS)


def check_alias_is_free(alias: str) -> None:
    """What no alias may be called."""
    if alias.lower() == "latest":
        raise invalid("'latest' alias name (case insensitive) is reserved.")
    if re.match(r"^[vV]\d+$", alias):
        raise invalid(f"Version alias name '{alias}' is reserved.")


def version_number(version: str) -> int:
    try:
        return int(version)
    except ValueError:
        raise invalid(f"Parameter 'version' must be an integer, got '{version}'.") from None


def _check_path(what: str, text: str) -> None:
    plain = posixpath.normpath(text)
    if plain != text or plain == "." or plain.startswith(("..", "/")):
        raise invalid(
            f"{_invalid_value(what, text)} Names may be treated as files in certain cases, and "
            "must not resolve to other names when treated as such. This name would resolve to "
            f"{plain!r}"
        )


def _check_length(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise invalid(f"'{what}' exceeds the maximum length of {most} characters")
