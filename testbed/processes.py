"""Starts, finds and ends the programs of a cluster, and never a program of somebody else.

A program is ours when its pid and start time match what was written down at its start, or
when its environment carries the cluster's mark: that finds those whose record was lost to a
`kill -9`, and what they started themselves (containerd's shims).
"""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from testbed.errors import TestbedError
from testbed.layout import ClusterDir

MARK = "PODIUM_TESTBED_CLUSTER"


@dataclass(frozen=True)
class Component:
    """One program of a cluster: how it is started and how it is known to be well."""

    name: str
    argv: tuple[str, ...]
    address: str
    healthy: Callable[[], bool]
    env: Mapping[str, str]
    ready_within: float = 60.0  # seconds


def run(argv: Sequence[str | Path], *, stdin: str | None = None, timeout: float = 120) -> str:
    """Run a program to its end and give its output; its error output is in the exception."""
    words = [str(a) for a in argv]
    try:
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        raise TestbedError(f"{words[0]}: not found; is its package installed?") from None
    except subprocess.TimeoutExpired:
        raise TestbedError(f"{' '.join(words[:4])}: no end within {timeout:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise TestbedError(f"{' '.join(words[:6])} ended with {done.returncode}: {said}")
    return done.stdout


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a file lock; the kernel drops it however this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def start(where: ClusterDir, component: Component) -> None:
    """Start a component in a session of its own, so that it outlives whoever started it."""
    where.logs.mkdir(parents=True, exist_ok=True)
    where.pids.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, **component.env, MARK: str(where.root)}
    with (where.logs / f"{component.name}.log").open("ab") as log:
        child = subprocess.Popen(
            component.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
            cwd=where.root,
        )
    with contextlib.suppress(psutil.NoSuchProcess):
        record = {"pid": child.pid, "ticks": started(child.pid)}
        _write_atomically(where.pids / f"{component.name}.json", json.dumps(record))


def find(where: ClusterDir, name: str) -> psutil.Process | None:
    """The running process of a component, or None."""
    try:
        record = json.loads((where.pids / f"{name}.json").read_text())
        process = psutil.Process(record["pid"])
        if started(process.pid) == record["ticks"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (FileNotFoundError, ValueError, KeyError, psutil.Error):
        pass
    return None


def started(pid: int) -> float:
    """When a process started, in a unit that never changes while it runs.

    On Linux: clock ticks since boot. `create_time` there adds the boot time, which the kernel
    computes anew from an adjusted clock: it was seen to jump, and a live component to be
    taken for a foreign one.
    """
    with contextlib.suppress(FileNotFoundError):
        # The second field is the program's name in parentheses and may hold spaces.
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return float(psutil.Process(pid).create_time())


def marked(where: ClusterDir) -> list[psutil.Process]:
    """Every process whose environment carries this cluster's mark."""
    ours = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(where.root):
                ours.append(process)
    return ours


def rooted(folder: Path) -> list[psutil.Process]:
    """Every process whose root directory lies in this folder: what runs in an image build."""
    inside = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process.pid}/root").readlink().is_relative_to(folder):
                inside.append(process)
    return inside


def end(processes: Iterable[psutil.Process], grace: float = 10.0) -> None:
    """Ask processes to end, then make them (grace 0: at once); return when all are gone."""
    alive = list(processes)
    if grace > 0:
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(alive, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(alive, timeout=10)
    if alive:
        raise TestbedError(f"processes {[p.pid for p in alive]} do not end, even when killed")


def wait_until(
    check: Callable[[], bool], what: str, within: float, hint: Callable[[], str] = str
) -> None:
    """Poll until `check` holds; `hint` adds to the error what may explain the delay."""
    deadline = time.monotonic() + within
    pause = 0.05
    while not check():
        if time.monotonic() > deadline:
            raise TestbedError(f"{what}: not so after {within:.0f} s. {hint()}".rstrip())
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def log_tail(where: ClusterDir, name: str, lines: int = 15) -> str:
    """The end of a component's log, for an error message."""
    path = where.logs / f"{name}.log"
    if not path.exists():
        return f"It has no log yet ({path})."
    return f"End of {path}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _write_atomically(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
