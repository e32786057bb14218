"""Gate `metric`: a logged metric lies within bounds, or stands comparison with the champion.

Reads the last logged value of the version's source run, or the value of the LoggedModel that
the version was made of. Arithmetic is decimal on the shortest text of the float (its repr),
so that 0.9 with tolerance 0.1 against 1.0 passes as a person expects.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from podium.api.promotion import Bound, Compare, Goal, MetricGate, MetricSource
from podium.api.promotion_status import Verdict
from podium.gates.check import Outcome, Reads
from podium.gates.facts import GateFacts, Unreadable, VersionFacts
from podium.registry.model import LoggedMetric


@dataclass(frozen=True)
class Measured:
    """A finite value, and where it was read: run, dataset, step."""

    number: Decimal
    where: str


@dataclass(frozen=True)
class MetricCheck:
    gate: MetricGate
    timed: bool = False

    @property
    def reads(self) -> Reads:
        logged = self.gate.source is MetricSource.LOGGED_MODEL
        return Reads(run=not logged, logged_model=logged, champion=self.gate.compare is not None)

    def outcome(self, facts: GateFacts, now: datetime) -> Outcome:
        measured = measure(self.gate, facts.candidate)
        bound, compare = self.gate.bound, self.gate.compare
        if bound is not None and compare is None and not (bound.min is bound.max is None):
            return measured if isinstance(measured, Outcome) else within(bound, measured)
        if compare is not None and bound is None:
            return against_champion(self.gate, compare, measured, facts)
        return Outcome(
            Verdict.ERROR,
            "the gate must ask for exactly one of bound (with min or max) and compare; "
            "mend spec.gates",
        )

    def inputs(self, facts: GateFacts) -> object:
        champion = facts.champion if self.gate.compare else None
        return [
            _input(measure(self.gate, facts.candidate)),
            _input(measure(self.gate, champion)) if isinstance(champion, VersionFacts) else None,
        ]


def within(bound: Bound, measured: Measured) -> Outcome:
    """Both ends are inclusive."""
    asked = " and ".join(
        [f"at least {bound.min}"] * (bound.min is not None)
        + [f"at most {bound.max}"] * (bound.max is not None)
    )
    low = bound.min is not None and measured.number < bound.min
    high = bound.max is not None and measured.number > bound.max
    return _compared(measured, asked, ok=not (low or high))


def against_champion(
    gate: MetricGate, compare: Compare, measured: Measured | Outcome, facts: GateFacts
) -> Outcome:
    """At least as good as the champion, or worse by no more than the tolerance."""
    champion = facts.champion
    if champion is None:
        return Outcome(
            Verdict.NOT_APPLICABLE, f'there is no champion yet to compare "{gate.key}" with'
        )
    if isinstance(champion, Unreadable):
        return Outcome(Verdict.ERROR, champion.message)
    if champion.version.version == facts.candidate.version.version:
        return Outcome(
            Verdict.NOT_APPLICABLE,
            f"version {champion.version.version} is the champion itself: nothing to compare with",
        )
    if isinstance(measured, Outcome):
        return measured
    best = measure(gate, champion)
    if isinstance(best, Outcome):
        return Outcome(
            Verdict.ERROR,
            f"no value of the champion to compare with: {best.message}. Log it for the champion, "
            "or replace compare by bound in spec.gates",
            value=str(measured.number),
        )
    if compare.goal is Goal.MAXIMIZE:
        limit = best.number - compare.tolerance
        ok, word = measured.number >= limit, "at least"
    else:
        limit = best.number + compare.tolerance
        ok, word = measured.number <= limit, "at most"
    asked = f"{word} {limit} (champion {champion.version.version}: {best.number}"
    asked += f", tolerance {compare.tolerance})" if compare.tolerance else ")"
    return _compared(measured, asked, ok=ok)


def measure(gate: MetricGate, facts: VersionFacts) -> Measured | Outcome:
    """The value of the metric for a version, or the verdict that having none comes to."""
    if gate.source is MetricSource.RUN:
        return _of_run(gate, facts)
    return _of_logged_model(gate, facts)


def _of_run(gate: MetricGate, facts: VersionFacts) -> Measured | Outcome:
    version = facts.version.version
    if gate.dataset is not None:
        return Outcome(
            Verdict.ERROR,
            f'a run\'s metrics do not say on which dataset they were measured: "{gate.dataset}" '
            "can only be chosen with source: LoggedModel",
        )
    if facts.version.run_id is None:
        return Outcome(
            Verdict.FAIL, f'version {version} has no source run, so no metric "{gate.key}"'
        )
    if isinstance(facts.run, Unreadable):
        return Outcome(Verdict.ERROR, facts.run.message)
    if facts.run is None:
        return Outcome(Verdict.ERROR, f"run {facts.version.run_id} was not read")
    where = f"run {facts.run.run_id} of version {version}"
    if gate.key not in facts.run.metrics:
        return _missing(gate.key, where, facts.run.metrics)
    return _finite(gate.key, facts.run.metrics[gate.key], where)


def _of_logged_model(gate: MetricGate, facts: VersionFacts) -> Measured | Outcome:
    version, logged = facts.version.version, facts.logged_model
    if isinstance(logged, Unreadable):
        return Outcome(Verdict.ERROR, logged.message)
    if logged is None:
        return Outcome(
            Verdict.FAIL,
            f"version {version} was not made of a LoggedModel (models:/m-...; MLflow 3 logs one), "
            f'so it has no metric "{gate.key}" there',
        )
    where = f"logged model {logged.model_id} of version {version}"
    of_key = [m for m in logged.metrics if m.key == gate.key]
    if not of_key:
        return _missing(gate.key, where, {m.key: m.value for m in logged.metrics})
    fitting = [m for m in of_key if gate.dataset in (None, m.dataset_name, m.dataset_digest)]
    if not fitting:
        return Outcome(
            Verdict.PENDING,
            f'{where} has "{gate.key}" not on dataset "{gate.dataset}" yet, '
            f"only on {_datasets(of_key)}",
        )
    if len({(m.dataset_name, m.dataset_digest) for m in fitting}) > 1:
        return Outcome(
            Verdict.ERROR,
            f'{where} has "{gate.key}" on several datasets: {_datasets(fitting)}. '
            "Choose one by name or digest in metric.dataset",
        )
    last = max(fitting, key=lambda m: (m.step, m.timestamp))
    where += f", dataset {_dataset(last)}" if last.dataset_name else ""
    where += f", step {last.step}" if last.step else ""
    return _finite(gate.key, last.value, where)


def _missing(key: str, where: str, others: Mapping[str, float]) -> Outcome:
    names = sorted(others)
    known = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return Outcome(
        Verdict.PENDING, f'{where} has no metric "{key}" yet (it has: {known or "none"})'
    )


def _finite(key: str, value: float, where: str) -> Measured | Outcome:
    if not math.isfinite(value):
        return Outcome(
            Verdict.FAIL, f'metric "{key}" of {where} is {value!r}, no number', value=repr(value)
        )
    return Measured(Decimal(repr(float(value))), where)


def _compared(measured: Measured, asked: str, *, ok: bool) -> Outcome:
    verdict = Verdict.PASS if ok else Verdict.FAIL
    text = f"{measured.number} {'is' if ok else 'is not'} {asked} ({measured.where})"
    return Outcome(verdict, text, value=str(measured.number), bound=asked)


def _input(measured: Measured | Outcome) -> object:
    if isinstance(measured, Measured):
        return str(measured.number)
    return [measured.verdict.value, measured.value]


def _dataset(metric: LoggedMetric) -> str:
    if metric.dataset_name is None:
        return "none"
    return f"{metric.dataset_name} ({metric.dataset_digest})"


def _datasets(metrics: list[LoggedMetric]) -> str:
    return ", ".join(sorted({_dataset(m) for m in metrics}))
