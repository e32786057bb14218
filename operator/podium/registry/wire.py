"""MLflow's REST JSON, decoded into the values of `model`.

Unknown fields are ignored and absent ones have MLflow's defaults, because each MLflow release
adds some. What no decision looks at (descriptions) is left out: it would be kept in memory.
Numbers may come as text: protobuf writes 64-bit integers so, and NaN too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from podium.registry.model import (
    DatasetInput,
    LoggedMetric,
    LoggedModel,
    RegisteredModel,
    Run,
    Version,
)

Number = int | float | str | None
MAX_VERSION_DIGITS = 18  # MLflow's are 32 bits


class WireTag(msgspec.Struct):
    """A tag, a parameter, or an alias (which then has `alias` and `version`)."""

    key: str = ""
    value: str | None = ""


class WireAlias(msgspec.Struct):
    """One alias of a registered model."""

    alias: str = ""
    version: str | int = ""


class WireVersion(msgspec.Struct):
    """`ModelVersion` of MLflow's service.proto."""

    name: str = ""
    version: str | int = ""
    creation_timestamp: Number = 0
    last_updated_timestamp: Number = 0
    current_stage: str = "None"
    source: str | None = ""
    run_id: str | None = ""
    status: str = "READY"
    tags: list[WireTag] = []


class WireModel(msgspec.Struct):
    """`RegisteredModel` of MLflow's service.proto."""

    name: str = ""
    creation_timestamp: Number = 0
    latest_versions: list[WireVersion] = []
    tags: list[WireTag] = []
    aliases: list[WireAlias] = []


class WireMetric(msgspec.Struct):
    """A metric of a run or of a logged model."""

    key: str = ""
    value: Number = None
    timestamp: Number = 0
    step: Number = 0
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


class WireRunInfo(msgspec.Struct):
    """`RunInfo`."""

    run_id: str = ""
    status: str = ""


class WireRunData(msgspec.Struct):
    """`RunData`."""

    metrics: list[WireMetric] = []
    params: list[WireTag] = []
    tags: list[WireTag] = []


class WireDataset(msgspec.Struct):
    """`Dataset`."""

    name: str = ""
    digest: str = ""


class WireDatasetInput(msgspec.Struct):
    """`DatasetInput`."""

    dataset: WireDataset
    tags: list[WireTag] = []


class WireInputs(msgspec.Struct):
    """`RunInputs`."""

    dataset_inputs: list[WireDatasetInput] = []


class WireRun(msgspec.Struct):
    """`Run`."""

    info: WireRunInfo
    data: WireRunData = msgspec.field(default_factory=WireRunData)
    inputs: WireInputs = msgspec.field(default_factory=WireInputs)


class WireLoggedInfo(msgspec.Struct):
    """`LoggedModelInfo`."""

    model_id: str = ""
    source_run_id: str | None = None
    tags: list[WireTag] = []


class WireLoggedData(msgspec.Struct):
    """`LoggedModelData`."""

    metrics: list[WireMetric] = []
    params: list[WireTag] = []


class WireLoggedModel(msgspec.Struct):
    """`LoggedModel`."""

    info: WireLoggedInfo
    data: WireLoggedData = msgspec.field(default_factory=WireLoggedData)


class ModelAnswer(msgspec.Struct):
    """registered-models/get"""

    registered_model: WireModel


class ModelsAnswer(msgspec.Struct):
    """registered-models/search"""

    registered_models: list[WireModel] = []
    next_page_token: str | None = None


class WrittenModelsAnswer(msgspec.Struct):
    """registered-models/search, its models not decoded yet."""

    registered_models: list[msgspec.Raw] = []
    next_page_token: str | None = None


class Named(msgspec.Struct):
    """Of any object only its name."""

    name: str = ""


class VersionAnswer(msgspec.Struct):
    """model-versions/get and transition-stage"""

    model_version: WireVersion


class VersionsAnswer(msgspec.Struct):
    """model-versions/search"""

    model_versions: list[WireVersion] = []
    next_page_token: str | None = None


class RunAnswer(msgspec.Struct):
    """runs/get"""

    run: WireRun


