"""Container images without a registry: building them and handing them to the node."""

import io
import json
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.layout import ClusterDir
from testbed.processes import run

if TYPE_CHECKING:
    from testbed.cluster import Cluster

PAUSE = "registry.k8s.io/pause:3.10"


def containerd_socket(where: ClusterDir) -> Path:
    return where.run / "containerd.sock"


def present(cluster: "Cluster") -> set[str]:
    """Names of the images that the node has."""
    return set(_ctr(cluster, "images", "ls", "-q").split())


def provide_pause(cluster: "Cluster") -> None:
    """The image of every pod's first container, made of one static binary."""
    if PAUSE in present(cluster):
        return
    with tempfile.TemporaryDirectory() as folder:
        layer = Path(folder) / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            tar.add(cluster.programs["pause"], "pause")
        archive = Path(folder) / "pause.tar"
        write_archive(archive, PAUSE, layer, {"Entrypoint": ["/pause"], "User": "65535:65535"})
        import_archive(cluster, archive)


def import_archive(cluster: "Cluster", archive: Path) -> None:
    """Give a docker-archive to the node's containerd."""
    _ctr(cluster, "images", "import", str(archive), timeout=600)


def write_archive(
    archive: Path, name: str, layer: Path, config: Mapping[str, object]
) -> None:
    """A docker-archive of one uncompressed layer."""
    digest = run(["sha256sum", layer]).split()[0]
    image = {
        "architecture": _architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "podium testbed"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for member, content in (("config.json", image), ("manifest.json", manifest)):
            encoded = json.dumps(content).encode()
            entry = tarfile.TarInfo(member)
            entry.size = len(encoded)
            tar.addfile(entry, io.BytesIO(encoded))
        tar.add(layer, "layer.tar")


def _architecture() -> str:
    machine = run(["uname", "-m"]).strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _ctr(cluster: "Cluster", *args: str, timeout: float = 120) -> str:
    socket = containerd_socket(cluster.where)
    argv = [cluster.programs["ctr"], f"--address={socket}", "--namespace=k8s.io", *args]
    return run(argv, timeout=timeout)
