"""Docker and kind: which command lines they get. Both are stand-ins that write them down."""

from pathlib import Path

import pytest

from testbed import cluster, images, kind
from testbed.errors import TestbedError


def stand_in(folder: Path, name: str, body: str) -> None:
    script = folder / name
    script.write_text(f'#!/bin/sh\necho "{name} $@" >> {folder}/said\n{body}\n')
    script.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PODIUM_TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def said(path: Path) -> list[str]:
    return (path / "said").read_text().splitlines()


def test_a_docker_command_without_a_daemon_is_no_docker(path: Path) -> None:
    stand_in(path, "docker", "echo cannot connect >&2; exit 1")
    stand_in(path, "kind", "")
    assert not kind.available()
    with pytest.raises(TestbedError, match="docker info"):
        kind.require()


def test_docker_that_answers_and_kind_are_enough(path: Path) -> None:
    stand_in(path, "docker", "exit 0")
    stand_in(path, "kind", "")
    kind.require()
    assert said(path) == ["docker info"]


def test_a_cluster_is_made_once(path: Path) -> None:
    stand_in(path, "kind", '[ "$1 $2" = "get clusters" ] && cat "$0.clusters" 2>/dev/null; exit 0')
    kubeconfig = path / "kubeconfig"
    kind.create("bed", kubeconfig)
    (path / "kind.clusters").write_text("bed\n")
    kind.create("bed", kubeconfig)
    kind.load_archive("bed", path / "x.tar")
    kind.delete("bed")
    assert said(path) == [
        "kind get clusters",
        f"kind create cluster --name bed --kubeconfig {kubeconfig} --wait 180s",
        "kind get clusters",
        f"kind export kubeconfig --name bed --kubeconfig {kubeconfig}",
        f"kind load image-archive {path / 'x.tar'} --name bed",
        "kind delete cluster --name bed",
    ]


def test_what_kind_says_when_it_fails_reaches_the_person(path: Path) -> None:
    stand_in(path, "kind", "echo no room left >&2; exit 3")
    with pytest.raises(TestbedError, match="no room left"):
        kind.delete("bed")


def test_up_and_down_leave_the_cluster_to_kind_and_build_nothing(path: Path) -> None:
    stand_in(path, "docker", "exit 0")
    stand_in(path, "kubectl", "echo Client Version: v1.36.3")
    stand_in(path, "kind", "exit 0")
    made = cluster.up("bed", "kind")
    assert made.programs == {"kubectl": path / "kubectl"}
    assert cluster.find("bed") == made
    assert cluster.down("bed")
    assert [line for line in said(path) if not line.startswith("kubectl version")] == [
        "docker info",
        "kind get clusters",
        f"kind create cluster --name bed --kubeconfig {made.kubeconfig} --wait 180s",
        "kind delete cluster --name bed",
    ]


def test_docker_builds_an_image_once(path: Path) -> None:
    stand_in(path, "docker", '[ "$1" = save ] && echo image > "$3"; exit 0')
    context = path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    archive = images.build("x:1", context, build_args={"A": "1"})
    assert images.build("x:1", context, build_args={"A": "1"}) == archive
    assert archive.read_text() == "image\n"
    flags = f"-f {context / 'Dockerfile'} -t x:1 --build-arg A=1"
    assert said(path) == [
        "docker info",
        f"docker build {flags} {context}",
        f"docker save -o {archive.with_suffix('.new')} x:1",
    ]
