"""What the operator's process uses, seen from outside: memory, file descriptors, threads, rates.

One line per sample; a process that was replaced begins a line of its own. A slope is judged only
within one process.
"""

import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psutil

from tests.faults.mutated.slot import Counts

MIB = 2**20
PEAK_SECONDS = 120.0  # longer than it takes until connections are open again after an outage


@dataclass(frozen=True)
class Sample:
    """`at` in seconds since the soak began, `rss` in MiB, `cpu` in seconds since the process began;
    the rest are totals of the process."""

    at: float
    pid: int
    rss: float
    descriptors: int
    threads: int
    cpu: float
    passes: float
    kubernetes: float
    registry: float


def take(at: float, pid: int, metrics_port: int) -> Sample | None:
    """None while the process starts or ends."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            rss = process.memory_info().rss / MIB
            descriptors, threads = process.num_fds(), process.num_threads()
            cpu = sum(process.cpu_times()[:2])
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            done = Counts.of(answer.read().decode())
    except (psutil.Error, OSError):
        return None
    return Sample(
        at, pid, rss, descriptors, threads, cpu, done.passes, done.kubernetes, done.registry
    )


@dataclass(frozen=True)
class Flatness:
    """Over the second half of one process' life. `slope` in units per hour; medians of its third
    and its last quarter, so that a single spike says nothing."""

    slope: float
    before: float
    after: float

    @property
    def growth(self) -> float:
        """Ratio."""
        return self.after / self.before if self.before else 1.0


def flatness(samples: Sequence[Sample], name: str) -> Flatness:
    """Of one attribute of the samples. Least squares over the second half's peaks: an outage
    closes connections, and their buffers go and come back."""
    half = samples[len(samples) // 2 :]
    values = [float(asdict(each)[name]) for each in half]
    quarter = len(values) // 2
    before, after = _median(values[:quarter]), _median(values[quarter:])
    peaks: dict[int, tuple[float, float]] = {}
    for each, value in zip(half, values, strict=True):
        part = int((each.at - half[0].at) / PEAK_SECONDS)
        peaks[part] = max(peaks.get(part, (value, each.at)), (value, each.at))
    values, times = [value for value, _ in peaks.values()], [at for _, at in peaks.values()]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - middle) ** 2 for t in times)
    tilt = sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True))
    slope = tilt / spread * 3600 if spread else 0.0
    return Flatness(slope, before, after)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def of_last_process(samples: Sequence[Sample]) -> list[Sample]:
    return [each for each in samples if samples and each.pid == samples[-1].pid]


def rates(samples: Sequence[Sample]) -> dict[str, float]:
    """Per second, from the first to the last sample of one process."""
    if len(samples) < 2:
        return {}
    first, last = samples[0], samples[-1]
    seconds = last.at - first.at
    names = ("passes", "kubernetes", "registry", "cpu")
    return {n: (asdict(last)[n] - asdict(first)[n]) / seconds for n in names}


class Clock:
    """Seconds since the soak began."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._began
