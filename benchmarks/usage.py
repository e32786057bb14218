"""CPU and memory of processes as the kernel counts them."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 1_000_000


@dataclass(frozen=True)
class Usage:
    """CPU seconds that each program has used until `at` (monotonic)."""

    at: float
    cpu: Mapping[str, float]

    @classmethod
    def now(cls, programs: Mapping[str, list[psutil.Process]]) -> "Usage":
        return cls(
            time.monotonic(), {name: sum(map(_cpu, found)) for name, found in programs.items()}
        )

    def until(self, later: "Usage") -> dict[str, float]:
        """CPU seconds used in between."""
        return {name: later.cpu[name] - before for name, before in self.cpu.items()}


def _cpu(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def resident_mb(pid: int) -> float:
    """VmRSS now, in 10**6 bytes."""
    return _status(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """VmHWM: the most it ever was, in 10**6 bytes."""
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / MB
    raise LookupError(f"/proc/{pid}/status has no {field}")


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": os.uname().release,
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def load() -> float:
    """The machine's load average over a minute."""
    return round(os.getloadavg()[0], 2)
