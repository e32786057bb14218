"""The LIST that finds what the watches missed: paged, every ten minutes, pruning by UID.

kopf never repairs a deletion that fell into a gap of its watch (measured). The first LIST fills
the cache before the watches begin, so that each Deployment's event finds its promotion known.
"""

import asyncio
import logging
from collections.abc import Sequence

from podium.cluster.client import KubernetesClient
from podium.cluster.errors import ClusterError
from podium.runtime.cache import Cache, name_of
from podium.runtime.health import Health
from podium.runtime.hints import DELETED, MODIFIED, Hints
from podium.runtime.keys import Name
from podium.runtime.metrics import Metrics
from podium.runtime.queue import Backoff

LAG_SECONDS = 5.0  # a watch may be that late without being called dead

_log = logging.getLogger(__name__)


class Repair:
    """`namespaces` empty: all of them."""

    def __init__(
        self,
        kube: KubernetesClient,
        cache: Cache,
        hints: Hints,
        health: Health,
        metrics: Metrics,
        namespaces: Sequence[str],
        interval: float,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._hints = hints
        self._health = health
        self._metrics = metrics
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._interval = interval
        self._missed_before = False

    async def fill(self, backoff: Backoff[str]) -> None:
        """The first LIST, tried until it succeeds."""
        while True:
            try:
                await self._list()
            except ClusterError as error:
                _log.warning("the first LIST failed: %s", error)
                await asyncio.sleep(backoff.failed("list"))
            else:
                self._health.synced = True
                return

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                missed = await self._list()
            except ClusterError as error:
                _log.warning("the repairing LIST failed and is tried again later: %s", error)
                continue
            self._metrics.missed.inc(missed)
            if missed:
                _log.warning("the watches had missed %d changes of promotions", missed)
            # Once may be a race with the watch; twice in a row it is dead.
            dead = bool(missed) and self._missed_before
            self._health.stale_watches = frozenset({"modelpromotions"} if dead else ())
            self._missed_before = bool(missed)

    async def _list(self) -> int:
        """How many promotions were not known as they are, and that not for a moment only."""
        first = not self._health.synced
        known = (
            set(self._cache.registries),
            set(self._cache.promotions),
            self._cache.decision_names(),
            self._cache.deployment_names(),
        )
        registries, decisions, promotions, deployments = set(), set(), set(), set()
        suspects = []
        for namespace in self._namespaces:
            async for raw in self._kube.list_registries(namespace):
                registries.add(name_of(raw))
                self._hints.registry(MODIFIED, raw)
            async for raw in self._kube.list_promotions(namespace):
                promotions.add(name_of(raw))
                if first:
                    self._hints.promotion(MODIFIED, raw)
                elif self._cache.is_news(raw):
                    suspects.append(raw)
            async for raw in self._kube.list_decisions(namespace):
                decisions.add(name_of(raw))
                self._hints.decision(MODIFIED, raw)
            async for raw in self._kube.list_deployments(namespace):
                deployments.add(name_of(raw))
                self._hints.deployment(MODIFIED, raw)
        found = (registries, promotions, decisions, deployments)
        gone = tuple(before - now for before, now in zip(known, found, strict=True))
        if suspects or any(gone):
            await asyncio.sleep(LAG_SECONDS)
        missed = sum(self._hints.promotion(MODIFIED, raw) for raw in suspects)
        return missed + await self._forget(*gone)

    async def _forget(
        self,
        registries: set[Name],
        promotions: set[Name],
        decisions: set[Name],
        deployments: set[Name],
    ) -> int:
        """Drops what is known and no longer there. Gives how many of it were promotions."""
        for name in sorted(registries & set(self._cache.registries)):
            again = [name_of(raw) async for raw in self._kube.list_registries(name.namespace)]
            if name not in again:
                self._hints.registry(DELETED, _named(name))
        for name in sorted(decisions & self._cache.decision_names()):
            if await self._kube.get_decision(*name) is None:
                self._hints.decision(DELETED, _named(name))
        for name in sorted(deployments & self._cache.deployment_names()):
            if await self._kube.get_deployment(*name) is None:
                self._hints.deployment(DELETED, _named(name))
        missed = 0
        for name in sorted(promotions & set(self._cache.promotions)):
            if await self._kube.get_promotion(*name) is None:
                uid = self._cache.promotions[name].uid
                missed += self._hints.promotion(DELETED, _named(name, uid))
        return missed


def _named(name: Name, uid: str = "") -> dict[str, object]:
    """What is left of an object whose deletion nobody told."""
    return {"metadata": {"namespace": name.namespace, "name": name.name, "uid": uid}}
