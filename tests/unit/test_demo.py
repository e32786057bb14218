"""What `make demo` says when it cannot begin."""

import os
from pathlib import Path

import pytest

from demo import __main__ as demo
from testbed import kind, processes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODIUM_TESTBED_CACHE", str(tmp_path))
    monkeypatch.delenv("SIMULATE", raising=False)
    return tmp_path


def test_without_root_and_docker_it_offers_simulated_nodes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(kind, "available", lambda: False)
    assert demo.main(["up"]) == 1
    assert "make demo SIMULATE=1" in capsys.readouterr().err


def test_a_second_run_does_not_disturb_the_first(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with processes.locked(cache / "demo.lock"):
        assert demo.main(["up"]) == 1
    assert "runs already" in capsys.readouterr().err


def test_down_without_a_demo_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["down"]) == 0
    assert "no demo to remove" in capsys.readouterr().out
