"""The soak itself: churn and outages for a time, then peace, and everything must be well.

Prints nothing: `__main__` does. All that was seen is in the report.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

from tests.faults.mutated import oracle
from tests.faults.mutated.scene import ENDED, caught_up, condition, describe, is_true
from tests.faults.soak.churn import Churn
from tests.faults.soak.outages import Outages, plan
from tests.faults.soak.samples import (
    Clock,
    Flatness,
    Sample,
    flatness,
    of_last_process,
    rates,
    take,
)
from tests.faults.soak.town import AWAY, Quarter, Town
from tests.faults.soak.watcher import Watcher

T = TypeVar("T")
LINGERING = 30.0  # seconds
PEACE = 240.0  # seconds within which everything converges once nobody disturbs it
OUTAGE_ENDS = 180.0  # seconds after the last one began
LOOK_EVERY, LEDGER_EVERY = 1.5, 20.0

# What counts as flat in the second half of the last process' life. The town does not grow (a model
# lives nine minutes on average), but malloc keeps its high-water mark. A leak of one object of
# 1 KiB per pass would be more than 10 MiB an hour.
MOST_MIB_PER_HOUR = 8.0
MOST_DESCRIPTORS_MORE = 10


@dataclass
class Report:
    """No `violations`: all that had to hold held."""

    seconds: float
    promotions: int
    violations: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    deeds: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    outages: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    moves: int = 0
    promoted: int = 0
    phases: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    converged: float = 0.0

    @property
    def last_process(self) -> list[Sample]:
        return of_last_process(self.samples)

    @property
    def flat(self) -> dict[str, Flatness]:
        names = ("rss", "descriptors", "threads")
        return {name: flatness(self.last_process, name) for name in names}

    @property
    def rates(self) -> dict[str, float]:
        return rates(self.last_process)

    def as_json(self) -> dict[str, Any]:
        flat = {name: asdict(each) for name, each in self.flat.items()}
        return {**asdict(self), "flat": flat, "rates": self.rates}


class Soak:
    def __init__(self, town: Town, seconds: float, seed: int, pace: float) -> None:
        """`pace`: seconds between two deeds."""
        self._town, self._seconds, self._pace = town, seconds, pace
        self._clock = Clock()
        self._stop = threading.Event()
        self._churn = Churn(town, seed)
        self._watcher = Watcher(town)
        self._outages = Outages(town, plan(seconds, seed), seed)
        self._failed: list[str] = []
        self.report = Report(seconds, len(town.quarters))

    def run(self, told: Callable[[str], None] = lambda text: None) -> Report:
        self._town.build()
        self._clock = Clock()
        threads = [
            threading.Thread(target=self._again, args=each, daemon=True)
            for each in (
                (self._churn.step, self._pace),
                (self._churn.crash, 1.0),
                (self._look, LOOK_EVERY),
                (self._ledgers, LEDGER_EVERY),
                (self._sample, max(1.0, self._seconds / 360)),
                (lambda: self._outages.due(self._clock()), 0.5),
            )
        ]
        for thread in threads:
            thread.start()
        while (now := self._clock()) < self._seconds:
            told(
                f"{now:.0f} s, {sum(self._churn.done.values())} deeds, {self._watcher.moves} moves"
            )
            time.sleep(min(60.0, max(0.1, self._seconds - now)))
        self._stop.set()
        for thread in threads:
            thread.join(120)
        self._peace(told)
        self._judge()
        return self.report

    def _again(self, work: Callable[[], None], every: float) -> None:
        while not self._stop.wait(every):
            try:
                work()
            except AWAY:
                continue  # a server is being restarted
            except Exception as error:
                self._failed.append(f"the soak's own {work}: {error!r}")
                raise

    def _look(self) -> None:
        self._town.operator.keep_up()
        promotions = self._town.promotions()
        self._watcher.look(promotions)
        self._churn.approve(promotions)

    def _ledgers(self) -> None:
        for quarter in self._town.quarters:
            self._watcher.ledger(quarter)
            if self._stop.wait(LEDGER_EVERY / len(self._town.quarters) / 4):
                return

    def _sample(self) -> None:
        operator = self._town.operator
        found = take(self._clock(), operator.pid, operator.metrics_port)
        if found is not None:
            self.report.samples.append(found)

    def _peace(self, told: Callable[[str], None]) -> None:
        """Nobody disturbs any more; each model gets one more good version, which must win."""
        wanted = {}
        for quarter in self._town.quarters:
            _surely(partial(self._town.suspend, quarter, False))
            version = _surely(partial(self._town.register, quarter, "good"))
            wanted[quarter.name] = version
            if quarter.follows:
                _surely(partial(self._town.move, quarter, version))
        began, released = time.monotonic(), set[str]()
        while True:
            waiting = _surely(lambda: self._waiting(wanted, released))
            if not waiting:
                break
            if time.monotonic() - began > PEACE:
                self.report.violations += [f"I5: not within {PEACE:.0f} s: {w}" for w in waiting]
                break
            told(f"peace: {len(waiting)} promotions have not arrived")
            time.sleep(1.0)
        self.report.converged = time.monotonic() - began

    def _waiting(self, wanted: dict[str, str], released: set[str]) -> list[str]:
        found = []
        promotions = self._town.promotions()
        self._churn.approve(promotions)
        for quarter in self._town.quarters:
            promotion = promotions.get(quarter.name, {})
            status = promotion.get("status", {})
            # Each decision that came before the peace is answered first, so hold is looked at late.
            if status.get("hold") and quarter.name not in released:
                self._town.decide(quarter, "Release")
                released.add(quarter.name)
            elif not status.get("hold"):
                released.discard(quarter.name)
            champion = status.get("champion", {}).get("version")
            arrived = (
                promotion
                and caught_up(promotion)
                and is_true(promotion, "Ready")
                and status.get("attempt", {}).get("phase") in ENDED
                and champion == wanted[quarter.name]
            )
            if not arrived:
                found.append(f"{quarter.name} at {wanted[quarter.name]}: {describe(promotion)}")
        return found

    def _judge(self) -> None:
        report, watcher = self.report, self._watcher
        for quarter in self._town.quarters:
            report.violations += self._settled(quarter)
        _surely(watcher.count_promotions)
        report.violations += [*watcher.violations, *self._outages.violations]
        report.violations += [*self._failed, *self._of_the_log()]
        report.deeds, report.skipped = dict(self._churn.done), dict(self._churn.skipped)
        report.outages = dict(self._outages.done)
        report.looks, report.moves, report.promoted = (
            watcher.looks,
            watcher.moves,
            watcher.promoted,
        )
        report.phases, report.reasons = sorted(watcher.phases), sorted(watcher.reasons)
        unknown = watcher.reasons - oracle.documented()
        if unknown:
            report.violations.append(f"reasons that are not documented: {sorted(unknown)}")

    def _settled(self, quarter: Quarter) -> list[str]:
        """What is wrong, and stays so: pods of before may still be on their way out."""
        until = time.monotonic() + LINGERING
        while True:
            found = _surely(partial(self._end_of, quarter))
            if not found or time.monotonic() > until:
                return found
            time.sleep(1.0)

    def _end_of(self, quarter: Quarter) -> list[str]:
        """Alias, stage, Deployment and ledger agree."""
        state = self._watcher.ledger(quarter)
        champion = str(state.status.get("champion", {}).get("version"))
        found = list(self._watcher.whole_ledger(quarter, state))
        if state.alias != champion:
            found.append(f"I5: the alias is at {state.alias}, the champion {champion}")
        if not state.serves(quarter.name, champion):
            at = state.deployments[quarter.name]
            found.append(f"I5: the Deployment does not serve {champion}: {at.get('status')}")
        production = [n for n, stage in state.stages.items() if stage == "Production"]
        if production != [champion]:
            found.append(f"I5: in Production are {production}, the champion is {champion}")
        told = condition(state.promotion, "Stalled")
        return [f"{quarter.name}: {each} ({told.get('message')})" for each in found]

    def _of_the_log(self) -> list[str]:
        log = self._town.operator.log.read_text(errors="replace")
        found = []
        if disorderly := self._outages.done["operator did not stop in order"]:
            found.append(f"the operator did not stop in order {disorderly} times")
        lines = [line for line in log.splitlines() if '"ERROR"' in line or "Traceback" in line]
        # kopf counts an API server that is restarted among the errors.
        if errors := [line for line in lines if "; will retry: " not in line]:
            found.append(f"the operator's log has errors: {errors[:3]}")
        if self._town.operator.ended_by_itself:
            found.append(
                f"the operator ended by itself {self._town.operator.ended_by_itself} times"
            )
        return found


def _surely(work: Callable[[], T]) -> T:
    """Until it works: the last outage may not be over. Raises what it met with when it never is."""
    end = time.monotonic() + OUTAGE_ENDS
    while True:
        try:
            return work()
        except AWAY:
            if time.monotonic() > end:
                raise
            time.sleep(1.0)


def not_flat(report: Report) -> list[str]:
    """What grew more than it may. For a soak of some length: a minute says nothing."""
    found = []
    rss, descriptors = report.flat["rss"], report.flat["descriptors"]
    if rss.slope > MOST_MIB_PER_HOUR:
        found.append(f"memory grows by {rss.slope:.1f} MiB an hour, at most {MOST_MIB_PER_HOUR}")
    if descriptors.after - descriptors.before > MOST_DESCRIPTORS_MORE:
        found.append(f"descriptors grow from {descriptors.before:.0f} to {descriptors.after:.0f}")
    return found
