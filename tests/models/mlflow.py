"""A model of MLflow 3.17's REST API on SQLite: the registry whole, of tracking what is read.

As the real one: last writer wins (there is no compare-and-set); aliases and tags move no
timestamp, stages and versions do; numbers of deleted versions are not given again; page tokens are
offsets; a search of models carries aliases, one of versions none; errors by code, status and words.

Its transactions read before they write and lock nothing, so each request is two steps: `begin`
reads, and what it returns writes. Between them others may write: that leaves two versions in
Production (archive_existing_versions) or an alias on a version that is gone, as measured on
PostgreSQL. `answer` takes both steps at once.

What it knowingly does not: authentication, workspaces, webhooks (the list is empty), prompts, file
artifacts, renaming, descriptions that change, limits of column sizes (a real PostgreSQL refuses
names over 256 characters), every way in which a filter can be malformed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from tests.models import mlflow_errors as errors
from tests.models import mlflow_filters as filters
from tests.models.http import Answered, Asked
from tests.models.mlflow_errors import Json, RefusedError
from tests.models.mlflow_runs import Runs

VERSION = "3.17.2"
STAGES = ("None", "Staging", "Production", "Archived")
_API = re.compile(r"/api/2\.0/mlflow/(.+)")
Commit = Callable[[], Json]


@dataclass
class Version:
    name: str
    number: int
    created: int
    updated: int
    source: str
    run_id: str
    run_link: str
    description: str
    tags: dict[str, str]
    stage: str = "None"

    def shown(self, aliases: list[str] | None = None) -> Json:
        found: Json = {
            "name": self.name,
            "version": str(self.number),
            "creation_timestamp": self.created,
            "last_updated_timestamp": self.updated,
            "current_stage": self.stage,
            "description": self.description,
            "source": self.source,
            "run_id": self.run_id,
            "status": "READY",
            "run_link": self.run_link,
        }
        return found | _listed(tags=self.tags) | ({"aliases": aliases} if aliases else {})


@dataclass
class Model:
    name: str
    created: int
    updated: int
    description: str
    tags: dict[str, str]
    aliases: dict[str, int] = field(default_factory=dict)
    versions: dict[int, Version] = field(default_factory=dict)
    newest: int = 0  # also of versions that were deleted

    def shown(self) -> Json:
        latest: dict[str, Version] = {}
        for version in self.versions.values():
            known = latest.get(version.stage)
            if known is None or known.number < version.number:
                latest[version.stage] = version
        found: Json = {
            "name": self.name,
            "creation_timestamp": self.created,
            "last_updated_timestamp": self.updated,
        }
        if self.description:
            found["description"] = self.description
        if latest:
            found["latest_versions"] = [version.shown() for version in latest.values()]
        found |= _listed(tags=self.tags)
        if self.aliases:
            aliases = self.aliases.items()
            found["aliases"] = [{"alias": one, "version": str(at)} for one, at in aliases]
        return found

    def aliases_of(self, number: int) -> list[str]:
        return [alias for alias, at in self.aliases.items() if at == number]


def _listed(tags: dict[str, str]) -> Json:
    return {"tags": [{"key": key, "value": value} for key, value in tags.items()]} if tags else {}


class Mlflow:
    """One server. `now` is its only clock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._models: dict[str, Model] = {}
        self.runs = Runs(self._milliseconds)
        self._routes: dict[tuple[str, str], Callable[[Json], Commit]] = {
            ("POST", "registered-models/create"): self._create_model,
            ("GET", "registered-models/get"): self._get_model,
            ("DELETE", "registered-models/delete"): self._delete_model,
            ("GET", "registered-models/search"): self._search_models,
            ("GET", "registered-models/get-latest-versions"): self._latest_versions,
            ("POST", "registered-models/get-latest-versions"): self._latest_versions,
            ("POST", "registered-models/set-tag"): self._set_model_tag,
            ("DELETE", "registered-models/delete-tag"): self._delete_model_tag,
            ("POST", "registered-models/alias"): self._set_alias,
            ("DELETE", "registered-models/alias"): self._delete_alias,
            ("GET", "registered-models/alias"): self._get_by_alias,
            ("POST", "model-versions/create"): self._create_version,
            ("GET", "model-versions/get"): self._get_version,
            ("DELETE", "model-versions/delete"): self._delete_version,
            ("GET", "model-versions/search"): self._search_versions,
            ("POST", "model-versions/set-tag"): self._set_version_tag,
            ("DELETE", "model-versions/delete-tag"): self._delete_version_tag,
            ("POST", "model-versions/transition-stage"): self._transition,
            ("GET", "webhooks"): lambda _: dict,
        }

    def answer(self, asked: Asked) -> Answered:
        """The request done whole, with nobody between."""
        return self.begin(asked)()

    def begin(self, asked: Asked) -> Callable[[], Answered]:
        """The request up to its writes; calling what is returned does them and gives the answer.

        Nothing is locked: what others write between is not seen by this request.
        """
        found = self._begin(asked)
        if isinstance(found, Answered):
            return lambda: found

        def commit() -> Answered:
            try:
                return _json(found())
            except RefusedError as refused:
                return refused.answer

        return commit

    def _begin(self, asked: Asked) -> Answered | Commit:
        path = unquote(asked.path)
        if path in ("/health", "/version"):
            return Answered(
                200, VERSION.encode() if path == "/version" else b"OK", "text/html; charset=utf-8"
            )
        if path == "/api/3.0/mlflow/server-info":
            return _json({"store_type": "SqlStore", "workspaces_enabled": False})
        found = _API.fullmatch(path)
        what = found[1] if found else ""
        sent = _sent(asked)
        try:
            if what.startswith("logged-models/") and asked.method == "GET":
                return _json(self.runs.logged_model(what.removeprefix("logged-models/")))
            tracking = self.runs.routes.get((asked.method, what))
            if tracking is not None:
                return lambda: tracking(sent)
            route = self._routes.get((asked.method, what))
            if route is not None:
                return route(sent)
        except RefusedError as refused:
            return refused.answer
        known = any(path == what for _, path in (*self._routes, *self.runs.routes))
        return Answered(405 if known else 404, b"<!doctype html>", "text/html; charset=utf-8")

    def _milliseconds(self) -> int:
        return int(self._now().timestamp() * 1000)

    # Registered models

    def _model(self, name: str) -> Model:
        errors.check_model_name(name)
        if name not in self._models:
            raise errors.no_model(name)
        return self._models[name]

    def _create_model(self, sent: Json) -> Commit:
        (name,) = errors.required(sent, "name")
        errors.check_model_name(name)
        tags = _tags(sent)

        def commit() -> Json:
            if name in self._models:
                message = f"Registered Model (name={name}) already exists."
                raise RefusedError("RESOURCE_ALREADY_EXISTS", message)
            now = self._milliseconds()
            made = Model(name, now, now, sent.get("description") or "", tags)
            self._models[name] = made
            return {"registered_model": made.shown()}

        return commit

    def _get_model(self, sent: Json) -> Commit:
        model = self._model(*errors.required(sent, "name"))
        return lambda: {"registered_model": model.shown()}

    def _delete_model(self, sent: Json) -> Commit:
        model = self._model(*errors.required(sent, "name"))

        def commit() -> Json:
            self._models.pop(model.name, None)
            return {}

        return commit

    def _search_models(self, sent: Json) -> Commit:
        size = errors.max_results(sent, 100, 1000)
        fits = filters.parsed(sent.get("filter") or "", ("name",), _look_at_model)
        keys: dict[str, Callable[[Model], int | str]] = {
            "name": lambda model: model.name,
            "last_updated_timestamp": lambda model: model.updated,
        }
        chosen = [model for model in self._models.values() if fits(model)]
        every = filters.ordered(chosen, sent.get("order_by") or "", keys, ("name ASC",))
        return _page("registered_models", every, sent, size, lambda model: model.shown())

    def _latest_versions(self, sent: Json) -> Commit:
        model = self._model(*errors.required(sent, "name"))
        stages = sent.get("stages") or list(STAGES)
        wanted = {_stage(each) for each in ([stages] if isinstance(stages, str) else stages)}

        def commit() -> Json:
            latest = model.shown().get("latest_versions", [])
            found = [
                model.versions[int(each["version"])].shown(model.aliases_of(int(each["version"])))
                for each in latest
                if each["current_stage"] in wanted
            ]
            return {"model_versions": found} if found else {}

        return commit

    def _set_model_tag(self, sent: Json) -> Commit:
        name, key = errors.required(sent, "name", "key")
        errors.check_model_name(name)
        value = sent.get("value") or ""
        errors.check_tag(key, value)
        model = self._model(name)
        return lambda: _put(model.tags, key, value)

    def _delete_model_tag(self, sent: Json) -> Commit:
        name, key = errors.required(sent, "name", "key")
        errors.check_tag(key)
        model = self._model(name)
        return lambda: _drop(model.tags, key)

    # Aliases

    def _set_alias(self, sent: Json) -> Commit:
        name, alias, number = errors.required(sent, "name", "alias", "version")
        errors.check_model_name(name)
        errors.check_alias(alias)
        errors.check_alias_is_free(alias)
        version = self._version(name, number)
        model = self._models[name]

        def commit() -> Json:
            model.aliases[alias] = version.number  # also when the version is gone meanwhile
            return {}

        return commit

    def _delete_alias(self, sent: Json) -> Commit:
        name, alias = errors.required(sent, "name", "alias")
        errors.check_alias(alias)
        model = self._model(name)

        def commit() -> Json:
            model.aliases.pop(alias, None)
            return {}

        return commit

    def _get_by_alias(self, sent: Json) -> Commit:
        name, alias = errors.required(sent, "name", "alias")
        errors.check_model_name(name)
        errors.check_alias(alias)
        model = self._model(name)
        if alias.lower() == "latest":
            if not model.versions:
                raise errors.missing(f"Latest version not found for model {name}.")
            newest = model.versions[max(model.versions)]
            return lambda: {"model_version": newest.shown(model.aliases_of(newest.number))}
        if alias not in model.aliases:
            raise errors.invalid(f"Registered model alias {alias} not found.")
        version = self._version(name, str(model.aliases[alias]))
        return lambda: {"model_version": version.shown(model.aliases_of(version.number))}

    # Versions

    def _version(self, name: str, text: str) -> Version:
        errors.check_model_name(name)
        number = errors.version_number(text)
        found = self._models[name].versions.get(number) if name in self._models else None
        if found is None:
            raise errors.no_version(name, number)
        return found

    def _create_version(self, sent: Json) -> Commit:
        name, source = errors.required(sent, "name", "source")
        errors.check_model_name(name)
        tags = _tags(sent)
        run_id = sent.get("run_id") or self._run_of(source, sent.get("model_id") or "")
        model = self._model(name)

        def commit() -> Json:
            model.newest += 1
            model.updated = now = self._milliseconds()
            made = Version(
                name,
                model.newest,
                now,
                now,
                source,
                run_id,
                sent.get("run_link") or "",
                sent.get("description") or "",
                tags,
            )
            model.versions[made.number] = made
            return {"model_version": made.shown(model.aliases_of(made.number))}

        return commit

    def _run_of(self, source: str, model_id: str) -> str:
        """The run behind a logged model, or behind the version that is copied."""
        if source.startswith("models:/m-"):
            found = self.runs.source_run_of(source.removeprefix("models:/"))
            if found is None:
                raise errors.invalid(
                    f"Invalid model version source: '{source}'. The model_id request parameter "
                    "must identify the resource that contains the source."
                )
            return found
        if source.startswith("models:/"):
            name, _, number = source.removeprefix("models:/").rpartition("/")
            return self._version(name, number).run_id
        return self.runs.source_run_of(model_id) or ""

    def _get_version(self, sent: Json) -> Commit:
        name, number = errors.required(sent, "name", "version")
        version = self._version(name, number)
        model = self._models[name]
        return lambda: {"model_version": version.shown(model.aliases_of(version.number))}

    def _delete_version(self, sent: Json) -> Commit:
        version = self._version(*errors.required(sent, "name", "version"))
        model = self._models[version.name]
        aliases = model.aliases_of(version.number)

        def commit() -> Json:
            model.updated = self._milliseconds()
            for alias in aliases:  # those that were seen: one that was set since then dangles
                model.aliases.pop(alias, None)
            model.versions.pop(version.number, None)
            return {}

        return commit

    def _search_versions(self, sent: Json) -> Commit:
        size = errors.max_results(sent, 10_000, 200_000)
        attributes = ("name", "source_path", "version_number", "run_id")
        fits = filters.parsed(sent.get("filter") or "", attributes, _look_at_version)
        keys: dict[str, Callable[[Version], int | str]] = {
            "name": lambda version: version.name,
            "version_number": lambda version: version.number,
            "creation_timestamp": lambda version: version.created,
            "last_updated_timestamp": lambda version: version.updated,
        }
        every = [v for model in self._models.values() for v in model.versions.values() if fits(v)]
        order = sent.get("order_by") or "last_updated_timestamp DESC"
        found = filters.ordered(every, order, keys, ("name ASC", "version_number DESC"))
        return _page("model_versions", found, sent, size, lambda version: version.shown())

    def _set_version_tag(self, sent: Json) -> Commit:
        name, number, key = errors.required(sent, "name", "version", "key")
        errors.check_model_name(name)
        errors.version_number(number)
        value = sent.get("value") or ""
        errors.check_tag(key, value)
        version = self._version(name, number)
        return lambda: _put(version.tags, key, value)

    def _delete_version_tag(self, sent: Json) -> Commit:
        name, number, key = errors.required(sent, "name", "version", "key")
        errors.check_model_name(name)
        errors.version_number(number)
        errors.check_tag(key)
        version = self._version(name, number)
        return lambda: _drop(version.tags, key)

    def _transition(self, sent: Json) -> Commit:
        name, number, asked = errors.required(sent, "name", "version", "stage")
        archive, stage = sent.get("archive_existing_versions", False), _stage(asked)
        if archive and stage not in ("Staging", "Production"):
            raise RefusedError(
                "INTERNAL_ERROR",
                "Model version transition cannot archive existing model versions because "
                f"'{asked}' is not an Active stage. Valid stages are ['Staging', 'Production']",
            )
        version = self._version(name, number)
        model = self._models[name]
        others = [
            each
            for each in model.versions.values()
            if archive and each is not version and each.stage == stage
        ]

        def commit() -> Json:
            now = self._milliseconds()
            for other in others:  # those that were seen: one that came since then stays
                other.stage, other.updated = "Archived", now
            version.stage, version.updated, model.updated = stage, now, now
            return {"model_version": version.shown(model.aliases_of(version.number))}

        return commit


