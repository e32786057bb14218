"""`make faults`: breaks every call of every story, one at a time, and prints what came of it.

A table calls x faults for each story. A case holds when the fault fired and no invariant of
`invariants` was violated.
"""

import argparse
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed import cluster as testbed_cluster
from testbed.mlflow import MlflowServer
from tests.conftest import with_crds
from tests.faults import harness
from tests.faults.calls import Call
from tests.faults.harness import Outcome
from tests.faults.proxy import Fault, Servers, faults_of
from tests.faults.stories import STORIES
from tests.kubectl import Kubectl

_SIGNS = {"held": "[green]●[/]", "violated": "[red]✘[/]", "did not fire": "[yellow]○[/]"}

console = Console(width=None if sys.stdout.isatty() else 200)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--story", action="append", choices=sorted(STORIES))
    parser.add_argument("--fault", action="append", choices=[fault.name for fault in Fault])
    parser.add_argument("--call", default="", help="only calls with this in their name")
    parser.add_argument("--writes", action="store_true", help="only calls that write")
    parser.add_argument("--cases", type=int, help="so many of each story's, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--mlflow", metavar="URI", help="a server of yours instead of a new one")
    parser.add_argument("--logs", type=Path, help="where the operator's log of a violation goes")
    return parser.parse_args()


@contextlib.contextmanager
def servers(mlflow: str | None = None) -> Iterator[Servers]:
    """Real ones, with no operator."""
    name = "faults"
    cluster = testbed_cluster.up(name=name, size="control")
    with contextlib.ExitStack() as stack:
        stack.callback(testbed_cluster.down, name)
        with_crds(Kubectl(cluster.programs["kubectl"], cluster.kubeconfig))
        uri = mlflow or stack.enter_context(MlflowServer()).uri
        yield Servers.of(cluster.kubeconfig, uri)


def main() -> int:
    given = _arguments()
    total: Counter[str] = Counter()
    with servers(given.mlflow) as real, ThreadPoolExecutor(given.at_once) as pool:
        for name in given.story or STORIES:
            story = STORIES[name]
            recorded = harness.run(real, story)
            if recorded.violations:
                console.print(f"{name}: without any fault: {recorded.violations}\n{recorded.log}")
                total["violated"] += 1
                continue
            cases = [(c, f) for c in points(recorded.calls) for f in faults_of(c)]
            cases = [
                (call, fault)
                for call, fault in cases
                if (call.writes or not given.writes)
                and given.call in str(call)
                and (not given.fault or fault.name in given.fault)
            ]
            if given.cases:
                chosen = random.Random(given.seed)
                cases = chosen.sample(cases, min(given.cases, len(cases)))
            futures = {
                (call, fault): pool.submit(harness.run, real, story, call, fault)
                for call, fault in cases
            }
            outcomes: dict[tuple[Call, Fault], Outcome] = {}
            for case, future in futures.items():
                outcome = outcomes[case] = future.result()
                for violation in outcome.violations:
                    console.print(f"[red]{name}: {case[0]}: {case[1]}: {violation}", markup=True)
                if outcome.violations and given.logs:
                    _keep_log(given.logs, name, len(outcomes), outcome)
            words = Counter(outcome.word for outcome in outcomes.values())
            total += words
            console.print(_table(name, outcomes, words))
    console.print(f"{sum(total.values())} cases: {dict(total)}")
    return 1 if total["violated"] or not total["held"] else 0


def points(calls: tuple[Call, ...]) -> list[Call]:
    """Each write, and of the reads between two writes each kind once."""
    return [call for call in dict.fromkeys(calls) if call.writes or call.nth == 1]


def _table(name: str, outcomes: dict[tuple[Call, Fault], Outcome], words: Counter[str]) -> Table:
    used = [fault for fault in Fault if any(f is fault for _, f in outcomes)]
    table = Table(title=f"{name}: {dict(words)}")
    table.add_column("call", no_wrap=True)
    for fault in used:
        table.add_column(fault.name)
    for call in dict.fromkeys(call for call, _ in outcomes):
        row = [outcomes.get((call, fault)) for fault in used]
        table.add_row(str(call), *(_SIGNS[each.word] if each else "" for each in row))
    return table


def _keep_log(folder: Path, story: str, number: int, outcome: Outcome) -> None:
    folder.mkdir(exist_ok=True)
    text = "\n".join([*outcome.violations, outcome.log])
    (folder / f"{story}-{number}.log").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
