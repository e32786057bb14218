"""`make soak`: half an hour of churn with restarts of everything; prints a table, writes JSON."""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed import cluster as testbed_cluster
from testbed.mlflow import MlflowServer
from tests.conftest import with_crds
from tests.faults.soak.soak import Report, Soak, not_flat
from tests.faults.soak.town import Town
from tests.kubectl import Kubectl

console = Console(width=None if sys.stdout.isatty() else 120)


@contextlib.contextmanager
def town(count: int, name: str, folder: Path) -> Iterator[Town]:
    """A cluster and an MLflow of its own, and at the end no operator any more."""
    bed = testbed_cluster.up(name=name, size="control")
    with contextlib.ExitStack() as stack:
        stack.callback(testbed_cluster.down, name)
        with_crds(Kubectl(bed.programs["kubectl"], bed.kubeconfig))
        server = stack.enter_context(MlflowServer())
        made = Town(bed, server, count, folder)
        stack.callback(made.operator.close)
        yield made


def show(report: Report) -> None:
    shown = Table(title=f"{report.seconds / 60:.0f} minutes, {report.promotions} promotions")
    shown.add_column("of the last operator process")
    for name in ("first", "third quarter", "last quarter", "last", "slope an hour"):
        shown.add_column(name, justify="right")
    last = report.last_process
    for name, flat in report.flat.items():
        values = [getattr(each, name) for each in last]
        row = (values[0], flat.before, flat.after, values[-1], flat.slope)
        shown.add_row("RSS, MiB" if name == "rss" else name, *(f"{each:.1f}" for each in row))
    console.print(shown)
    minutes = (last[-1].at - last[0].at) / 60
    lived = ", ".join(f"{name} {rate:.2f}/s" for name, rate in report.rates.items())
    console.print(f"it lived {minutes:.1f} minutes; {lived}")
    console.print(f"deeds {report.deeds}\nskipped {report.skipped}\noutages {report.outages}")
    console.print(
        f"{report.looks} looks, {report.moves} moves of aliases, {report.promoted} promoted"
    )
    console.print(f"phases seen {report.phases}\nreasons seen {report.reasons}")
    console.print(f"all well {report.converged:.0f} s after the last disturbance")
    for each in report.violations:
        console.print(f"VIOLATED {each}", markup=False)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end too
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--promotions", type=int, default=24)
    parser.add_argument("--pace", type=float, default=2.0, help="seconds between two deeds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cluster", default="soak", help="name of the test bed's cluster")
    parser.add_argument("--json", type=Path, default=Path("build/soak.json"))
    parser.add_argument("--log", type=Path, default=Path("build/soak.log"))
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="podium-soak-") as folder,
        town(given.promotions, given.cluster, Path(folder)) as made,
    ):
        soak = Soak(made, given.minutes * 60, given.seed, given.pace)
        report = soak.run(console.print)
        report.violations += not_flat(report)
        given.log.parent.mkdir(parents=True, exist_ok=True)
        given.log.write_bytes(made.operator.log.read_bytes())
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(report.as_json(), indent=1))
    show(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
