"""Builds a Dockerfile into a docker-archive: by Docker where it answers, else by buildah.

The archive is kept in the cache under the hash of all that went in, so that a second build
of the same content is a look into a folder; of other content, layers that did not change stay.
"""

import contextlib
import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from testbed import kind, packages, processes
from testbed.images import base
from testbed.layout import cache_root
from testbed.processes import locked, run
from testbed.progress import phase

_CA = "/run/build-ca.crt"


def build(
    tag: str,
    context: Path,
    dockerfile: Path | None = None,
    build_args: Mapping[str, str] | None = None,
) -> Path:
    """The docker-archive of this context; `tag` is NAME:TAG, without a registry's host."""
    dockerfile = dockerfile or context / "Dockerfile"
    arguments = dict(build_args or {})
    key = content_hash(tag, context, dockerfile, arguments)
    safe = re.sub(r"[^a-z0-9.]+", "-", tag)
    archive = cache_root() / "images" / f"{safe}-{key}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with locked(archive.with_suffix(".lock")):
        if not archive.exists():
            for old in archive.parent.glob(f"{safe}-????????????.tar"):
                old.unlink()
            with phase(f"Building image {tag}"):
                if kind.docker_answers():
                    _by_docker(archive, tag, context, dockerfile, arguments)
                else:
                    packages.require(packages.IMAGES, "building images without Docker")
                    _by_buildah(archive, tag, context, dockerfile, arguments)
    return archive


def content_hash(tag: str, context: Path, dockerfile: Path, build_args: Mapping[str, str]) -> str:
    """Hash of the tag, the Dockerfile, the arguments and every file of the context."""
    digest = hashlib.sha256(f"{tag}\0{sorted(build_args.items())}\0".encode())
    digest.update(dockerfile.read_bytes())
    for path in context_files(context):
        digest.update(f"{path.relative_to(context)}\0{path.stat().st_mode & 0o777}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def context_files(context: Path) -> Iterator[Path]:
    """Files of a context that .dockerignore lets through, sorted.

    Knows the forms that we use: `*`, `!path` and `**/name`.
    """
    ignore = context / ".dockerignore"
    lines = ignore.read_text().split() if ignore.exists() else []
    allowed = [line[1:] for line in lines if line.startswith("!")]
    anywhere = [line[3:] for line in lines if line.startswith("**/")]
    roots = [context / a for a in allowed] if "*" in lines else [context]
    found: set[Path] = set()
    for root in roots:
        found |= {p for p in (root.rglob("*") if root.is_dir() else [root]) if p.is_file()}
    for path in sorted(found):
        parts = path.relative_to(context).parts
        if not any(fnmatch.fnmatch(part, name) for part in parts for name in anywhere):
            yield path


def _by_docker(
    archive: Path, tag: str, context: Path, dockerfile: Path, build_args: Mapping[str, str]
) -> None:
    run(
        ["docker", "build", "-f", dockerfile, "-t", tag, *_flags(build_args), context], timeout=1800
    )
    fresh = archive.with_suffix(".new")
    run(["docker", "save", "-o", fresh, tag], timeout=600)
    fresh.replace(archive)


def tidy() -> None:
    """Give back what a build that was killed left: processes, containers, mounts, files."""
    if not _store().exists():
        return
    # Held: somebody builds, and tidies up by himself.
    with contextlib.suppress(BlockingIOError), locked(_build_lock(), _raise_blocked):
        _tidy()


def _by_buildah(
    archive: Path, tag: str, context: Path, dockerfile: Path, build_args: Mapping[str, str]
) -> None:
    standing_in = base.provide_base()
    name = f"localhost/{tag}"
    with locked(_build_lock()):
        _tidy()
        _scratch().mkdir(parents=True)
        _stand_in(standing_in)
        _buildah(
            "build", "--layers", "--isolation", "chroot", "--pull-never", "--network", "host",
            *_trust(_scratch()), *_flags(build_args), "-f", dockerfile, "-t", name, context,
            timeout=1800,
        )  # fmt: skip
        fresh = archive.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        _buildah("push", name, f"docker-archive:{fresh}:docker.io/library/{tag}", timeout=900)
        fresh.replace(archive)
        # The image stays, so that the next build takes up its layers; what it replaced goes.
        _buildah("rmi", "--prune")
        shutil.rmtree(_scratch())


def _buildah(*words: str | Path, timeout: float = 300) -> str:
    """buildah on a store of its own; it ends with who started it, also with a `kill -9`."""
    argv: list[str | Path] = ["env", f"TMPDIR={_scratch()}", "setpriv", "--pdeathsig", "KILL"]
    argv += [
        "buildah",
        "--root",
        _store(),
        "--runroot",
        _scratch() / "run",
        "--storage-driver",
        "overlay",
    ]
    return run([*argv, *words], timeout=timeout)


def _store() -> Path:
    return cache_root() / "buildah"


def _scratch() -> Path:
    return cache_root() / "buildah-scratch"


def _build_lock() -> Path:
    return cache_root() / "images" / ".buildah.lock"


def _raise_blocked() -> None:
    raise BlockingIOError


def _tidy() -> None:
    if _scratch().exists():
        processes.end(processes.rooted(_scratch()), grace=0)
        _buildah("rm", "--all")
        shutil.rmtree(_scratch())


def _stand_in(archive: Path) -> None:
    """Give the base image its name in buildah's store, unless it is there from this archive."""
    exact = f"localhost/{archive.stem}"
    known = _buildah("images", "--format", "{{.Name}}")
    if exact not in known:
        image = _buildah("pull", "-q", f"docker-archive:{archive}").strip()
        _buildah("tag", image.splitlines()[-1], exact, base.NAME)


def _trust(scratch: Path) -> list[str]:
    """Let pip inside the build trust what pip outside trusts; nothing of it stays in the image."""
    given = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    lines = ["[global]", "disable-pip-version-check = true", "retries = 10"]
    mounts = []
    if given and Path(given).is_file():
        lines.append(f"cert = {_CA}")
        mounts += ["-v", f"{Path(given).resolve()}:{_CA}:ro"]
    if os.environ.get("PIP_INDEX_URL"):
        lines.append(f"index-url = {os.environ['PIP_INDEX_URL']}")
    settings = scratch / "pip.conf"
    settings.write_text("\n".join(lines) + "\n")
    return [*mounts, "-v", f"{settings}:/etc/pip.conf:ro"]


def _flags(build_args: Mapping[str, str]) -> list[str]:
    return [
        word for name, value in build_args.items() for word in ("--build-arg", f"{name}={value}")
    ]
