"""Finds out what an MLflow server can do by asking questions that change nothing.

Each question is about a model that cannot exist: a server that has the endpoint says so in
JSON, one that has not answers with a plain 404. Version numbers are shown, never believed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from podium.registry import filters, requests, wire
from podium.registry.answers import Answer, Call, Kind
from podium.registry.errors import (
    EndpointMissing,
    Forbidden,
    InvalidRequest,
    NotFound,
    NotMlflow,
    RegistryError,
    RegistryThrottled,
    RegistryUnavailable,
    WorkspaceUnsupported,
)
from podium.registry.model import Capabilities

# Neither MLflow 3 (no `/` in names) nor a sensible person makes such a model.
NO_SUCH_MODEL = "podium.dev/probe"
NO_SUCH_LOGGED_MODEL = "m-00000000000000000000000000000000"
_VERSION = re.compile(rb'"?(\d+\.\d+[\w.+-]{0,40})"?')

T = TypeVar("T")
Read = Callable[[Call], Awaitable[Answer]]


class Ask(Protocol):
    """How the probe reaches the server."""

    async def __call__(self, call: Call, answer_type: type[T], /) -> T: ...


async def capabilities(ask: Ask, read: Read) -> Capabilities:
    """What the server behind `ask` can do. Raises NotMlflow when it is no MLflow at all."""
    return Capabilities(
        name_in=await _filters_models_by_names(ask),
        versions_name_in=await _filters_versions_by_names(ask),
        aliases=await _has(ask, "registered-models/alias", ("name", NO_SUCH_MODEL), ("alias", "x")),
        stages=await _has(
            ask,
            "registered-models/get-latest-versions",
            ("name", NO_SUCH_MODEL),
            ("stages", "Production"),
        ),
        webhooks=await _has(ask, "webhooks", ("max_results", "1"), forbidden_means=False),
        logged_models=await _has(ask, f"logged-models/{NO_SUCH_LOGGED_MODEL}"),
        workspaces=await _has_workspaces(ask),
        server_version=await _server_version(read),
    )


def refuses_stages(error: RegistryError) -> bool:
    """Whether the server's words mean that it has no stages (Unity Catalog says so in a 400)."""
    text = str(error).lower()
    return "stage" in text and any(
        word in text for word in ("not supported", "unsupported", "unity catalog", "deprecated")
    )


async def _filters_models_by_names(ask: Ask) -> bool:
    """Whether `name IN` works. MLflow 2.2 ignores it and answers with every model it has.

    Also the question whether this is MLflow: every version has this endpoint.
    """
    try:
        await ask(requests.search_models(None, 1), wire.ModelsAnswer)
        call = requests.search_models(filters.name_in([NO_SUCH_MODEL]), 1)
        answer = await ask(call, wire.ModelsAnswer)
    except InvalidRequest:
        return False
    return not answer.registered_models


async def _filters_versions_by_names(ask: Ask) -> bool:
    try:
        call = requests.search_versions_of([NO_SUCH_MODEL], 1)
        answer = await ask(call, wire.VersionsAnswer)
    except InvalidRequest:
        return False
    return not answer.model_versions


async def _has(ask: Ask, path: str, *query: tuple[str, str], forbidden_means: bool = True) -> bool:
    call = _question(f"{requests.API}/{path}", *query)
    try:
        await ask(call, wire.Empty)
    except EndpointMissing:
        return False
    except Forbidden:
        return forbidden_means
    except InvalidRequest as error:
        return not refuses_stages(error)
    except NotFound:
        return True
    return True


async def _has_workspaces(ask: Ask) -> bool:
    call = _question("api/3.0/mlflow/server-info")
    try:
        return (await ask(call, wire.ServerInfoAnswer)).workspaces_enabled
    except (NotMlflow, NotFound, InvalidRequest, Forbidden, WorkspaceUnsupported):
        return False


async def _server_version(read: Read) -> str | None:
    try:
        answer = await read(_question("version"))
    except (RegistryThrottled, RegistryUnavailable):
        raise
    except RegistryError:
        return None
    found = _VERSION.fullmatch(answer.body[:64].strip())
    return found[1].decode() if found else None


def _question(path: str, *query: tuple[str, str]) -> Call:
    return Call(
        operation="probe",
        method="GET",
        path=path,
        kind=Kind.MODEL,
        subject="what it can do",
        what="say what it can do",
        query=query,
    )
