"""`python -m demo up|down`: shows everything, or removes everything."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from testbed import cluster as clusters
from testbed import images, kind, processes
from testbed.errors import TestbedError
from testbed.layout import cache_root
from testbed.plan import Size

if TYPE_CHECKING:
    from demo.models import Laboratory

REAL, SIMULATED = "demo", "demo-simulated"  # the test bed's clusters


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 every claim held, 1 one did not or something failed."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument(
        "--simulate",
        action="store_true",
        default=os.environ.get("SIMULATE", "") not in ("", "0"),
        help="simulated nodes: no root, no Docker, no predictions",
    )
    arguments = parser.parse_args(argv)
    try:
        return _up(arguments.simulate) if arguments.command == "up" else _down()
    except TestbedError as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted. make demo starts over; make demo-down removes everything.")
        return 130


def _down() -> int:
    images.tidy()
    removed = [clusters.down(name) for name in (REAL, SIMULATED)]
    if not any(removed):
        print("There is no demo to remove.")
    return 0


def _up(simulate: bool) -> int:
    def refuse() -> None:
        raise TestbedError("make demo runs already; let it end, or interrupt it")

    # A second run would remove what the first is showing.
    with processes.locked(cache_root() / "demo.lock", refuse):
        return _show(simulate)


def _show(simulate: bool) -> int:
    from demo.timeline import ClaimError, Timeline

    timeline = Timeline()
    size = _size(simulate)
    if size is None:
        print(
            "demo: real pods need root on Linux, or Docker with kind; here is neither.\n"
            "Without them, on simulated nodes and without predictions: make demo SIMULATE=1",
            file=sys.stderr,
        )
        return 1
    timeline.act({
        Size.CONTROL: "a Kubernetes with simulated nodes; MLflow and Podium beside it",
        Size.KIND: "a Kubernetes made by kind; MLflow and Podium in it",
        Size.NODE: "a Kubernetes with one real node, this machine; MLflow and Podium in it",
    }[size])  # fmt: skip
    from demo.stage import RealStage, Stage

    stage: Stage
    if size is Size.CONTROL:
        from demo.simulated import SimulatedStage

        stage = SimulatedStage(SIMULATED)
    else:
        stage = RealStage(REAL, size)
    with ThreadPoolExecutor(1) as beside:
        being_prepared = beside.submit(_laboratory)
        stage.build()
        laboratory = being_prepared.result()
    laboratory.connect(stage.mlflow_uri)
    timeline.tell(f"MLflow is ready at {stage.mlflow_uri}, and so is podium-operator")
    from demo.story import Story, closing

    story = Story(stage, laboratory, timeline)
    try:
        story.tell()
    except ClaimError as failure:
        print(f"\n{stage.explain()}", file=sys.stderr)
        print(f"\ndemo: {failure}", file=sys.stderr)
        return 1
    closing(story, str(stage.cluster.kubeconfig))
    timeline.plain(f"\nAll {timeline.claims} claims held, in {timeline.elapsed:.0f} s.")
    return 0


def _size(simulate: bool) -> Size | None:
    """How much can be real here; None when nothing can that was asked for."""
    if simulate:
        return Size.CONTROL
    if kind.available():
        return Size.KIND
    return Size.NODE if sys.platform == "linux" and os.geteuid() == 0 else None


def _laboratory() -> "Laboratory":
    """Seconds of imports and training, for which the cluster need not wait."""
    from demo.models import Laboratory

    return Laboratory()


if __name__ == "__main__":
    sys.exit(main())
