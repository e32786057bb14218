"""Which Events are the same one again, and what a selector or a resource looks like on the wire."""

from datetime import UTC, datetime, timedelta

import pytest

from podium.cluster import label_selector
from podium.cluster.events import EventSeries, Note, event_body
from podium.engine.decision import EventType

NOW = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)


def note(message: str = "version 7", uid: str = "u1") -> Note:
    metadata = {"namespace": "ml", "name": "churn", "uid": uid, "resourceVersion": "5"}
    regarding = {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "ModelPromotion",
        "metadata": metadata,
    }
    return Note(regarding, EventType.NORMAL, "Promoted", message, "Reconcile")


def test_the_second_makes_a_series_and_more_are_only_counted() -> None:
    series = EventSeries()
    first = series.next(note(), NOW)
    assert first is not None
    assert first.series is None
    second = series.next(note(), NOW)
    assert second is not None
    assert second.name == first.name
    assert second.series is not None
    assert second.series["count"] == 2
    assert [series.next(note(), NOW + timedelta(seconds=n)) for n in range(100)] == [None] * 100
    later = series.next(note(), NOW + timedelta(minutes=6))
    assert later is not None
    assert later.series is not None
    assert later.series["count"] == 103


@pytest.mark.parametrize("other", [note("version 8"), note(uid="u2")], ids=["message", "object"])
def test_another_message_or_object_is_another_event(other: Note) -> None:
    series = EventSeries()
    series.next(note(), NOW)
    step = series.next(other, NOW)
    assert step is not None
    assert step.series is None


def test_after_an_hour_it_is_a_new_event() -> None:
    series = EventSeries()
    series.next(note(), NOW)
    step = series.next(note(), NOW + timedelta(hours=1))
    assert step is not None
    assert step.series is None


def test_memory_is_bounded() -> None:
    series = EventSeries(remembered=10)
    for number in range(100):
        series.next(note(str(number)), NOW)
    assert len(series._seen) == 10


def test_an_event_that_was_lost_is_tried_as_a_first_one() -> None:
    series = EventSeries()
    series.next(note(), NOW)
    series.forget(note())
    step = series.next(note(), NOW)
    assert step is not None
    assert step.series is None


def test_a_long_message_is_cut_at_a_character() -> None:
    body = event_body(note("ü" * 2000), "e", "podium-0", NOW)
    text = str(body["note"])
    assert len(text.encode()) <= 1024
    assert text.endswith("…")


@pytest.mark.parametrize(
    ("selector", "query"),
    [
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        (
            {
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["x", "y"]},
                    {"key": "env", "operator": "NotIn", "values": ["dev"]},
                    {"key": "app", "operator": "Exists"},
                    {"key": "old", "operator": "DoesNotExist"},
                ]
            },
            "tier in (x,y),env notin (dev),app,!old",
        ),
    ],
)
def test_a_selector_on_the_wire(selector: dict[str, object], query: str) -> None:
    assert label_selector(selector) == query


def test_a_selector_that_would_choose_every_pod_is_refused() -> None:
    with pytest.raises(ValueError, match="every pod"):
        label_selector({})
