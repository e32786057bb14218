"""`make failovers`: failovers while promotions are under way, and a table of how long they took.

Several pairs of operators run at once, each in a namespace of its own. Ends with 1 when anybody
but the holder of the Lease wrote, when a late commit was not found within a poll, not repaired or
not at once, or when a failover took longer than the target.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed import cluster as testbed_cluster
from testbed.mlflow import MlflowServer
from tests.conftest import with_crds
from tests.faults.arguments import positive
from tests.faults.failover import TARGET_SECONDS, Failover, Kind, Plan, Result, plan, run
from tests.faults.harness import NOTICED_SECONDS
from tests.faults.relay import Servers
from tests.kubectl import Kubectl

REPAIRED_SECONDS = NOTICED_SECONDS + 3.0  # found, and a few writes; a rollout takes its time
ROLLS_OUT = ("registered-models/alias", "deployments")

console = Console(width=None if sys.stdout.isatty() else 160)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make failovers", description=__doc__)
    parser.add_argument("-n", "--number", type=positive, default=100, help="how many failovers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=positive, default=3, help="operators at once, by two")
    parser.add_argument("--cluster", default="failover", help="name of the test bed's cluster")
    parser.add_argument("--json", type=Path, help="where each failover is written down")
    return parser.parse_args()


def plans(number: int, seed: int) -> list[Plan]:
    """As many of each kind, in an order drawn by the seed."""
    rng = random.Random(seed)
    kinds = [list(Kind)[n % len(Kind)] for n in range(number)]
    rng.shuffle(kinds)
    return [plan(kind, rng) for kind in kinds]


@contextlib.contextmanager
def _servers(name: str) -> Iterator[tuple[Path, str]]:
    cluster = testbed_cluster.up(name=name, size="control")
    try:
        with_crds(Kubectl(cluster.programs["kubectl"], cluster.kubeconfig))
        with MlflowServer() as mlflow:
            yield cluster.kubeconfig, mlflow.uri
    finally:
        testbed_cluster.down(name)


async def run_pairs(real: Servers, chosen: list[Plan], pairs: int, seed: int) -> list[Result]:
    """The plans dealt out to so many pairs."""
    dealt = [chosen[n::pairs] for n in range(pairs)]
    return await asyncio.gather(*(run(real, each, seed + n, _tell) for n, each in enumerate(dealt)))


def _tell(done: Failover) -> None:
    seconds = (("has the Lease", done.taken), ("works", done.read), ("writes", done.wrote))
    times = ", ".join(f"{does} after {at:.1f} s" for does, at in seconds if at is not None)
    console.print(f"{done.plan} at {done.at_write}: {times}", markup=False)


def wrong(results: Sequence[Result]) -> list[str]:
    """Everything that must not be."""
    found = [violation for result in results for violation in result.violations]
    for each in _all(results):
        found += [f"{each.plan} at {each.at_write}: {said}" for said in each.violations]
        if each.read is not None and each.read > TARGET_SECONDS:
            found.append(f"{each.plan}: took {each.read:.1f} s")
        if each.found is not None and each.found > NOTICED_SECONDS:
            late = f"{each.late} was found after {each.found:.1f} s"
            found.append(f"{each.plan}: I7: {late}, not within {NOTICED_SECONDS} s")
        rolls_out = any(what in sent for sent in each.late for what in ROLLS_OUT)
        if each.repaired is not None and each.repaired > REPAIRED_SECONDS and not rolls_out:
            late = f"{each.late} was repaired after {each.repaired:.1f} s"
            found.append(f"{each.plan}: I7: {late}, not within {REPAIRED_SECONDS} s")
    return found


def _all(results: Sequence[Result]) -> list[Failover]:
    return [each for result in results for each in result.failovers]


def tables(results: Sequence[Result]) -> list[Table]:
    times = Table(title="Seconds from the fault until the next leader")
    for column in ("fault", "n", "does", "min", "p50", "p99", "max"):
        times.add_column(column, justify="left" if column in ("fault", "does") else "right")
    for kind in (*Kind, None):
        chosen = [each for each in _all(results) if kind in (None, each.plan.kind)]
        for does, what in (("has the Lease", "taken"), ("works", "read"), ("writes", "wrote")):
            values = sorted(v for each in chosen if (v := getattr(each, what)) is not None)
            if values:
                times.add_row(kind or "all", str(len(values)), does, *_spread(values))
    late = Table(title="Commits that the network delayed past the Lease of their sender")
    columns = ("what", "n", "refused", "while the next worked", "no harm", "repaired")
    for column in (*columns, "found max", "repaired max"):
        late.add_column(column, justify="left" if column == "what" else "right")
    by_what: dict[str, list[Failover]] = {}
    for each in _all(results):
        if each.late:
            by_what.setdefault(_kind_of(each.late[0]), []).append(each)
    for what, chosen in sorted(by_what.items()):
        refused = [e for e in chosen if not e.harmed and not any(": 2" in s for s in e.late)]
        harmed = [e for e in chosen if e.harmed]
        worked = [e for e in chosen if not e.timed and e not in refused]
        late.add_row(
            what,
            str(len(chosen)),
            str(len(refused)),
            str(len(worked)),
            str(len(chosen) - len(refused) - len(worked) - len(harmed)),
            str(len(harmed)),
            _most([e.found for e in harmed]),
            _most([e.repaired for e in harmed]),
        )
    return [times, late]


def _spread(values: Sequence[float]) -> list[str]:
    last = len(values) - 1
    p99 = values[min(last, round(0.99 * last))]
    chosen = (values[0], statistics.median(values), p99, values[-1])
    return [f"{value:.1f}" for value in chosen]


def _most(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):.1f} s" if known else ""


def _kind_of(late: str) -> str:
    """The kind of write, without versions and numbers."""
    words = late.rpartition(":")[0].split()
    return " ".join(word for word in words[:2]) + (
        " " + "/".join(words[-1].split("/")[:2]) if words[-1].startswith("podium.dev") else ""
    )


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end too
    given = _arguments()
    chosen = plans(given.number, given.seed)
    with _servers(given.cluster) as (kubeconfig, mlflow):

        async def work() -> list[Result]:
            real = await Servers.of(kubeconfig, mlflow)
            return await run_pairs(real, chosen, given.pairs, given.seed)

        results = asyncio.run(work())
    for table in tables(results):
        console.print(table)
    found = wrong(results)
    for each in found:
        console.print(f"[red]{each}", markup=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in _all(results)], indent=1))
    done, writes = len(_all(results)), sum(result.writes for result in results)
    console.print(f"{done} failovers, {writes} writes judged, {len(found)} violations")
    return 1 if found or done < given.number else 0


if __name__ == "__main__":
    sys.exit(main())
