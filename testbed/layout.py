"""Where the test bed keeps things on disk. Makes no folder and starts nothing.

The cache (binaries, images, Go) survives `down`; a cluster's own folder does not.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError

SOURCE = Path(__file__).parent
GO_MODULES = SOURCE / "go"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def cache_root() -> Path:
    """The cache folder: PODIUM_TESTBED_CACHE, else ~/.cache/podium-testbed."""
    chosen = os.environ.get("PODIUM_TESTBED_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "podium-testbed"


@dataclass(frozen=True)
class ClusterDir:
    """The folder of one cluster and what lies in it."""

    root: Path

    @classmethod
    def of(cls, name: str) -> "ClusterDir":
        if not _NAME.fullmatch(name):
            raise TestbedError(
                f"cluster name {name!r}: use 1 to 32 of a-z, 0-9 and '-', "
                "starting and ending with a letter or digit"
            )
        return cls(cache_root() / "clusters" / name)

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def lock(self) -> Path:
        """Held by `up` and `down`; beside the folder, so that `down` can delete the folder."""
        return self.root.with_name(f".{self.name}.lock")

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def apiserver_certs(self) -> Path:
        return self.root / "apiserver"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def node(self) -> Path:
        """The kubelet's root, pod logs and CNI state."""
        return self.root / "node"

    @property
    def run(self) -> Path:
        """Sockets and container bundles: short, since a socket's path is at most 107 bytes."""
        return Path("/run/podium-testbed") / self.name


def cluster_names() -> list[str]:
    """Names of the clusters that have a folder, sorted."""
    clusters = cache_root() / "clusters"
    if not clusters.is_dir():
        return []
    return sorted(d.name for d in clusters.iterdir() if d.is_dir())
