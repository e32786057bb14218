"""The command line: `python -m testbed up|down|status|kubeconfig|build-image|load-image`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed import cluster, existing, images, layout
from testbed.errors import TestbedError
from testbed.plan import Size
from testbed.progress import say


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed or not healthy, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except TestbedError as failure:
        say(f"testbed: {failure}")
        return 1
    except KeyboardInterrupt:
        say("testbed: interrupted; run `up` again to carry on, or `down` to remove everything")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--name", default="default", help="which cluster (default: default)")
        sub.set_defaults(command=command)
        return sub

    up = add("up", _up, "make a cluster, or repair it; repeatable")
    up.add_argument("--size", choices=[s.value for s in Size], default=Size.CONTROL.value)
    up.add_argument("--kind", action="store_true", help="let kind make it (needs Docker)")
    up.add_argument("--nodes", type=int, default=2, help="simulated nodes (size control)")
    add("down", _down, "remove a cluster and every trace of it; caches stay")
    add("status", _status, "show each component; exits 0 only when all are healthy")
    add("kubeconfig", _kubeconfig, "print the path of the administrator's kubeconfig")
    build = add("build-image", _build_image, "build a Dockerfile; print the archive's path")
    build.add_argument("tag", metavar="NAME:TAG")
    build.add_argument("context", type=Path)
    build.add_argument("--file", type=Path, help="Dockerfile (default: CONTEXT/Dockerfile)")
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    load = add("load-image", _load_image, "give an archive to the node; print the image's name")
    load.add_argument("archive", type=Path)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    given = os.environ.get("KUBECONFIG", "")
    # One of our own was exported by who followed `up`'s last line: that is no foreign cluster.
    ours = Path(given).is_relative_to(layout.cache_root()) if given else True
    if not ours and not arguments.kind:
        return _use_given(Path(given))
    size = Size.KIND if arguments.kind else Size(arguments.size)
    made = cluster.up(arguments.name, size, arguments.nodes)
    say(f"Ready: export KUBECONFIG={made.kubeconfig}")
    return 0


def _use_given(kubeconfig: Path) -> int:
    lacks = existing.look(kubeconfig)
    say(f"KUBECONFIG is set: using the cluster of {kubeconfig} (unset it to make one here).")
    for lack in lacks:
        say(f"  It lacks: {lack}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    if not cluster.down(arguments.name):
        say(f"No cluster {arguments.name}: nothing to remove.")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    health = cluster.find(arguments.name).health()
    table = Table("component", "pid", "health", "address", box=None)
    for each in health:
        word = "healthy" if each.healthy else "DOWN" if each.pid is None else "UNHEALTHY"
        table.add_row(each.component, str(each.pid or "-"), word, each.address or "-")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0 if all(each.healthy for each in health) else 1


def _build_image(arguments: argparse.Namespace) -> int:
    pairs = [word.partition("=") for word in arguments.build_arg]
    build_args = {name: value for name, _, value in pairs}
    print(images.build(arguments.tag, arguments.context, arguments.file, build_args))
    return 0


def _load_image(arguments: argparse.Namespace) -> int:
    print(images.load(cluster.find(arguments.name), arguments.archive))
    return 0


def _kubeconfig(arguments: argparse.Namespace) -> int:
    path = layout.ClusterDir.of(arguments.name).kubeconfig
    if not path.exists():
        raise TestbedError(
            f"no cluster {arguments.name!r}; make it with: "
            f"python -m testbed up --name {arguments.name}"
        )
    print(path)
    return 0
