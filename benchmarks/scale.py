"""Podium with a thousand, or ten thousand, promotions: `python -m benchmarks.scale 10000`.

Real: the API server and its controllers, etcd, MLflow, PostgreSQL, the operator's process and its
permissions. Simulated: nodes and pods. What is filled in directly, because it is not what is
measured: the models and their versions, as rows of MLflow's tables. How each figure is obtained
is told in docs/performance.md.
"""

import argparse
import asyncio
import contextlib
import datetime
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from rich.console import Console

from benchmarks import measures, population
from benchmarks.bed import Bed, bed
from benchmarks.measures import Run
from benchmarks.raw import raw_writes
from benchmarks.report import Report
from benchmarks.usage import load, machine
from benchmarks.watching import Watching

# No limit of rollouts: it would be the answer to how fast a thousand promotions go.
FLAGS = ("--max-rollouts=0", "--log-level=warning")
_console = Console(stderr=True)


async def _one_by_one(given: argparse.Namespace, shared: Run) -> None:
    await measures.latency(shared, given.changes, given.spread)
    await shared.calm()


async def _at_once(given: argparse.Namespace, shared: Run) -> None:
    await measures.at_once(shared)
    await shared.calm()


# In the order in which they are to be taken: each finds what the one before has left.
PARTS: dict[str, Callable[[argparse.Namespace, Run], Awaitable[None]]] = {
    "first-start": lambda given, shared: measures.bring_up(shared, given.within),
    "at-rest": lambda given, shared: measures.at_rest(shared, given.rest),
    "restart": lambda given, shared: measures.restart(shared),
    "one-by-one": _one_by_one,
    "at-once": _at_once,
    "with-pods": lambda given, shared: measures.rollouts(shared),
    "bare-writes": lambda given, shared: raw_writes(shared),
}


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    began, before = time.monotonic(), load()
    _console.print(f"{what} ... (load average {before:g})")
    yield
    _console.print(f"{what}: {time.monotonic() - began:.0f} s")


def settings(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("promotions", type=int, nargs="?", default=1000)
    parser.add_argument("--rolling", type=int, default=50, help="more, whose Deployments have pods")
    parser.add_argument("--namespaces", type=int, default=10, help="and ModelRegistries")
    parser.add_argument("--rest", type=float, default=300.0, help="seconds to watch it at rest")
    parser.add_argument("--changes", type=int, default=200, help="of each kind, one by one")
    parser.add_argument("--spread", type=float, default=400.0, help="seconds over which they come")
    parser.add_argument("--within", type=float, default=3600.0, help="seconds for the first start")
    parser.add_argument("--poll", type=float, default=15.0, help="pollInterval in seconds")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="which measures, of: " + ", ".join(PARTS)
    )
    parser.add_argument("--name", default="scale", help="of the test bed's cluster")
    parser.add_argument("--folder", type=Path, help="where the operator's log is kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    return parser.parse_args(arguments)


def begun(given: argparse.Namespace) -> Report:
    """A report without figures yet."""
    report = Report(
        machine=machine(),
        settings={
            "promotions": given.promotions,
            "with pods": given.rolling,
            "namespaces": given.namespaces,
            "versions each": population.FIRST_VERSIONS,
            "pollInterval": f"{given.poll:g}s",
            "operator": " ".join(FLAGS),
        },
    )
    report.details["began"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    report.details["load average at the start"] = load()
    return report


def run(given: argparse.Namespace, report: Report) -> None:
    """All measures. Adds figures as they come, and judges none."""
    folder = given.folder or Path(tempfile.mkdtemp(prefix="podium-scale-"))
    with bed(given.name, folder, FLAGS) as up:
        asyncio.run(_measure(given, up, report))


async def _measure(given: argparse.Namespace, up: Bed, report: Report) -> None:
    people = population.members(given.promotions, given.rolling, given.namespaces)
    registry = population.Registry(up.database)
    try:
        async with up.admin() as kube:
            with _told("filling MLflow and Kubernetes"):
                await asyncio.to_thread(registry.fill, people)
                await population.fill_kubernetes(kube, people, up.mlflow.uri, given.poll)
            async with Watching(kube) as watching:
                shared = Run(up, people, registry, kube, watching, report, given.poll)
                await _parts(given, shared)
    finally:
        registry.close()


async def _parts(given: argparse.Namespace, shared: Run) -> None:
    for name in given.parts.split(","):
        with _told(name):
            await PARTS[name](given, shared)
    shared.report.details["load average at the end"] = load()


def main() -> None:
    # Ended from outside, it still takes down what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = settings()
    report = begun(given)
    try:
        run(given, report)
    finally:  # what was measured before something went wrong is worth seeing
        report.print(Console())
        if given.json:
            report.write(given.json)


if __name__ == "__main__":
    main()
