"""Each request of MLflow's REST API 2.0 that Podium makes, as a `Call`. Sends nothing.

Source: mlflow/protos/model_registry.proto and service.proto, and probes of real servers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podium.registry import filters
from podium.registry.answers import Call, Kind
from podium.registry.errors import InvalidName

API = "api/2.0/mlflow"
MAX_NAME_IN_MESSAGE = 100


def _read(operation: str, path: str, kind: Kind, subject: str, *query: tuple[str, str]) -> Call:
    return Call(
        operation=operation,
        method="GET",
        path=f"{API}/{path}",
        kind=kind,
        subject=subject,
        what=f"read {subject}",
        query=query,
    )


def _write(
    operation: str,
    path: str,
    kind: Kind,
    what: str,
    fields: dict[str, object],
    method: str = "POST",
) -> Call:
    return Call(
        operation=operation,
        method=method,
        path=f"{API}/{path}",
        kind=kind,
        subject=what,
        what=what,
        body=msgspec.json.encode(fields),
        writes=True,
    )


def _checked(name: str) -> str:
    # PostgreSQL answers 500 for a NUL character, and an empty name is a missing parameter.
    if not name.strip() or "\0" in name:
        raise InvalidName("A model name must not be empty and must hold no NUL character.")
    return name


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_IN_MESSAGE else f"{name[:MAX_NAME_IN_MESSAGE]}..."


def _model(name: str) -> str:
    return f"model `{_short(_checked(name))}`"


def _version(name: str, version: str) -> str:
    return f"version {version} of {_model(name)}"


def get_model(name: str) -> Call:
    """registered-models/get"""
    return _read("get_model", "registered-models/get", Kind.MODEL, _model(name), ("name", name))


def search_models(filter_string: str | None, max_results: int) -> Call:
    """registered-models/search, by name because page tokens are offsets."""
    query = [("max_results", str(max_results)), ("order_by", "name ASC")]
    if filter_string is not None:
        query.append(("filter", filter_string))
    return _read(
        "search_models", "registered-models/search", Kind.MODEL, "registered models", *query
    )


def get_version(name: str, version: str) -> Call:
    """model-versions/get"""
    subject = _version(name, version)
    query = (("name", name), ("version", version))
    return _read("get_version", "model-versions/get", Kind.VERSION, subject, *query)


def search_versions(name: str, max_results: int) -> Call:
    """model-versions/search, oldest first: a version made meanwhile then shifts no page."""
    return _read(
        "search_versions",
        "model-versions/search",
        Kind.MODEL,
        f"the versions of {_model(name)}",
        ("filter", filters.name_is(name)),
        ("max_results", str(max_results)),
        ("order_by", "version_number ASC"),
    )


def search_versions_of(names: Sequence[str], max_results: int) -> Call:
    """model-versions/search for many models, in an order that no tag or alias changes."""
    return _read(
        "search_versions_of",
        "model-versions/search",
        Kind.MODEL,
        "the versions of several models",
        ("filter", filters.name_in(names)),
        ("max_results", str(max_results)),
        ("order_by", "name ASC"),
        ("order_by", "version_number ASC"),
    )


def set_alias(name: str, alias: str, version: str) -> Call:
    """registered-models/alias"""
    what = f"point alias `{alias}` at {_version(name, version)}"
    fields: dict[str, object] = {"name": name, "alias": alias, "version": version}
    return _write("set_alias", "registered-models/alias", Kind.VERSION, what, fields)


def delete_alias(name: str, alias: str) -> Call:
    """registered-models/alias"""
    what = f"delete alias `{alias}` of {_model(name)}"
    fields: dict[str, object] = {"name": name, "alias": alias}
    return _write("delete_alias", "registered-models/alias", Kind.MODEL, what, fields, "DELETE")


def set_model_tag(name: str, key: str, value: str) -> Call:
    """registered-models/set-tag"""
    what = f"set tag `{key}` of {_model(name)}"
    fields: dict[str, object] = {"name": name, "key": key, "value": value}
    return _write("set_model_tag", "registered-models/set-tag", Kind.MODEL, what, fields)


def delete_model_tag(name: str, key: str) -> Call:
    """registered-models/delete-tag"""
    what = f"delete tag `{key}` of {_model(name)}"
    fields: dict[str, object] = {"name": name, "key": key}
    return _write(
        "delete_model_tag", "registered-models/delete-tag", Kind.MODEL, what, fields, "DELETE"
    )


def set_version_tag(name: str, version: str, key: str, value: str) -> Call:
    """model-versions/set-tag"""
    what = f"set tag `{key}` of {_version(name, version)}"
    fields: dict[str, object] = {"name": name, "version": version, "key": key, "value": value}
    return _write("set_version_tag", "model-versions/set-tag", Kind.VERSION, what, fields)


def delete_version_tag(name: str, version: str, key: str) -> Call:
    """model-versions/delete-tag"""
    what = f"delete tag `{key}` of {_version(name, version)}"
    fields: dict[str, object] = {"name": name, "version": version, "key": key}
    return _write(
        "delete_version_tag", "model-versions/delete-tag", Kind.VERSION, what, fields, "DELETE"
    )


def transition_stage(name: str, version: str, stage: str) -> Call:
    """model-versions/transition-stage, which must not archive others: two writers race there."""
    what = f"move {_version(name, version)} to stage {stage}"
    fields: dict[str, object] = {
        "name": name,
        "version": version,
        "stage": stage,
        "archive_existing_versions": False,
    }
    return _write("transition_stage", "model-versions/transition-stage", Kind.VERSION, what, fields)


def get_run(run_id: str) -> Call:
    """runs/get"""
    return _read("get_run", "runs/get", Kind.RUN, f"run {run_id}", ("run_id", run_id))


def metric_history(run_id: str, key: str) -> Call:
    """metrics/get-history"""
    subject = f"metric `{key}` of run {run_id}"
    query = (("run_id", run_id), ("metric_key", key), ("max_results", "1000"))
    return _read("metric_history", "metrics/get-history", Kind.RUN, subject, *query)


def get_logged_model(model_id: str) -> Call:
    """logged-models/{id}"""
    # The id stands in the path, so it is held to the form that MLflow gives it.
    if not model_id.replace("-", "").isalnum() or not model_id.isascii():
        raise InvalidName(f"`{model_id[:80]}` is no id of a logged model (m- and hex digits).")
    subject = f"logged model {model_id}"
    return _read("get_logged_model", f"logged-models/{model_id}", Kind.LOGGED_MODEL, subject)
