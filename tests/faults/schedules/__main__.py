"""`make faults N=10000`: so many random schedules; `make faults SEED=123`: that one again, told.

A schedule that fails is shrunk and told in plain words. The end says what was broken how often.
With --real both servers are, the operators are processes, and a failing schedule is told as drawn.
With --break the operator is broken on purpose, and it ends with 1 when nothing was found.
"""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.__main__ import THREADS, servers
from tests.faults.arguments import positive
from tests.faults.breaks import BREAKS, broken, caught
from tests.faults.relay import Servers
from tests.faults.schedules import real
from tests.faults.schedules.schedule import DRAWN, Schedule, draw
from tests.faults.schedules.shrink import shrunk
from tests.faults.schedules.trial import Outcome, play
from tests.faults.stories import STORIES

_NOT_TOLD = "the tests ended with"
INTERRUPTED = 130  # as a shell has it
SHOWN = 20  # failing schedules that are shrunk and told


@dataclass
class Total:
    """What many schedules came to."""

    played: int = 0
    left: int = 0  # interrupted before them
    failed: list[str] = field(default_factory=list)
    unjudged: int = 0  # of those: the tests did, and the operator may be sound
    stories: Counter[str] = field(default_factory=Counter)
    injections: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    simulated: float = 0.0
    seconds: float = 0.0

    def add(self, outcome: "Told") -> None:
        self.played += 1
        self.stories[outcome.story] += 1
        self.injections.update(outcome.injections)
        self.fired.update(outcome.fired)
        self.simulated += outcome.simulated
        self.seconds += outcome.seconds
        if outcome.violations:
            self.failed.append(outcome.seed)
            self.unjudged += all(each.startswith(_NOT_TOLD) for each in outcome.violations)

    def code(self, broken_by: str | None) -> int:
        """The exit code: 1 when anything failed, or, of an operator that was broken on purpose,
        when nothing did. What is said of that is printed. A run that was interrupted is none."""
        if self.left:
            return INTERRUPTED
        if broken_by is None:
            return 1 if self.failed else 0
        code, said = caught(broken_by, len(self.failed) - self.unjudged)
        print(said)
        return code

    def lines(self) -> Iterator[str]:
        yield f"{self.played} schedules, {len(self.failed)} failed: {' '.join(self.failed)}"
        if self.left:
            yield f"interrupted: {self.left} more were not played"
        yield f"{self.simulated / 3600:.1f} hours of stories, played in {self.seconds:.0f} s"
        for what in ("stories", "injections", "fired"):
            counted: Counter[str] = getattr(self, what)
            told = ", ".join(f"{name} {count}" for name, count in counted.most_common())
            yield f"{what} ({sum(counted.values())}): {told}"


@dataclass(frozen=True)
class Told:
    """Of an outcome, what is worth sending from one process to another."""

    seed: str
    story: str
    injections: list[str]
    fired: list[str]
    violations: list[str]
    simulated: float
    seconds: float


@dataclass(frozen=True)
class Drawn:
    """What seeds are made into: schedules of one story, or of all, for an operator that may be
    broken on purpose."""

    story: str | None = None
    broken: str | None = None

    def schedule(self, seed: str) -> Schedule:
        return draw(seed, (self.story,) if self.story else DRAWN)


def _told(seed: str, drawn: "Drawn") -> Told:
    schedule = drawn.schedule(seed)
    return _summed(_play(schedule, drawn.broken))


def _summed(outcome: Outcome) -> Told:
    schedule = outcome.schedule
    return Told(
        schedule.seed,
        schedule.story,
        [type(one).__name__ for one in schedule.injections],
        [fired.split(" ")[0] for fired in outcome.hows],
        outcome.violations,
        outcome.simulated,
        outcome.seconds,
    )


def _play(schedule: Schedule, broken_by: str | None, level: int = logging.ERROR) -> Outcome:
    with broken(broken_by):
        return play(schedule, level)


def tell(seed: str, drawn: Drawn) -> str:
    """The failing schedule of that seed, shrunk, and what it violates."""

    def fails(shorter: Schedule) -> bool:
        return bool(_play(shorter, drawn.broken).violations)

    short = shrunk(drawn.schedule(seed), fails)
    violations = _play(short, drawn.broken).violations
    return "\n".join([*short.words(), *(f"  => {one}" for one in violations)])


