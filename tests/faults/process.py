"""`podium-operator` as a process that is killed and paused for real, started in milliseconds.

Each is forked from a server process that has imported it already (multiprocessing's forkserver):
importing costs a second, which thousands of trials would pay for twice. After the fork it is a
process like any other; nothing of it is simulated.
"""

import contextlib
import json
import mmap
import multiprocessing
import os
import signal
import struct
import sys
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import aiohttp

from podium.clock import SYSTEM, SystemClock
from podium.runtime import main as operator
from tests.environment import of_operator
from tests.faults.breaks import broken

SEAT_HEADER = "X-Seat"  # by which the proxy tells two operators apart
_TWO = "dd"
_FORKS = multiprocessing.get_context("forkserver")
# The operator imports the second when it starts: too late to be shared. (In this order: kopf, which
# comes with the first, would load the whole of the official client.)
_FORKS.set_forkserver_preload([__name__, "kubernetes.aio.config.kube_config"])


class Operator:
    """One process. `seat` is its name: the holder of its Lease begins with it."""

    def __init__(
        self,
        seat: str,
        namespace: str,
        server: str,
        folder: Path,
        breaks: str | None,
        clock: "WrongClock | None" = None,
        flags: Sequence[str] = (),
    ) -> None:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(server)))
        arguments = ["--namespace", namespace, "--health-port", "0", "--metrics-port", "0"]
        arguments += ["--workers", "2", *flags]
        self.seat, self.log = seat, folder / f"{seat}.log"
        self._paused = False
        self._process: BaseProcess = _FORKS.Process(
            target=_operate, args=(seat, arguments, str(kubeconfig), str(self.log), breaks, clock)
        )
        self._process.start()

    def kill(self) -> None:
        """SIGKILL, which a paused process obeys too."""
        self._process.kill()
        self._process.join(10)

    def stop(self, seconds: float) -> int | None:
        """SIGTERM, and SIGKILL after so long. Gives what it ended with; None: killed."""
        self._process.terminate()
        self._process.join(seconds)
        code = self._process.exitcode
        self.kill()
        return code

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def ended(self) -> bool:
        return self._process.exitcode is not None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)


class WrongClock:
    """A machine's clock that is set, and runs too fast or too slow: `step` in seconds, `drift` a
    ratio. Kept in a file, so that it can be set while the operator runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(struct.pack(_TWO, 0.0, 0.0))

    def set(self, step: float, drift: float) -> None:
        with self._path.open("r+b") as file:
            file.write(struct.pack(_TWO, step, drift))

    def wear(self) -> None:
        """In the operator's process: what it takes for the time from here on."""
        with self._path.open("rb") as file:
            shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _, drift = struct.unpack(_TWO, shared[:])

        class Worn(SystemClock):
            def now(self) -> datetime:
                return super().now() + timedelta(seconds=struct.unpack(_TWO, shared[:])[0])

            def monotonic(self) -> float:
                return float(super().monotonic() * (1.0 + drift))

            async def sleep(self, seconds: float) -> None:
                await super().sleep(seconds / (1.0 + drift))

        SYSTEM.__class__ = Worn


def _operate(
    seat: str,
    arguments: Sequence[str],
    kubeconfig: str,
    log: str,
    breaks: str | None,
    clock: "WrongClock | None",
) -> None:
    """Runs in the forked process, until it is killed."""
    from kubernetes.aio.config import kube_config

    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(written, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    given = of_operator(KUBECONFIG=kubeconfig, POD_NAME=seat)
    os.environ.clear()
    os.environ.update(given)
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = kubeconfig  # it read the variable at its import
    sys.argv = ["podium-operator", *arguments]
    _name_seat(seat)
    if clock is not None:
        clock.wear()
    with broken(breaks):
        operator.main()


def _end_with_parent() -> None:
    """Else an operator would outlive tests that were killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _name_seat(seat: str) -> None:
    made = aiohttp.ClientSession.__init__

    def make(self: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.headers[SEAT_HEADER] = seat

    aiohttp.ClientSession.__init__ = make  # type: ignore[method-assign]


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "tester", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "proxy", "user": "tester"}}],
        "current-context": "it",
    }
