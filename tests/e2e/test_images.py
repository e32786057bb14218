"""Image builds without Docker: what stays between two of them, and what a killed one leaves."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from testbed import images, kind, packages, processes
from testbed.images.base import NAME as PYTHON_IMAGE
from testbed.images.base import provide_base

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the base image only."""
    if os.geteuid() != 0 or kind.docker_answers():
        pytest.skip("buildah is used as root without Docker")
    packages.require(packages.IMAGES, "building images without Docker")
    base = provide_base()
    (tmp_path / "images").mkdir()
    shutil.copy(base, tmp_path / "images")
    monkeypatch.setenv("PODIUM_TESTBED_CACHE", str(tmp_path))
    return tmp_path


def context(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text("\n".join([f"FROM {PYTHON_IMAGE}", *lines, ""]))
    return folder


def layers(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return [name for name in tar.getnames() if name.endswith(".tar")]


def test_a_change_builds_only_the_layers_after_it(cache: Path) -> None:
    slow = "RUN date +%N > /made && sleep 1"
    one = layers(images.build("x:1", context(cache / "context", slow, "RUN echo one > /last")))
    two = layers(images.build("x:1", context(cache / "context", slow, "RUN echo two > /last")))
    assert one[:2] == two[:2]
    assert one[2:] != two[2:]


def test_a_killed_build_leaves_nothing_after_tidy(cache: Path) -> None:
    folder = context(cache / "context", "RUN sleep 300")
    build = [sys.executable, "-m", "testbed", "build-image", "x:1", folder]
    with subprocess.Popen(build) as builder:
        processes.wait_until(lambda: bool(runs_inside(cache)), "sleep runs in the build", 120)
        builder.send_signal(signal.SIGKILL)
    images.tidy()
    assert not runs_inside(cache)
    assert str(cache) not in Path("/proc/self/mountinfo").read_text()
    assert not (cache / "buildah-scratch").exists()
    images.build("x:1", context(folder, "RUN true"))  # and the next build works


def runs_inside(cache: Path) -> list[str]:
    """Commands of the processes that run in an image build of this cache."""
    return [str(each.cmdline()) for each in processes.rooted(cache)]