def replay(seed: str, drawn: Drawn, shrink: bool) -> int:
    schedule = drawn.schedule(seed)
    outcome = _play(schedule, drawn.broken, logging.INFO)
    print("\n".join(outcome.told))
    print("\n".join([*schedule.words(), *(f"  => {one}" for one in outcome.violations)]))
    print(f"digest {outcome.digest}, {outcome.seconds:.2f} s of CPU")
    if outcome.violations and shrink:
        print(f"\nshrunk:\n{tell(seed, drawn)}")
    total = Total()
    total.add(_summed(outcome))
    return total.code(drawn.broken)


def _all(seeds: range, drawn: Drawn, at_once: int) -> Iterator[Told]:
    if at_once == 1:
        yield from (_told(str(seed), drawn) for seed in seeds)
        return
    with ProcessPoolExecutor(at_once) as pool:
        yield from pool.map(_told, map(str, seeds), [drawn] * len(seeds), chunksize=20)


def many(seeds: range, drawn: Drawn, at_once: int) -> int:
    total, began = Total(), time.monotonic()
    try:
        for outcome in _all(seeds, drawn, at_once):
            total.add(outcome)
            if outcome.violations:
                print(f"seed {outcome.seed}: {outcome.violations[0][:300]}", flush=True)
            if total.played % 500 == 0:
                took = time.monotonic() - began
                print(f"{total.played} played in {took:.0f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        total.left = len(seeds) - total.played
    for seed in total.failed[:SHOWN]:
        print(f"\n{tell(seed, drawn)}", flush=True)
    print("\n".join(["", *total.lines()]))
    return total.code(drawn.broken)


async def _all_real(
    both: Servers, seeds: range, drawn: Drawn, at_once: int, logs: Path | None
) -> AsyncIterator[Told]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    turn = asyncio.Semaphore(at_once)

    async def one(seed: str) -> Told:
        async with turn:
            schedule = drawn.schedule(seed)
            try:
                outcome = await real.play(both, schedule, drawn.broken)
            except Exception as error:  # one schedule does not end the run of all
                outcome = Outcome(schedule, [f"{_NOT_TOLD} {error!r}"])
        if outcome.violations:
            _say(outcome, logs)
        return _summed(outcome)

    for played in asyncio.as_completed([one(str(seed)) for seed in seeds]):
        yield await played


def _say(outcome: Outcome, logs: Path | None) -> None:
    schedule = outcome.schedule
    text = "\n".join([*schedule.words(), *(f"  => {one}" for one in outcome.violations)])
    print(f"{text}\n", flush=True)
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{schedule.seed}.log").write_text("\n".join([text, *outcome.told]))


def many_real(seeds: range, drawn: Drawn, at_once: int, logs: Path | None) -> int:
    total = Total()

    async def add_all(both: Servers) -> None:
        async for told in _all_real(both, seeds, drawn, at_once, logs):
            total.add(told)
            print(f"{total.played} of {len(seeds)}: seed {told.seed}, {told.seconds:.0f} s")

    with servers(name="schedules") as both:
        try:
            asyncio.run(add_all(both))
        except KeyboardInterrupt:
            total.left = len(seeds) - total.played
    print("\n".join(["", *total.lines()]))
    return total.code(drawn.broken)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end too
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--count", type=positive, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one seed: its story, request by request")
    parser.add_argument("--shrink", action="store_true", help="with --seed: make it short")
    parser.add_argument("--story", choices=sorted(STORIES), help="only this one")
    parser.add_argument(
        "--break",
        dest="breaks",
        choices=sorted(BREAKS),
        help="break the operator on purpose; ends with 1 when nothing is found",
    )
    parser.add_argument(
        "--at-once", type=positive, default=1, help="processes, or with --real trials"
    )
    parser.add_argument("--real", action="store_true", help="against real servers, in real time")
    parser.add_argument("--logs", type=Path, help="with --real: where what failed is told")
    given = parser.parse_args()
    if given.shrink and given.real:
        parser.error("--shrink needs many tellings: play the seed without --real")
    drawn = Drawn(given.story, given.breaks)
    alone = given.seed is not None
    first, count = (given.seed, 1) if alone else (given.first, given.count)
    seeds = range(first, first + count)
    if given.real:
        return many_real(seeds, drawn, given.at_once, given.logs)
    if alone:
        return replay(str(given.seed), drawn, given.shrink)
    return many(seeds, drawn, given.at_once)


if __name__ == "__main__":
    sys.exit(main())
