"""`make mutations`: changes valid resources, and looks whether each is refused with a sentence or
converges; prints the table, and each failing case as a short story.
"""

import argparse
import asyncio
import contextlib
import queue
import signal
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed import cluster as testbed_cluster
from testbed.mlflow import MlflowServer
from tests.conftest import is_up, with_crds
from tests.faults.arguments import positive
from tests.faults.mutated import cases
from tests.faults.mutated.api import Api
from tests.faults.mutated.changes import MID_ATTEMPT
from tests.faults.mutated.refusals import refuse
from tests.faults.mutated.slot import Slot
from tests.faults.mutated.trial import Case, Result, play
from tests.faults.relay import Servers
from tests.integration.operator.conftest import Registry
from tests.kubectl import Kubectl

SLOTS = 8
MOST_MISSED = 0.05  # of all; the rest says nothing of an attempt's phases
console = Console(width=None if sys.stdout.isatty() else 160)


def run(
    kubeconfig: Path, mlflow: str, wanted: Sequence[Case], folder: Path, slots: int = SLOTS
) -> Iterator[Result]:
    """Plays the cases side by side and gives each result as it comes."""
    api = Api(asyncio.run(Servers.of(kubeconfig, mlflow)))
    with contextlib.suppress(
        urllib.error.HTTPError
    ):  # it is there; many slots would make it at once
        Registry(mlflow).call("POST", "experiments/create", {"name": "podium"})
    accepted = []
    for case, refused in refuse(api, wanted):
        if refused is None:
            accepted.append(case)
        else:
            yield refused
    # Those that can share a scene come one after the other.
    accepted.sort(key=lambda case: (case.moment in MID_ATTEMPT, str(case.base)))
    free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    mark = f"mutated-{time.time_ns() // 10**6:x}"
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(slots) as pool:
        for number in range(min(slots, len(accepted))):
            free.put(stack.enter_context(Slot(api, kubeconfig, folder, f"{mark}-{number}")))

        def one(case: Case) -> Result:
            slot = free.get()
            try:
                return play(slot, mlflow, case)
            finally:
                free.put(slot)

        for done in as_completed([pool.submit(one, case) for case in accepted]):
            yield done.result()


@contextlib.contextmanager
def servers(name: str, mlflow: str | None) -> Iterator[tuple[Path, str]]:
    """A cluster of its own, and MLflow. A cluster that was up before stays up."""
    keep = is_up(name)
    cluster = testbed_cluster.up(name=name, size="control")
    with contextlib.ExitStack() as stack:
        if not keep:
            stack.callback(testbed_cluster.down, name)
        with_crds(Kubectl(cluster.programs["kubectl"], cluster.kubeconfig))
        uri = mlflow or stack.enter_context(MlflowServer()).uri
        yield cluster.kubeconfig, uri


def table(results: Sequence[Result]) -> Table:
    words = ("refused", "held", "missed", "violated")
    shown = Table(title=f"{len(results)} changes")
    shown.add_column("resource, and when")
    for word in (*words, "converged in, s (p50, most)"):
        shown.add_column(word, justify="right")
    rows = sorted({(r.case.kind, r.case.moment) for r in results})
    for row in [*rows, None]:
        of_row = [r for r in results if row in (None, (r.case.kind, r.case.moment))]
        count = Counter(r.word for r in of_row)
        took = sorted(r.converged for r in of_row if r.converged)
        spread = f"{took[len(took) // 2]:.1f}, {took[-1]:.1f}" if took else ""
        title = f"{row[0]} {row[1].value}" if row else "all"
        shown.add_row(title, *(str(count[word] or "") for word in words), spread)
    return shown


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutations", description=__doc__)
    parser.add_argument(
        "-n",
        type=positive,
        default=300,
        help="changes from the schemas; with half as many others",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", default="", help="those with this in their name; of all there are"
    )
    parser.add_argument("--slots", type=positive, default=SLOTS, help="operators at the same time")
    parser.add_argument("--cluster", default="mutated", help="name of the test bed's cluster")
    parser.add_argument("--mlflow", metavar="URI", help="a server of yours instead of a new one")
    parser.add_argument("-v", action="store_true", help="tell each case as it ends")
    return parser.parse_args()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end too
    given = _arguments()
    wanted = cases.chosen(given.n, given.seed)
    if given.only:
        wanted = [c for c in cases.every(given.seed) if given.only in c.name][: given.n]
    results: list[Result] = []
    began = time.monotonic()
    with (
        servers(given.cluster, given.mlflow) as (kubeconfig, uri),
        tempfile.TemporaryDirectory(prefix="podium-mutated-") as folder,
    ):
        for result in run(kubeconfig, uri, wanted, Path(folder), given.slots):
            results.append(result)
            if result.violations:
                console.print(f"\n{result}", markup=False, highlight=False)
            elif given.v:
                line = f"{result.seconds:5.1f} s {result.case.name}: {result.word}: {result.told}"
                console.print(line, markup=False, highlight=False)
    console.print(table(results))
    console.print(f"seed {given.seed}, {time.monotonic() - began:.0f} s")
    missed = sum(result.word == "missed" for result in results)
    return 1 if any(r.violations for r in results) or missed > MOST_MISSED * len(results) else 0


if __name__ == "__main__":
    sys.exit(main())
