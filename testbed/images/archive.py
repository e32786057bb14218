"""Writes a docker-archive: what `docker save` gives and containerd and buildah take."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_archive(archive: Path, name: str, layer: Path, config: Mapping[str, object]) -> None:
    """A docker-archive of one uncompressed layer."""
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    image = {
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "podium testbed"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for member, value in (("config.json", image), ("manifest.json", manifest)):
            encoded = json.dumps(value).encode()
            entry = tarfile.TarInfo(member)
            entry.size = len(encoded)
            tar.addfile(entry, io.BytesIO(encoded))
        tar.add(layer, "layer.tar")


def architecture() -> str:
    """This machine's architecture in the words of container images."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
