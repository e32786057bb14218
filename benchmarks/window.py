"""What happened between two moments, as each of the programs tells it."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.audit import Request
from benchmarks.bed import Bed
from benchmarks.usage import load

_REQUEST = re.compile(r'"(GET|POST|DELETE|PATCH) /api/2\.0/mlflow/([\w/-]+)')
Series = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Seen:
    """`cpu` in seconds by program; `mlflow` requests by method and path, as MLflow logged them."""

    seconds: float
    cpu: Mapping[str, float]
    requests: tuple[Request, ...]  # of the operator, as the API server logged them
    by_others: Counter[str]
    mlflow: Counter[str]
    before: Series
    after: Series
    load: float

    @property
    def writes(self) -> Counter[str]:
        """Of the operator to Kubernetes, the Lease left out."""
        kept = (r for r in self.requests if r.writes and r.object_ref.resource != "leases")
        return Counter(r.kind for r in kept)

    @property
    def reads(self) -> Counter[str]:
        return Counter(r.kind for r in self.requests if not r.writes)

    @property
    def mlflow_writes(self) -> Counter[str]:
        return Counter({k: n for k, n in self.mlflow.items() if not k.startswith("GET ")})

    def grown(self, name: str, **labels: str) -> float:
        """By how much a counter of the operator's grew."""
        key = (name, tuple(sorted(labels.items())))
        return self.after.get(key, 0.0) - self.before.get(key, 0.0)

    def histogram(self, name: str, share: float) -> float:
        """A quantile of a histogram of the operator's, interpolated as Prometheus does; the upper
        bound of the last finite bucket when it lies beyond."""
        counts = []
        for series, labels in self.after:
            if series == f"{name}_bucket" and len(labels) == 1:
                grown = self.grown(series, **dict(labels))
                counts.append((float(labels[0][1]), grown))
        counts.sort()
        if not counts or not counts[-1][1]:
            return 0.0
        rank, low, below = counts[-1][1] * share, 0.0, 0.0
        for bound, count in counts:
            if count >= rank:
                if bound == float("inf") or count == below:
                    return low
                return low + (bound - low) * (rank - below) / (count - below)
            low, below = bound, count
        return low


class Window:
    """Open from when it is made until `end`."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._metrics = bed.operator.metrics()
        self.audit_mark = bed.audit.mark()
        self._log_mark = bed.mlflow_log.stat().st_size
        self._usage = bed.usage()
        self._began = time.monotonic()

    def end(self) -> Seen:
        seconds = time.monotonic() - self._began
        cpu = self._usage.until(self._bed.usage())
        requests = tuple(self._bed.audit.of_operator(self.audit_mark))
        return Seen(
            seconds=seconds,
            cpu={name: round(used, 2) for name, used in cpu.items()},
            requests=requests,
            by_others=self._bed.audit.writes_of_others(self.audit_mark),
            mlflow=mlflow_requests(self._bed, self._log_mark),
            before=self._metrics,
            after=self._bed.operator.metrics(),
            load=load(),
        )


def mlflow_requests(bed: Bed, mark: int) -> Counter[str]:
    """What MLflow's web server logged since then: like `POST model-versions/set-tag`."""
    with bed.mlflow_log.open("rb") as log:
        log.seek(mark)
        text = log.read().decode(errors="replace")
    return Counter(f"{method} {path}" for method, path in _REQUEST.findall(text))
