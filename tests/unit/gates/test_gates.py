"""What each gate says, as rows: the gate, the facts, the verdict and its words."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from podium.api.promotion import (
    Bound,
    Compare,
    Gate,
    Goal,
    MetricGate,
    MetricSource,
    MinAgeGate,
    Stage,
    TagGate,
)
from podium.api.promotion_status import Verdict
from podium.api.values import Duration
from podium.engine.observation import VersionState
from podium.gates.check import Reads
from podium.gates.evaluate import evaluate, evaluate_all, reads_of
from podium.gates.facts import GateFacts, Unreadable, VersionFacts
from podium.registry.model import LoggedMetric, LoggedModel, Run
from tests.unit.engine.transcript import compare

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def state(version: str, **tags: str) -> VersionState:
    return VersionState(
        version=version,
        stage=Stage.NONE,
        ready=True,
        created_at=NOW,
        updated_at=NOW,
        tags=tags,
        run_id=f"run-{version}",
    )


def run(version: str, **metrics: float) -> Run:
    return Run(
        run_id=f"run-{version}", status="FINISHED", metrics=metrics, params={}, tags={}, datasets=()
    )


def logged(value: float, *, step: int = 0, at: int = 0, dataset: str | None = None) -> LoggedMetric:
    return LoggedMetric(
        key="f1",
        value=value,
        step=step,
        timestamp=NOW + timedelta(seconds=at),
        dataset_name=dataset,
        dataset_digest=f"digest-of-{dataset}" if dataset else None,
        run_id=None,
    )


def model_of(*metrics: LoggedMetric) -> GateFacts:
    model = LoggedModel(model_id="m-1", source_run_id=None, metrics=metrics, tags={}, params={})
    return GateFacts(candidate=VersionFacts(state("7"), logged_model=model))


def candidate(champion: VersionFacts | Unreadable | None = None, **metrics: float) -> GateFacts:
    return GateFacts(candidate=VersionFacts(state("7"), run("7", **metrics)), champion=champion)


def champion(**metrics: float) -> VersionFacts:
    return VersionFacts(state("6"), run("6", **metrics))


def at_least(bound: str, **more: object) -> Gate:
    return Gate(name="g", metric=MetricGate(key="f1", bound=Bound(min=Decimal(bound)), **more))


def compared(goal: Goal, tolerance: str = "0") -> Gate:
    rule = Compare(goal=goal, tolerance=Decimal(tolerance))
    return Gate(name="g", metric=MetricGate(key="f1", compare=rule))


UP, DOWN = Goal.MAXIMIZE, Goal.MINIMIZE
LOGGED = MetricSource.LOGGED_MODEL
BOTH_ENDS = Gate(
    name="g", metric=MetricGate(key="f1", bound=Bound(min=Decimal("0.1"), max=Decimal("0.2")))
)

METRIC_ROWS = {
    "at the bound passes": (at_least("0.9"), candidate(f1=0.9), "Pass", "0.9 is at least 0.9"),
    "just below it fails": (
        at_least("0.9"),
        candidate(f1=0.8999999999999999),
        "Fail",
        "0.8999999999999999 is not at least 0.9 (run run-7 of version 7)",
    ),
    "both ends are inclusive": (BOTH_ENDS, candidate(f1=0.2), "Pass", "at least 0.1 and at most"),
    "above the upper end": (BOTH_ENDS, candidate(f1=0.21), "Fail", "0.21 is not"),
    "a huge float is exact": (at_least("1e300"), candidate(f1=1e300), "Pass", "1E+300"),
    "ten others": (
        at_least("0.9"),
        candidate(**{f"m{i}": 1.0 for i in range(10)}),
        "Pending",
        "m8, m9)",
    ),
    "more than ten others": (
        at_least("0.9"),
        candidate(**{f"m{i:02}": 1.0 for i in range(12)}),
        "Pending",
        "m08, m09, ...)",
    ),
    "missing metric": (at_least("0.9"), candidate(auc=1.0), "Pending", "(it has: auc)"),
    "NaN": (at_least("0.9"), candidate(f1=float("nan")), "Fail", "is nan, no number"),
    "infinity": (at_least("0.9"), candidate(f1=float("inf")), "Fail", "is inf, no number"),
    "run cannot be read": (
        at_least("0.9"),
        GateFacts(candidate=VersionFacts(state("7"), Unreadable("MLflow answers 500"))),
        "Error",
        "MLflow answers 500",
    ),
    "run was never read": (
        at_least("0.9"),
        GateFacts(candidate=VersionFacts(state("7"))),
        "Error",
        "was not read",
    ),
    "version without a run": (
        at_least("0.9"),
        GateFacts(candidate=VersionFacts(replace(state("7"), run_id=None))),
        "Fail",
        "no source run",
    ),
    "dataset of a run": (
        at_least("0.9", dataset="holdout"),
        candidate(f1=0.95),
        "Error",
        "source: LoggedModel",
    ),
    "gate that asks nothing": (
        Gate(name="g", metric=MetricGate(key="f1")),
        candidate(f1=0.95),
        "Error",
        "exactly one of bound",
    ),
    "bound without ends": (
        Gate(name="g", metric=MetricGate(key="f1", bound=Bound())),
        candidate(f1=0.95),
        "Error",
        "with min or max",
    ),
    "better than the champion": (compared(UP), candidate(champion(f1=0.9), f1=0.91), "Pass", ""),
    "equal to the champion": (
        compared(UP),
        candidate(champion(f1=0.9), f1=0.9),
        "Pass",
        "at least 0.9 (champion 6: 0.9)",
    ),
    "worse than the champion": (compared(UP), candidate(champion(f1=0.9), f1=0.89), "Fail", ""),
    # In binary floats 1.0 - 0.1 - 0.9 is below zero.
    "worse by exactly the tolerance": (
        compared(UP, "0.1"),
        candidate(champion(f1=1.0), f1=0.9),
        "Pass",
        "tolerance 0.1",
    ),
    "smaller is better": (compared(DOWN), candidate(champion(f1=5.0), f1=4.0), "Pass", "at most"),
    "larger by the tolerance": (
        compared(DOWN, "0.2"),
        candidate(champion(f1=0.1), f1=0.3),
        "Pass",
        "at most 0.3",
    ),
    "larger than that": (compared(DOWN, "0.2"), candidate(champion(f1=0.1), f1=0.31), "Fail", ""),
    "no champion yet": (compared(UP), candidate(f1=0.1), "NotApplicable", "no champion yet"),
    "the champion itself": (
        compared(UP),
        replace(candidate(f1=0.1), champion=VersionFacts(state("7"), run("7", f1=0.1))),
        "NotApplicable",
        "is the champion itself",
    ),
    "champion lacks the metric": (
        compared(UP),
        candidate(champion(auc=0.5), f1=0.99),
        "Error",
        "Log it for the champion",
    ),
    "champion has NaN": (
        compared(UP),
        candidate(champion(f1=float("nan")), f1=0.99),
        "Error",
        "no value of the champion",
    ),
    "champion cannot be read": (
        compared(UP),
        candidate(Unreadable("MLflow is down"), f1=0.99),
        "Error",
        "MLflow is down",
    ),
    "candidate lacks the metric": (
        compared(UP),
        candidate(champion(f1=0.5)),
        "Pending",
        "(it has: none)",
    ),
    "no logged model": (
        at_least("0.9", source=LOGGED),
        candidate(f1=0.95),
        "Fail",
        "not made of a LoggedModel",
    ),
    "logged model cannot be read": (
        at_least("0.9", source=LOGGED),
        GateFacts(candidate=VersionFacts(state("7"), logged_model=Unreadable("MLflow is down"))),
        "Error",
        "MLflow is down",
    ),
    "logged model without the metric": (
        at_least("0.9", source=LOGGED),
        model_of(msgspec.structs.replace(logged(0.5), key="auc")),
        "Pending",
        "logged model m-1 of version 7 has no metric",
    ),
    "logged model has NaN": (
        at_least("0.9", source=LOGGED),
        model_of(logged(float("nan"))),
        "Fail",
        'metric "f1" of logged model m-1',
    ),
    "dataset asked for, and none was logged": (
        at_least("0.9", source=LOGGED, dataset="c"),
        model_of(logged(0.5)),
        "Pending",
        "only on none",
    ),
    "logged model, last step counts": (
        at_least("0.9", source=LOGGED),
        model_of(logged(0.95, step=1), logged(0.5, step=2)),
        "Fail",
        "0.5 is not at least 0.9 (logged model m-1 of version 7, step 2)",
    ),
    "logged model, last of a step counts": (
        at_least("0.9", source=LOGGED),
        model_of(logged(0.95, at=2), logged(0.5, at=1)),
        "Pass",
        "",
    ),
    "dataset by name": (
        at_least("0.9", source=LOGGED, dataset="b"),
        model_of(logged(0.5, dataset="a"), logged(0.95, dataset="b")),
        "Pass",
        "dataset b (digest-of-b)",
    ),
    "dataset by digest": (
        at_least("0.9", source=LOGGED, dataset="digest-of-a"),
        model_of(logged(0.5, dataset="a"), logged(0.95, dataset="b")),
        "Fail",
        "dataset a",
    ),
    "dataset not there yet": (
        at_least("0.9", source=LOGGED, dataset="c"),
        model_of(logged(0.5, dataset="a")),
        "Pending",
        'not on dataset "c" yet, only on a (digest-of-a)',
    ),
    "several datasets": (
        at_least("0.9", source=LOGGED),
        model_of(logged(0.95, dataset="a"), logged(0.95, dataset="b")),
        "Error",
        "a (digest-of-a), b (digest-of-b)",
    ),
}

TAG_ROWS = {
    "present": (TagGate(key="reviewed"), {"reviewed": "no"}, "Pass", ""),
    "absent": (TagGate(key="reviewed"), {}, "Pending", "has no tag"),
    "one of the values": (TagGate(key="t", values=("a", "b")), {"t": "b"}, "Pass", 'is "b"'),
    "another value may change": (
        TagGate(key="t", values=("a", "b")),
        {"t": "c"},
        "Pending",
        'is "c" (wanted: one of "a", "b")',
    ),
    "values are exact": (TagGate(key="t", values=("true",)), {"t": "True"}, "Pending", ""),
    "a hundred characters are shown": (TagGate(key="t"), {"t": "x" * 100}, "Pass", "xxx"),
    "a hundred and one are cut": (TagGate(key="t"), {"t": "x" * 101}, "Pass", "xx…"),
    "a long value is cut": (TagGate(key="t"), {"t": "x" * 100_000}, "Pass", "xx…"),
}


@pytest.mark.parametrize(
    ("gate", "facts", "verdict", "words"), METRIC_ROWS.values(), ids=METRIC_ROWS
)
def test_metric(gate: Gate, facts: GateFacts, verdict: str, words: str) -> None:
    status = evaluate(gate, facts, NOW)
    assert (status.verdict, words in status.message) == (verdict, True), status.message


@pytest.mark.parametrize(("gate", "tags", "verdict", "words"), TAG_ROWS.values(), ids=TAG_ROWS)
def test_tag(gate: TagGate, tags: dict[str, str], verdict: str, words: str) -> None:
    facts = GateFacts(candidate=VersionFacts(state("7", **tags)))
    status = evaluate(Gate(name="g", tag=gate), facts, NOW)
    assert (status.verdict, words in status.message) == (verdict, True), status.message
    assert len(status.message) < 400


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (None, Verdict.PENDING),
        (-60, Verdict.PENDING),  # a clock went back
        (0, Verdict.PENDING),
        (3599, Verdict.PENDING),
        (3600, Verdict.PASS),
        (9999, Verdict.PASS),
    ],
)
def test_min_age(age: int | None, verdict: Verdict) -> None:
    since = None if age is None else NOW - timedelta(seconds=age)
    facts = GateFacts(candidate=VersionFacts(state("7")), candidate_since=since)
    gate = Gate(name="soak", min_age=MinAgeGate(duration=Duration(3600)))
    assert evaluate(gate, facts, NOW).verdict is verdict


def test_min_age_speaks_of_utc_wherever_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = GateFacts(candidate=VersionFacts(state("7")), candidate_since=NOW)
    gate = Gate(name="soak", min_age=MinAgeGate(duration=Duration(3600)))
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        said = evaluate(gate, facts, NOW).message
    time.tzset()
    assert "2026-11-21T13:00:00Z" in said


def test_min_age_says_the_same_at_each_look() -> None:
    facts = GateFacts(candidate=VersionFacts(state("7")), candidate_since=NOW)
    gate = Gate(name="soak", min_age=MinAgeGate(duration=Duration(3600)))
    looks = {evaluate(gate, facts, NOW + timedelta(seconds=s)) for s in (1, 2, 1000)}
    assert len(looks) == 1
    assert "2026-11-21T13:00:00Z" in looks.pop().message


@pytest.mark.parametrize(
    "gate",
    [
        Gate(name="g"),
        Gate(name="g", tag=TagGate(key="t"), min_age=MinAgeGate(duration=Duration(1))),
    ],
    ids=["no kind", "two kinds"],
)
def test_a_gate_of_no_single_kind_never_passes(gate: Gate) -> None:
    status, inputs = evaluate_all([gate], candidate(f1=1.0), NOW)
    assert status[0].verdict is Verdict.ERROR
    assert inputs is None


class TestInputs:
    """The digest by which a refused version is known to deserve another try."""

    gate = at_least("0.9")

    def digest(self, facts: GateFacts, *gates: Gate) -> str | None:
        return evaluate_all(gates or [self.gate], facts, NOW)[1]

    def test_same_facts_same_digest(self) -> None:
        assert self.digest(candidate(f1=0.5)) == self.digest(candidate(f1=0.5, other=3.0))

    def test_another_value_is_another_input(self) -> None:
        assert self.digest(candidate(f1=0.5)) != self.digest(candidate(f1=0.6))

    def test_a_missing_value_that_came_is_another_input(self) -> None:
        assert self.digest(candidate()) != self.digest(candidate(f1=0.6))

    def test_another_bound_is_another_input(self) -> None:
        assert self.digest(candidate(f1=0.5)) != self.digest(candidate(f1=0.5), at_least("0.4"))

    def test_the_champions_value_counts_only_where_compared(self) -> None:
        one, two = candidate(champion(f1=0.1), f1=0.5), candidate(champion(f1=0.2), f1=0.5)
        assert self.digest(one) == self.digest(two)
        assert self.digest(one, compared(UP)) != self.digest(two, compared(UP))

    def test_the_tag_that_a_gate_asks_for_is_an_input(self) -> None:
        gate = Gate(name="reviewed", tag=TagGate(key="reviewed", values=("yes",)))
        digests = [
            self.digest(GateFacts(candidate=VersionFacts(state("7", **tags))), gate)
            for tags in ({}, {"reviewed": "no"}, {"reviewed": "no", "team": "b"})
        ]
        assert digests[0] != digests[1] == digests[2]

    def test_an_outage_is_no_input(self) -> None:
        down = GateFacts(candidate=VersionFacts(state("7"), Unreadable("down")))
        assert self.digest(down) is None

    def test_an_outage_under_a_dry_run_gate_does_not_matter(self) -> None:
        down = GateFacts(candidate=VersionFacts(state("7"), Unreadable("down")))
        dry = Gate(name="g", metric=self.gate.metric, dry_run=True)
        statuses, inputs = evaluate_all([dry], down, NOW)
        assert statuses[0].dry_run
        assert inputs is not None

    def test_time_is_no_input(self) -> None:
        gates = [Gate(name="soak", min_age=MinAgeGate(duration=Duration(60)))]
        facts = GateFacts(candidate=VersionFacts(state("7")), candidate_since=NOW)
        early, late = (evaluate_all(gates, facts, NOW + timedelta(s)) for s in (0, 3600))
        assert early[0] != late[0]
        assert early[1] == late[1]


def test_every_word() -> None:
    """All rows with their values and bounds, which stand in status and in the audit."""
    rows: dict[str, tuple[Gate, GateFacts]] = {n: row[:2] for n, row in METRIC_ROWS.items()}
    for name, (tag, tags, *_) in TAG_ROWS.items():
        facts = GateFacts(candidate=VersionFacts(state("7", **tags)))
        rows[f"tag: {name}"] = (Gate(name="reviewed", tag=tag), facts)
    soak = Gate(name="soak", min_age=MinAgeGate(duration=Duration(3600)), dry_run=True)
    elsewhere = NOW.astimezone(timezone(timedelta(hours=3)))
    for name, since in {
        "not a candidate yet": None,
        "a candidate": elsewhere,
        "for a moment less": NOW - timedelta(seconds=3599),
        "for so long": NOW - timedelta(hours=1),
    }.items():
        facts = GateFacts(candidate=VersionFacts(state("7")), candidate_since=since)
        rows[f"min age: {name}"] = (soak, facts)
    rows["no kind"] = (Gate(name="empty", dry_run=True), candidate())
    told = []
    for name, (gate, facts) in rows.items():
        said = evaluate(gate, facts, NOW)
        dry = " (dry run)" if said.dry_run else ""
        told += [f"{name}: gate {said.name}{dry}, {said.verdict}", f"  {said.message}"]
        told += [f"  value {said.value}, bound {said.bound}"]
    compare("\n".join(told) + "\n", Path(__file__).parent / "words.txt")


@pytest.mark.parametrize(("number", "more"), [(10, False), (11, True)])
def test_of_the_metrics_that_are_there_ten_are_named(number: int, more: bool) -> None:
    metrics = {f"m{n:02}": 1.0 for n in range(number)}
    said = evaluate(at_least("0.9"), candidate(**metrics), NOW).message
    assert "m09" in said and "m10" not in said
    assert (", ..." in said) == more


def test_what_follows_a_gate_that_does_not_count_is_an_input_too() -> None:
    facts, others = candidate(f1=0.5), candidate(f1=0.6)
    dry = Gate(name="dry", metric=at_least("0.9").metric, dry_run=True)
    gates = [dry, at_least("0.1")]
    assert evaluate_all(gates, facts, NOW)[1] != evaluate_all(gates, others, NOW)[1]


def test_only_what_is_asked_is_read() -> None:
    assert reads_of([Gate(name="empty"), at_least("1")]) == Reads(run=True)
    assert reads_of([Gate(name="t", tag=TagGate(key="t"))]) == Reads()
    assert reads_of([at_least("1")]) == Reads(run=True)
    assert reads_of([at_least("1", source=LOGGED), compared(UP)]) == Reads(
        run=True, logged_model=True, champion=True
    )