def _sent(asked: Asked) -> Json:
    if asked.method == "GET" and asked.query:
        return dict(asked.query)
    try:
        found = json.loads(asked.body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _tags(sent: Json) -> dict[str, str]:
    tags = {each["key"]: each.get("value") or "" for each in sent.get("tags") or []}
    for key, value in tags.items():
        errors.check_tag(key, value)
    return tags


def _stage(asked: str) -> str:
    for stage in STAGES:
        if stage.lower() == asked.lower():
            return stage
    raise errors.invalid(
        f"Invalid Model Version stage: {asked}. Value must be one of {', '.join(STAGES)}."
    )


def _put(tags: dict[str, str], key: str, value: str) -> Json:
    tags[key] = value
    return {}


def _drop(tags: dict[str, str], key: str) -> Json:
    tags.pop(key, None)
    return {}


def _look_at_model(model: Model, key: str, is_tag: bool) -> str | None:
    return model.tags.get(key) if is_tag else model.name


def _look_at_version(version: Version, key: str, is_tag: bool) -> str | None:
    if is_tag:
        return version.tags.get(key)
    found = {"name": version.name, "run_id": version.run_id, "source_path": version.source}
    return found.get(key, str(version.number))


def _page(
    what: str, every: list[Any], sent: Json, size: int, shown: Callable[[Any], Json]
) -> Commit:
    found, token = filters.page(every, sent.get("page_token") or "", size)
    listed: Json = {what: [shown(each) for each in found]} if found else {}
    return lambda: listed | ({"next_page_token": token} if token else {})


def _json(body: Json) -> Answered:
    return Answered(200, json.dumps(body).encode())
