"""The images of a real node: what it has, and giving it more."""

import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from testbed import kind
from testbed.errors import TestbedError
from testbed.images.archive import write_archive
from testbed.layout import ClusterDir
from testbed.plan import Size
from testbed.processes import run
from testbed.progress import phase

if TYPE_CHECKING:
    from testbed.cluster import Cluster

PAUSE = "registry.k8s.io/pause:3.10"


def containerd_socket(where: ClusterDir) -> Path:
    return where.run / "containerd.sock"


def load(cluster: "Cluster", archive: Path) -> str:
    """Give a docker-archive to the node, unless it has that very image; gives the image's name.

    Pods use it with `imagePullPolicy: IfNotPresent`.
    """
    name = name_of(archive)
    if cluster.plan.size is Size.KIND:
        kind.load_archive(cluster.name, archive)
        return name
    if cluster.plan.size is not Size.NODE:
        raise TestbedError(
            f"cluster {cluster.name} has size {cluster.plan.size.value}, whose pods run no "
            "images; use --size node"
        )
    exact = f"{name}-{_digest_of(archive)}"
    if exact in present(cluster):
        _ctr(cluster, "images", "tag", "--force", exact, name)
        return name
    with phase(f"Loading image {name}"):
        _ctr(cluster, "images", "import", str(archive), timeout=600)
        _ctr(cluster, "images", "tag", "--force", name, exact)
    return name


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
        _ctr(cluster, "images", "import", str(archive))


def name_of(archive: Path) -> str:
    """The full name that a docker-archive's image will have."""
    tags = _manifest(archive).get("RepoTags")
    if not isinstance(tags, list) or not tags:
        raise TestbedError(f"{archive} names no image; make it with build-image or docker save")
    name = str(tags[0])
    first = name.split("/", 1)[0]
    if "/" not in name:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first else f"docker.io/{name}"


def _digest_of(archive: Path) -> str:
    """The image's own id: the hash of its configuration, which names the archive's entry."""
    return Path(str(_manifest(archive)["Config"])).name.removesuffix(".json")[:12]


def _manifest(archive: Path) -> dict[str, object]:
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            assert member is not None
            first: dict[str, object] = json.load(member)[0]
            return first
    except (OSError, KeyError, ValueError, tarfile.TarError) as failure:
        raise TestbedError(f"{archive} is not a docker-archive: {failure}") from None


def _ctr(cluster: "Cluster", *args: str, timeout: float = 120) -> str:
    socket = containerd_socket(cluster.where)
    argv: list[str | Path] = [
        cluster.programs["ctr"],
        f"--address={socket}",
        "--namespace=k8s.io",
        *args,
    ]
    return run(argv, timeout=timeout)
