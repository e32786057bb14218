"""Prometheus metrics. Label sets are bounded: phases, methods, outcomes, and one series for each
promotion and registry that exists, gone when it goes."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from podium.api.promotion_status import Phase
from podium.runtime.cache import Cache
from podium.runtime.queue import QueueStats
from podium.runtime.registries import Registries

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "podium_reconcile_seconds",
            "How long a pass over a promotion took",
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "podium_queue_seconds",
            "How long a key was due before a worker took it",
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self.poll_seconds = Histogram(
            "podium_poll_seconds",
            "How long a good poll of a registry took",
            buckets=(*_LATENCIES, 30.0, 60.0),
            registry=self.registry,
        )
        self.reconcile_errors = Counter(
            "podium_reconcile_errors",
            "Passes that met with an error nobody expected",
            registry=self.registry,
        )
        self.events = Counter(
            "podium_events",
            "What happened to promotions, by type and reason",
            ["type", "reason"],
            registry=self.registry,
        )
        self.missed = Counter(
            "podium_watch_missed",
            "Changes that a repairing LIST found and the watch had not told",
            registry=self.registry,
        )
        self._registry_seconds = Histogram(
            "podium_registry_request_seconds",
            "Requests to MLflow",
            ["method", "outcome"],
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self._kubernetes_seconds = Histogram(
            "podium_kubernetes_request_seconds",
            "Requests to the Kubernetes API",
            ["verb", "resource", "outcome"],
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self.leader = Gauge(
            "podium_leader", "Whether this replica holds the Lease", registry=self.registry
        )

    def on_registry_request(self, operation: str, seconds: float, outcome: str) -> None:
        self._registry_seconds.labels(operation, outcome).observe(seconds)

    def on_kubernetes_request(self, verb: str, resource: str, seconds: float, outcome: str) -> None:
        self._kubernetes_seconds.labels(verb, resource, outcome).observe(seconds)

    def watch(
        self,
        cache: Cache,
        registries: Registries,
        stats: Callable[[], QueueStats],
        is_leader: Callable[[], bool],
    ) -> None:
        """Shows what these hold at each scrape."""
        self.leader.set_function(lambda: 1.0 if is_leader() else 0.0)
        self.registry.register(_Observed(cache, registries, stats))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Observed:
    """Collected at each scrape, so nothing can be forgotten to be removed; in another thread than
    changes it, so what may grow meanwhile is copied first: by `copy`, which runs to its end, as
    `list(d.items())` does not (its pairs can start the garbage collector, and that other code)."""

    def __init__(
        self, cache: Cache, registries: Registries, stats: Callable[[], QueueStats]
    ) -> None:
        self._cache = cache
        self._registries = registries
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        promotions = GaugeMetricFamily(
            "podium_promotions", "Promotions by the phase of their last attempt", labels=["phase"]
        )
        for phase in (*(p.value for p in Phase), "None"):
            promotions.add_metric([phase], self._cache.phases.get(phase, 0))
        yield promotions
        champion = GaugeMetricFamily(
            "podium_champion_info",
            "The version that each promotion's alias stands for",
            labels=["namespace", "promotion", "model", "alias", "version"],
        )
        for name, entry in self._cache.promotions.copy().items():
            if entry.champion is not None:
                champion.add_metric([*name, entry.model, entry.alias, entry.champion], 1)
        yield champion
        lag = GaugeMetricFamily(
            "podium_poll_lag_seconds", "Since the last good poll began", labels=["registry"]
        )
        for registry, seconds in self._registries.poll_lags().items():
            lag.add_metric([str(registry)], seconds)
        yield lag
        stats = self._stats()
        yield GaugeMetricFamily("podium_queue_depth", "Keys that wait", value=stats.waiting)
        yield GaugeMetricFamily(
            "podium_queue_oldest_seconds", "How long the first has waited", value=stats.oldest
        )
