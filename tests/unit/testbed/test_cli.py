"""Which cluster `up` acts on, and what the command line says when it cannot."""

from pathlib import Path

import pytest

from testbed import cli, cluster, existing


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODIUM_TESTBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path / "cache"


def test_a_foreign_kubeconfig_is_looked_at_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "theirs"))
    monkeypatch.setattr(existing, "look", lambda path: [f"a real node in {path.name}"])
    monkeypatch.setattr(cluster, "up", lambda *_: pytest.fail("must not make a cluster"))
    assert cli.main(["up"]) == 0
    assert "It lacks: a real node in theirs" in capsys.readouterr().err


def test_our_own_kubeconfig_in_the_environment_still_means_make_or_repair(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cache / "clusters" / "dev" / "kubeconfig"))
    asked: list[object] = []

    class Made:
        kubeconfig = tmp_path

    def up(*args: object) -> Made:
        asked.extend(args[:1])
        return Made()

    monkeypatch.setattr(cluster, "up", up)
    assert cli.main(["up", "--name", "dev"]) == 0
    assert asked == ["dev"]


@pytest.mark.parametrize("command", ["status", "kubeconfig"])
def test_no_such_cluster_says_how_to_make_it(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--name", "nobody"]) == 1
    assert "python -m testbed up --name nobody" in capsys.readouterr().err


def test_down_without_a_cluster_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down", "--name", "nobody"]) == 0
    assert "nothing to remove" in capsys.readouterr().err
