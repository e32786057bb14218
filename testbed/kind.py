"""kind, where Docker is present: the same commands, other hands.

Only command lines; kind itself makes the cluster.
"""

import shutil
from pathlib import Path

from testbed.errors import TestbedError
from testbed.processes import run


def docker_answers() -> bool:
    """A `docker` command without a daemon is no Docker."""
    if not shutil.which("docker"):
        return False
    try:
        run(["docker", "info"], timeout=20)
    except TestbedError:
        return False
    return True


def available() -> bool:
    return shutil.which("kind") is not None and docker_answers()


def require() -> None:
    if not available():
        raise TestbedError(
            "--kind needs Docker (`docker info` must succeed) and kind on PATH; "
            "without them: --size node (root on Linux) or --size control"
        )


def create(name: str, kubeconfig: Path) -> None:
    """Make the cluster unless it is there; write its kubeconfig either way."""
    if name in names():
        run(["kind", "export", "kubeconfig", "--name", name, "--kubeconfig", kubeconfig])
        return
    run(
        ["kind", "create", "cluster", "--name", name, "--kubeconfig", kubeconfig, "--wait", "180s"],
        timeout=900,
    )


def delete(name: str) -> None:
    run(["kind", "delete", "cluster", "--name", name], timeout=300)


def names() -> list[str]:
    return run(["kind", "get", "clusters"]).split()


def load_archive(name: str, archive: Path) -> None:
    run(["kind", "load", "image-archive", archive, "--name", name], timeout=900)
