"""`make faults`: breaks every call of every story, and prints what came of it.

A table calls x faults for each story. A case holds when the fault fired and no invariant of
`invariants` was violated. Most faults befall a few calls of one telling, far from each other; when
anything is violated, each is played alone, and a call that does not come is tried again: with
others, with few, and alone. With --break, one of the operator's own rules is taken away (`breaks`):
then something must be found, or the tests do not look, and it ends with 1.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from testbed import cluster as testbed_cluster
from testbed.mlflow import MlflowServer
from tests.conftest import with_crds
from tests.faults import harness
from tests.faults.arguments import positive
from tests.faults.breaks import BREAKS, caught
from tests.faults.fault import Fault
from tests.faults.harness import Outcome
from tests.faults.relay import Servers
from tests.faults.results import (
    Case,
    Recording,
    Result,
    Results,
    ResultsError,
    Word,
    grouped,
    summary,
    table,
)
from tests.faults.stories import STORIES
from tests.kubectl import Kubectl

AT_ONCE = 12  # they mostly wait; on two cores more at once are no faster
TOGETHER = 10
FEW = 4  # what goes before a call changes whether it comes
MLFLOWS = 2  # one process of it has one processor
THREADS = 64

Played = tuple[Result, Outcome]

console = Console(width=None if sys.stdout.isatty() else 200)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    what = parser.add_argument_group("which cases")
    what.add_argument("--story", action="append", choices=sorted(STORIES))
    what.add_argument("--fault", action="append", choices=[fault.name for fault in Fault])
    what.add_argument("--call", default="", help="only calls with this in their name")
    what.add_argument("--writes", action="store_true", help="only calls that write")
    what.add_argument("--reads", action="store_true", help="only calls that read")
    what.add_argument("--cases", type=positive, help="so many of each story's, drawn by --seed")
    what.add_argument("--seed", type=int, default=0)
    help_of_break = "break the operator on purpose; ends with 1 when nothing is found"
    what.add_argument("--break", dest="breaks", choices=sorted(BREAKS), help=help_of_break)
    how = parser.add_argument_group("how")
    how.add_argument("--at-once", type=positive, default=AT_ONCE, help="so many trials")
    how.add_argument("--together", type=positive, default=TOGETHER, help="so many calls in a trial")
    how.add_argument("--resume", type=Path, metavar="FILE", help="keep results, and go on with it")
    how.add_argument("--minutes", type=float, help="begin no case after so long")
    how.add_argument("--table", action="store_true", help="print the results of --resume, no more")
    how.add_argument("--name", default="faults", help="of the test bed's cluster")
    how.add_argument("--mlflow", metavar="URI", help="a server of yours instead of a new one")
    how.add_argument("--logs", type=Path, help="where the operator's log of a violation goes")
    given = parser.parse_args()
    if given.table and not (given.resume and given.resume.is_file()):
        parser.error("--table needs --resume with the file of an earlier run")
    if given.breaks and given.resume:
        parser.error("--break changes the operator: its results do not belong into --resume")
    return given


@contextlib.contextmanager
def servers(mlflow: str | None = None, name: str = "faults") -> Iterator[Servers]:
    """Real ones, with no operator."""
    cluster = testbed_cluster.up(name=name, size="control")
    with contextlib.ExitStack() as stack:
        stack.callback(testbed_cluster.down, name)
        with_crds(Kubectl(cluster.programs["kubectl"], cluster.kubeconfig))
        uri = mlflow or stack.enter_context(MlflowServer()).uri
        yield asyncio.run(Servers.of(cluster.kubeconfig, uri))


class Run:
    """The cases that were asked for, so many at once."""

    def __init__(
        self, reals: Sequence[Servers], given: argparse.Namespace, results: Results
    ) -> None:
        self._reals, self._given, self._results = itertools.cycle(reals), given, results
        self._turn = asyncio.Semaphore(given.at_once)
        self._until = time.monotonic() + 60 * given.minutes if given.minutes else None
        self._logs = itertools.count(1)
        self.broken_stories: list[str] = []  # violated without any fault
        self.left = 0  # cases that were not begun in time

    async def all(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        stories = self._given.story or list(STORIES)
        await asyncio.gather(*(self._record(name) for name in stories))
        rest = [case for name in stories for case in self._cases(name)]
        # How often status is written while pods start depends on how fast they are.
        for together in (self._given.together, self._given.together, FEW):
            rest = [result.case for result, _ in await self._round(rest, together)]
        for result, outcome in await self._round(rest, 1):
            self._tell(result, outcome)

    async def _round(self, cases: list[Case], together: int) -> list[Played]:
        """Keeps what held or was violated, and gives that whose call did not come."""
        groups = grouped(cases, min(together, self._given.together))
        groups.sort(key=lambda group: group[0].order)
        played = await asyncio.gather(*(self._group(group) for group in groups))
        return [each for group in played for each in group]

    async def _record(self, name: str) -> None:
        if name in self._results.recordings:
            return
        async with self._turn:
            outcome = await harness.run(next(self._reals), STORIES[name], breaks=self._given.breaks)
        if outcome.violations:
            self.broken_stories.append(name)
            self._say(f"{name}: without any fault", outcome)
        else:
            self._results.recorded(name, Recording(outcome.calls, outcome.staleable))

    def _cases(self, name: str) -> list[Case]:
        given = self._given
        if name not in self._results.recordings:
            return []
        cases = [
            case
            for case in self._results.recordings[name].cases(name)
            if not (given.writes and not case.call.writes)
            and not (given.reads and case.call.writes)
            and given.call in str(case.call)
            and (not given.fault or case.fault.name in given.fault)
        ]
        if given.cases:
            cases = random.Random(given.seed).sample(cases, min(given.cases, len(cases)))
        return [case for case in cases if case not in self._results.of]

    async def _group(self, group: list[Case]) -> list[Played]:
        async with self._turn:
            if self._until is not None and time.monotonic() > self._until:
                self.left += len(group)
                return []
            played = await play(next(self._reals), group, self._given.breaks)
        for result, outcome in played:
            if result.came:
                self._tell(result, outcome)
        return [(result, outcome) for result, outcome in played if not result.came]

    def _tell(self, result: Result, outcome: Outcome) -> None:
        self._results.add(result)
        if result.word is not Word.HELD:
            case = result.case
            self._say(f"{case.story}: {case.call}: {case.fault}: {result.word}", outcome)

    def _say(self, what: str, outcome: Outcome) -> None:
        console.print(what, style="red" if outcome.violations else "yellow", markup=False)
        for violation in outcome.violations:
            console.print(f"    {violation}", markup=False)
        if outcome.violations and self._given.logs:
            self._given.logs.mkdir(exist_ok=True)
            text = "\n".join([what, *outcome.violations, outcome.log])
            (self._given.logs / f"{next(self._logs)}-{time.time():.0f}.log").write_text(text)


async def play(real: Servers, group: Sequence[Case], breaks: str | None = None) -> list[Played]:
    """Plays the cases in one telling of their story; when anything is violated, each alone."""
    story, fault = STORIES[group[0].story], group[0].fault
    calls = [case.call for case in group]
    began = time.monotonic()
    outcome = await harness.run(real, story, calls, fault, breaks)
    seconds = round((time.monotonic() - began) / len(group), 1)
    if not outcome.violations or len(group) == 1:
        return [(_result(case, outcome, seconds, len(group)), outcome) for case in group]
    played = [each for case in group for each in await play(real, [case], breaks)]
    if not any(alone.violations for _, alone in played):
        told = f"broken together: {', '.join(map(str, calls))}"  # which it takes is not known
        said = (told, *outcome.violations)
        result = Result(group[-1], Word.VIOLATED, seconds, said, len(group))
        played[-1] = (result, outcome)
    return played


def _result(case: Case, outcome: Outcome, seconds: float, together: int) -> Result:
    if outcome.violations:
        word = Word.VIOLATED
    elif case.call in outcome.fired:
        word = Word.HELD
    else:
        word = Word.NOT_FIRED if case.call in outcome.calls else Word.NOT_MADE
    return Result(case, word, seconds, tuple(outcome.violations), together)


def verdict(
    results: Results, broken: Sequence[str], left: int, breaks: str | None = None
) -> tuple[int, list[str]]:
    """The exit code, and what is to be said of it. Broken stories are those that were violated
    without any fault; `left` cases were not begun in time, which is how a run in pieces goes. Of
    an operator with one of `breaks` something must be violated, and nothing else counts."""
    said = [f"cut short: {left} cases were not played"] if left else []
    hardly_made, words = results.hardly_made(), results.words()
    if breaks is not None:
        code, told = caught(breaks, len(broken) + words[Word.VIOLATED])
        return code, [*said, told]
    if not words.total() and not broken and not left:
        said.append("no case was played: no call has that name, or meets that fault")
    good = not broken and not words[Word.VIOLATED] and not words[Word.NOT_FIRED]
    good = good and bool(words[Word.HELD]) and not hardly_made
    return 0 if good else 1, [*said, *hardly_made]


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end too
    given = arguments()
    try:
        results = Results(given.resume)
    except (ResultsError, OSError, UnicodeDecodeError) as error:
        print(f"--resume: {error}", file=sys.stderr)
        return 2
    broken: list[str] = []
    left = 0
    if not given.table:
        with servers(given.mlflow, given.name) as real, contextlib.ExitStack() as stack:
            number = 1 if given.mlflow else MLFLOWS
            more = (stack.enter_context(MlflowServer()).uri for _ in range(1, number))
            reals = [real, *(replace(real, mlflow=uri) for uri in more)]
            run = Run(reals, given, results)
            asyncio.run(run.all())
            broken, left = run.broken_stories, run.left
    for name in dict.fromkeys(case.story for case in results.of):
        console.print(table(results.of.values(), name))
    console.print(summary(results))
    code, said = verdict(results, broken, left, given.breaks)
    for each in said:
        console.print(each, style="yellow", markup=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