class MetricHistoryAnswer(msgspec.Struct):
    """metrics/get-history"""

    metrics: list[WireMetric] = []
    next_page_token: str | None = None


class LoggedModelAnswer(msgspec.Struct):
    """logged-models/{id}"""

    model: WireLoggedModel


class ServerInfoAnswer(msgspec.Struct):
    """The capability endpoint of newer servers."""

    workspaces_enabled: bool = False


class Empty(msgspec.Struct):
    """Any JSON object; MLflow answers most writes with `{}`."""


class ErrorAnswer(msgspec.Struct):
    """How MLflow words an error."""

    error_code: str | int = ""
    message: str | None = ""


def version_from(wire: WireVersion) -> Version:
    """The version as a value; MLflow writes a missing run as an empty text."""
    return Version(
        name=wire.name,
        version=str(wire.version),
        stage=wire.current_stage or "None",
        status=wire.status,
        source=wire.source or "",
        run_id=wire.run_id or None,
        tags=tags_from(wire.tags),
        created_at=time_from(wire.creation_timestamp),
        updated_at=time_from(wire.last_updated_timestamp),
    )


def numbered(wire: WireVersion | WireAlias) -> bool:
    """Whether its version is a number, as every version of MLflow's is; others are left out."""
    number = str(wire.version)
    return number.isascii() and number.isdigit() and len(number) <= MAX_VERSION_DIGITS


def model_from(wire: WireModel) -> RegisteredModel:
    """The registered model as a value, its versions by number."""
    versions = (version_from(version) for version in wire.latest_versions if numbered(version))
    return RegisteredModel(
        name=wire.name,
        aliases={alias.alias: str(alias.version) for alias in wire.aliases if numbered(alias)},
        tags=tags_from(wire.tags),
        latest_versions=tuple(sorted(versions, key=version_number)),
        created_at=time_from(wire.creation_timestamp) if whole(wire.creation_timestamp) else None,
    )


def run_from(wire: WireRun) -> Run:
    """The run as a value."""
    return Run(
        run_id=wire.info.run_id,
        status=wire.info.status,
        metrics={metric.key: metric_value(metric.value) for metric in wire.data.metrics},
        params=tags_from(wire.data.params),
        tags=tags_from(wire.data.tags),
        datasets=tuple(
            DatasetInput(
                name=used.dataset.name,
                digest=used.dataset.digest,
                context=tags_from(used.tags).get("mlflow.data.context", ""),
            )
            for used in wire.inputs.dataset_inputs
        ),
    )


def logged_model_from(wire: WireLoggedModel) -> LoggedModel:
    """The logged model as a value; its zeros may be NaN (see `client.get_logged_model`)."""
    return LoggedModel(
        model_id=wire.info.model_id,
        source_run_id=wire.info.source_run_id or None,
        metrics=tuple(
            LoggedMetric(
                key=metric.key,
                value=metric_value(metric.value),
                step=whole(metric.step),
                timestamp=time_from(metric.timestamp),
                dataset_name=metric.dataset_name or None,
                dataset_digest=metric.dataset_digest or None,
                run_id=metric.run_id or None,
            )
            for metric in wire.data.metrics
        ),
        tags=tags_from(wire.info.tags),
        params=tags_from(wire.data.params),
    )


def tags_from(tags: list[WireTag]) -> Mapping[str, str]:
    """Tags (or parameters) by key."""
    return {tag.key: tag.value or "" for tag in tags}


def time_from(milliseconds: Number) -> datetime:
    """MLflow's milliseconds since 1970 as UTC; 1970 for what is no time."""
    try:
        return datetime.fromtimestamp(whole(milliseconds) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def whole(number: Number) -> int:
    """A whole number, which protobuf may write as text; 0 for what is none."""
    try:
        return int(number or 0)
    except (ValueError, OverflowError):
        return 0


def metric_value(value: Number) -> float:
    """A metric's value. MLflow's SQL stores keep an infinity as the largest finite double."""
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    if abs(number) >= sys.float_info.max:
        return math.copysign(math.inf, number)
    return number


def version_number(version: Version) -> int:
    """A sort key."""
    return int(version.version)
