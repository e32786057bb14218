"""What `down` takes for its own, and what it must leave to others."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from testbed import machine, processes
from testbed.layout import ClusterDir
from testbed.processes import MARK, Component

FOREIGN = [
    "*filter",
    ":INPUT ACCEPT [0:0]",
    ":DOCKER - [0:0]",
    "-A FORWARD -i eth0 -j DOCKER",
    "COMMIT",
]
OURS = [
    ":KUBE-SERVICES - [0:0]",
    "-A PREROUTING -m comment --comment kubernetes -j KUBE-SERVICES",
    ":CNI-HOSTPORT-DNAT - [0:0]",
    "-A FORWARD -i podium0 -m comment --comment podium-testbed -j REJECT",
]


def test_only_our_forwarding_rules_go(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[str | None] = []
    monkeypatch.setattr(
        machine, "_rules", lambda family="iptables": [*FOREIGN[:4], *OURS, "COMMIT"]
    )
    monkeypatch.setattr(machine, "run", lambda argv, stdin=None, **_: restored.append(stdin))
    machine._remove_rules()
    assert restored == ["\n".join(FOREIGN) + "\n"] * 2


def test_foreign_rules_alone_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_rules", lambda family="iptables": FOREIGN)
    monkeypatch.setattr(machine, "run", lambda *a, **k: pytest.fail("nothing to restore"))
    machine._remove_rules()


@pytest.fixture
def where(tmp_path: Path) -> ClusterDir:
    folder = ClusterDir(tmp_path / "clusters" / "unit")
    folder.root.mkdir(parents=True)
    return folder


def sleeper(name: str = "sleeper") -> Component:
    argv = (sys.executable, "-c", "import time; time.sleep(60)")
    return Component(name, argv, "", lambda: True, {})


def test_a_component_is_found_and_ended(where: ClusterDir) -> None:
    processes.start(where, sleeper())
    found = processes.find(where, "sleeper")
    assert found is not None
    assert os.getsid(found.pid) == found.pid  # it outlives the terminal of who started it
    processes.end([found], grace=0)
    assert processes.find(where, "sleeper") is None


def test_a_pid_that_somebody_else_has_by_now_is_not_ours(where: ClusterDir) -> None:
    where.pids.mkdir()
    mine = psutil.Process()
    stale = f'{{"pid": {mine.pid}, "ticks": {processes.started(mine.pid) - 100}}}'
    (where.pids / "etcd.json").write_text(stale)
    assert processes.find(where, "etcd") is None


def test_a_program_whose_record_was_lost_is_found_by_its_mark(where: ClusterDir) -> None:
    processes.start(where, sleeper())
    (where.pids / "sleeper.json").unlink()
    # For an instant after exec the kernel shows a new program without its environment.
    processes.wait_until(lambda: bool(processes.marked(where)), "marked", within=5)
    marked = processes.marked(where)
    assert [p.environ()[MARK] for p in marked] == [str(where.root)]
    processes.end(marked, grace=0)
    assert processes.marked(where) == []


def test_processes_of_another_cluster_are_left_alone(where: ClusterDir) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={**os.environ, MARK: str(where.root) + "-other"},
    )
    try:
        assert processes.marked(where) == []
    finally:
        other.kill()
        other.wait()
