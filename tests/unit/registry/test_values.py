"""MLflow's JSON as values, sources of versions, and aliases kept as tags."""

import math
from datetime import UTC, datetime

import msgspec
import pytest

from podium.registry import tag_aliases, wire
from podium.registry.lineage import logged_model_in, version_in
from podium.registry.model import RegisteredModel, Version


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("0.5", 0.5),
        ("1", 1.0),
        ('"Infinity"', math.inf),
        ("1.7976931348623157e+308", math.inf),
        ("-1.7976931348623157e+308", -math.inf),
    ],
)
def test_a_metric_keeps_its_value_and_infinity_its_meaning(written: str, expected: float) -> None:
    metric = msgspec.json.decode(f'{{"key": "m", "value": {written}}}', type=wire.WireMetric)
    assert wire.metric_value(metric.value) == expected


@pytest.mark.parametrize("written", ['"NaN"', '"a lot"', "null"])
def test_a_metric_that_is_no_number_is_nan(written: str) -> None:
    metric = msgspec.json.decode(f'{{"key": "m", "value": {written}}}', type=wire.WireMetric)
    assert math.isnan(wire.metric_value(metric.value))


def test_a_sparse_answer_gets_mlflows_defaults() -> None:
    stored = msgspec.json.decode(
        b'{"name": "m", "version": 3, "last_updated_timestamp": "1500", "run_id": "", "new": 1}',
        type=wire.WireVersion,
    )
    version = wire.version_from(stored)
    assert (version.version, version.stage, version.run_id) == ("3", "None", None)
    assert version.updated_at == datetime.fromtimestamp(1.5, UTC)


@pytest.mark.parametrize(
    ("source", "model_id", "copy_of"),
    [
        ("models:/m-1a2b", "m-1a2b", None),
        ("models:/churn/3", None, ("churn", "3")),
        ("models:/m-odd name/12", None, ("m-odd name", "12")),
        ("models:/churn@champion", None, None),
        ("models:/churn/latest", None, None),
        ("models:/m-1a2b/sub", None, None),
        ("s3://bucket/m-1", None, None),
        ("runs:/abc/model", None, None),
        ("", None, None),
    ],
)
def test_a_source_names_a_logged_model_or_a_version_or_neither(
    source: str, model_id: str | None, copy_of: tuple[str, str] | None
) -> None:
    assert logged_model_in(source) == model_id
    assert version_in(source) == copy_of


def version(number: int, **tags: str) -> Version:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Version(
        name="m",
        version=str(number),
        stage="None",
        status="READY",
        source="",
        run_id=None,
        tags=tags,
        created_at=moment,
        updated_at=moment,
    )


def test_aliases_are_read_from_version_tags_and_the_higher_number_counts() -> None:
    bare = RegisteredModel(name="m", aliases={}, tags={}, latest_versions=())
    versions = [
        version(10, alias_champion="true"),
        version(9, alias_champion="true", alias_challenger="true"),
        version(8, alias_old="false", other="true"),
    ]
    seen = tag_aliases.with_aliases(bare, versions)
    assert seen.aliases == {"champion": "10", "challenger": "9"}
    assert tag_aliases.holders("champion", versions) == ["10", "9"]


def test_versions_sort_by_number() -> None:
    ordered = sorted([version(10), version(9), version(100)], key=wire.version_number)
    assert [v.version for v in ordered] == ["9", "10", "100"]
