"""A stand-in for Docker Hub's Python image, made of Debian packages, under the same name.

Used only where no Docker is present. It has Debian's python3.11 where the real image has its
own, so a Dockerfile that uses `python3 -m venv` builds on both.
"""

import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path

from testbed.images.archive import write_archive
from testbed.layout import cache_root
from testbed.processes import locked, run
from testbed.progress import phase

NAME = "docker.io/library/python:3.11-slim-bookworm"
_SUITE = "bookworm"
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
_RECIPE = f"{_SUITE} {_PACKAGES} 1"


def provide_base() -> Path:
    """The docker-archive of the stand-in, from the cache or made now (about a minute)."""
    key = hashlib.sha256(_RECIPE.encode()).hexdigest()[:12]
    archive = cache_root() / "images" / f"base-{key}.tar"
    with locked(archive.with_suffix(".lock")):
        if not archive.exists():
            with phase("Making the base image from Debian packages (about a minute)"):
                _make(archive)
    return archive


def _make(archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        root = Path(scratch) / "root"
        run(
            ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, root],
            timeout=900,
        )
        _look_like_the_python_image(root)
        layer = Path(scratch) / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            tar.add(root, ".", filter=_without_devices)
        fresh = Path(scratch) / "base.tar"
        path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        config = {"Env": [f"PATH={path}", "LANG=C.UTF-8"], "Cmd": ["python3"]}
        write_archive(fresh, NAME, layer, config)
        fresh.replace(archive)


def _look_like_the_python_image(root: Path) -> None:
    for name in ("python", "python3", "python3.11"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
    # The real image's pip installs for the system, too.
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    for folder in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)


def _without_devices(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.isdev() else entry
