"""The LIST that finds what the watches did not tell.

One when a watch begins anew, which is how the cache is first filled: the watch is open by then, so
that what changes later is told. One every ten minutes: kopf never repairs a deletion that fell
into a gap of its watch (measured).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from podium.cluster.client import KubernetesClient
from podium.cluster.errors import ClusterError
from podium.runtime.cache import Cache, Raw, Watched, name_of
from podium.runtime.health import Health
from podium.runtime.hints import DELETED, Hints
from podium.runtime.metrics import Metrics
from podium.runtime.queue import Backoff

LAG_SECONDS = 5.0  # a watch may be that late without being called dead
SPACING_SECONDS = 5.0  # between a LIST and the next, however often watches begin anew

_log = logging.getLogger(__name__)


class _Kind(NamedTuple):
    """How one kind of object is read, and told of."""

    of: Watched
    list: Callable[[str | None], AsyncIterator[Raw]]
    get: Callable[[str, str], Awaitable[Raw | None]]
    tell: Callable[[str | None, Raw], object]


class Repair:
    """`namespaces` empty: all of them."""

    def __init__(
        self,
        kube: KubernetesClient,
        cache: Cache,
        hints: Hints,
        health: Health,
        metrics: Metrics,
        backoff: Backoff[str],
        namespaces: Sequence[str],
        interval: float,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._kinds = (
            _Kind(Watched.REGISTRY, kube.list_registries, self._get_registry, hints.registry),
            _Kind(Watched.PROMOTION, kube.list_promotions, kube.get_promotion, hints.promotion),
            _Kind(Watched.DECISION, kube.list_decisions, kube.get_decision, hints.decision),
            _Kind(Watched.DEPLOYMENT, kube.list_deployments, kube.get_deployment, hints.deployment),
        )
        self._health = health
        self._metrics = metrics
        self._backoff = backoff
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._interval = interval
        self._gap = asyncio.Event()
        self._missed_before = False

    def watch_opened(self, path: str, anew: bool) -> None:
        """A watch was granted; `anew`: what came before it, nobody was told."""
        self._health.opened(path)
        if anew and self._health.all_opened:
            self._gap.set()

    async def wait_until_served(self) -> None:
        """Until the API server has all kinds that are watched: kopf does not look again for one
        that it has not found."""
        while True:
            try:
                for namespace in self._namespaces:
                    await self._kube.probe(namespace)
            except ClusterError as error:
                _log.warning("nothing can be watched yet: %s", error)
                await asyncio.sleep(self._backoff.failed("look"))
            else:
                return

    async def run(self) -> None:
        await self._gap.wait()
        now = asyncio.get_running_loop().time
        due = now() + self._interval
        while True:
            gap = self._gap.is_set()
            self._gap.clear()
            try:
                missed = await self._list(gap)
            except ClusterError as error:
                _log.warning("a LIST failed and is tried again: %s", error)
                if gap:
                    self._gap.set()
                await asyncio.sleep(self._backoff.failed("list"))
                continue
            self._backoff.succeeded("list")
            self._health.synced = True
            if not gap:
                due = now() + self._interval
                if not self._gap.is_set():  # else that gap may have hidden what was found
                    self._judge(missed)
            await asyncio.sleep(SPACING_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._gap.wait()

    def _judge(self, missed: int) -> None:
        self._metrics.missed.inc(missed)
        if missed:
            _log.warning("the watches had missed %d changes of promotions", missed)
        # Once may be a race with the watch; twice in a row it is dead.
        dead = bool(missed) and self._missed_before
        self._health.stale_watches = frozenset({"modelpromotions"} if dead else ())
        self._missed_before = bool(missed)

    async def _list(self, gap: bool) -> int:
        """How many promotions were not known as they are, and that not for a moment only. After a
        `gap` nobody else tells of them, and no moment is waited for.

        The kinds at once, since the API server takes longer to write the pages than Podium to read
        them; and each for itself, so that one that cannot be listed keeps none from being told.
        """
        with self._cache.listing():
            results = await asyncio.gather(
                *(self._list_kind(kind, gap) for kind in self._kinds), return_exceptions=True
            )
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:  # what nobody expects comes first: a LIST that is tried again must not hide it
            raise min(failed, key=lambda error: isinstance(error, ClusterError))
        self._cache.forget_strangers()
        return sum(result for result in results if isinstance(result, int))

    async def _list_kind(self, kind: _Kind, gap: bool) -> int:
        cache = self._cache
        before, found = set(cache.known(kind.of)), set()
        suspects: list[Raw] = []
        for namespace in self._namespaces:
            async for raw in kind.list(namespace):
                found.add(name_of(raw))
                if gap or kind.of is not Watched.PROMOTION:
                    kind.tell(None, raw)
                elif cache.is_news(raw):
                    suspects.append(raw)
        unseen = [name for name in sorted(before - found) if not cache.is_told(kind.of, name)]
        if not gap and (suspects or unseen):
            await asyncio.sleep(LAG_SECONDS)
        missed = sum(kind.tell(None, raw) is True for raw in suspects)
        for name in unseen:
            if await kind.get(*name) is None and not cache.is_told(kind.of, name):
                gone = {"metadata": {"namespace": name.namespace, "name": name.name}}
                missed += kind.tell(DELETED, gone) is True
        return missed

    async def _get_registry(self, namespace: str, name: str) -> Raw | None:
        """Podium may list ModelRegistries and not get one."""
        async for raw in self._kube.list_registries(namespace):
            if name_of(raw).name == name:
                return raw
        return None
