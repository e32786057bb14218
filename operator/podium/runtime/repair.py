"""The LIST that finds what the watches did not tell: paged, pruning by UID.

One when a watch begins anew, which is how the cache is first filled: the watch is open by then, so
that nothing falls between the two. One every ten minutes: kopf never repairs a deletion that fell
into a gap of its watch (measured).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial

from podium.cluster.client import KubernetesClient
from podium.cluster.errors import ClusterError
from podium.runtime.cache import Cache, Raw, name_of
from podium.runtime.health import Health
from podium.runtime.hints import DELETED, Hints
from podium.runtime.keys import Name
from podium.runtime.metrics import Metrics
from podium.runtime.queue import Backoff

LAG_SECONDS = 5.0  # a watch may be that late without being called dead
SPACING_SECONDS = 5.0  # between a LIST and the next, however often watches begin anew

_log = logging.getLogger(__name__)


class Repair:
    """`namespaces` empty: all of them. `filled` is set once the cache knows all there is."""

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
        self._hints = hints
        self._health = health
        self._metrics = metrics
        self._backoff = backoff
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._interval = interval
        self._gap = asyncio.Event()
        self._missed_before = False
        self.filled = asyncio.Event()

    def watch_opened(self, path: str, anew: bool) -> None:
        """A watch was granted; `anew`: what came before it, nobody was told."""
        self._health.opened(path)
        if anew and self._health.all_opened:
            self._gap.set()

    async def wait_until_served(self) -> None:
        """Until the API server has all that is watched: kopf would never find it later."""
        while True:
            try:
                for namespace in self._namespaces:
                    await self._kube.look(namespace)
            except ClusterError as error:
                _log.warning("nothing can be watched yet: %s", error)
                await asyncio.sleep(self._backoff.failed("look"))
            else:
                return

    async def run(self) -> None:
        await self._gap.wait()
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
            self.filled.set()
            if not gap:
                self._judge(missed)
            await asyncio.sleep(SPACING_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
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

        What a watch told since the LIST began is left to the watch. All else is as listed, also
        where that is older than what is known: etcd was restored.
        """
        kube, hints = self._kube, self._hints
        registries, promotions, decisions, deployments = map(_Listed, self._cache.known)
        suspects: list[Raw] = []

        def promotion(raw: Raw) -> None:
            if gap:
                hints.promotion(None, raw)
            elif self._cache.is_news(raw):
                suspects.append(raw)

        # At once, since the API server takes longer to write the pages than Podium to read them.
        await _all(
            self._each(kube.list_registries, registries, partial(hints.registry, None)),
            self._each(kube.list_promotions, promotions, promotion),
            self._each(kube.list_decisions, decisions, partial(hints.decision, None)),
            self._each(kube.list_deployments, deployments, partial(hints.deployment, None)),
        )
        self._cache.forget_strangers()
        kinds = (registries, promotions, decisions, deployments)
        if not gap and (suspects or any(kind.gone() for kind in kinds)):
            await asyncio.sleep(LAG_SECONDS)
        missed = sum(hints.promotion(None, raw) for raw in suspects if promotions.is_untold(raw))
        return missed + await self._forget(*(kind.gone() for kind in kinds))

    async def _each(
        self,
        pages: Callable[[str | None], AsyncIterator[Raw]],
        listed: "_Listed",
        tell: Callable[[Raw], object],
    ) -> None:
        for namespace in self._namespaces:
            async for raw in pages(namespace):
                if listed.is_untold(raw):
                    tell(raw)

    async def _forget(
        self,
        registries: set[Name],
        promotions: set[Name],
        decisions: set[Name],
        deployments: set[Name],
    ) -> int:
        """Drops what is known and no longer there. Gives how many of it were promotions."""
        for name in sorted(registries):
            again = [name_of(raw) async for raw in self._kube.list_registries(name.namespace)]
            if name not in again:
                self._hints.registry(DELETED, _named(name))
        for name in sorted(decisions):
            if await self._kube.get_decision(*name) is None:
                self._hints.decision(DELETED, _named(name))
        for name in sorted(deployments):
            if await self._kube.get_deployment(*name) is None:
                self._hints.deployment(DELETED, _named(name))
        missed = 0
        for name in sorted(promotions & self._cache.promotions.keys()):
            if await self._kube.get_promotion(*name) is None:
                uid = self._cache.promotions[name].uid
                missed += self._hints.promotion(DELETED, _named(name, uid))
        return missed


class _Listed:
    """A LIST of one kind against what is known of it."""

    def __init__(self, known: Mapping[Name, object]) -> None:
        """`known` is what the watches go on changing."""
        self._known = known
        self._before = dict(known)
        self._found: set[Name] = set()

    def is_untold(self, raw: Raw) -> bool:
        """Whether no watch has told of this object since the LIST began."""
        name = name_of(raw)
        self._found.add(name)
        return self._known.get(name) is self._before.get(name)

    def gone(self) -> set[Name]:
        """Those known and not found, and no watch told."""
        missing = self._before.keys() - self._found
        return {name for name in missing if self._known.get(name) is self._before[name]}


async def _all(*lists: Coroutine[object, object, None]) -> None:
    """Raises the first ClusterError, and ends the others for it."""
    failed: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            for each in lists:
                tasks.create_task(each)
    except* ClusterError as errors:
        failed.extend(errors.exceptions)
    if failed:
        raise failed[0]


def _named(name: Name, uid: str = "") -> dict[str, object]:
    """What is left of an object whose deletion nobody told."""
    return {"metadata": {"namespace": name.namespace, "name": name.name, "uid": uid}}
