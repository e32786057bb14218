"""The registry's objects as frozen values: what the rest of Podium sees of MLflow.

Not the wire format (that is `wire`), and no behaviour: nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a registered model.

    `version` is MLflow's number as text, as its API has it. `stage` is None, Staging, Production
    or Archived, as text; `status` is READY, PENDING_REGISTRATION or FAILED_REGISTRATION. MLflow
    moves `updated_at` on a stage transition or a new description, and not on tags or aliases.
    """

    name: str
    version: str
    stage: str
    status: str
    source: str
    run_id: str | None
    tags: Mapping[str, str]
    created_at: datetime
    updated_at: datetime


class RegisteredModel(msgspec.Struct, frozen=True, kw_only=True):
    """One registered model. `aliases` maps alias to version; a version in it may be deleted.

    `latest_versions` holds only the highest version of each stage. `created_at` is None where the
    server does not say.
    """

    name: str
    aliases: Mapping[str, str]
    tags: Mapping[str, str]
    latest_versions: tuple[Version, ...]
    created_at: datetime | None = None


class DatasetInput(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that a run used; `context` is what for (training, evaluation), or empty."""

    name: str
    digest: str
    context: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `metrics` holds the last logged value of each; NaN and infinities stay floats."""

    run_id: str
    status: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    datasets: tuple[DatasetInput, ...]


class LoggedMetric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric value attached to a logged model, with the dataset it was measured on."""

    key: str
    value: float
    step: int
    timestamp: datetime
    dataset_name: str | None
    dataset_digest: str | None
    run_id: str | None


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it was logged (MLflow 3), which a version's `source` may point at."""

    model_id: str
    source_run_id: str | None
    metrics: tuple[LoggedMetric, ...]
    tags: Mapping[str, str]
    params: Mapping[str, str]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this server can do, found by asking it and not by its version number.

    `name_in`: searching registered models by `name IN (...)` filters, as 3.17 does. Servers of
    about 2.2 accept it and return every model; those of 2.22 refuse it. `versions_name_in`: the
    same for versions.
    """

    server_version: str | None
    aliases: bool
    stages: bool
    webhooks: bool
    name_in: bool
    versions_name_in: bool
    workspaces: bool
    logged_models: bool


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Either `username` with `password` (HTTP Basic), or `token` (Bearer)."""

    username: str | None = None
    password: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({'token' if self.token else 'username and password'}, hidden)"
