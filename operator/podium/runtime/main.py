"""The operator as a process: puts the parts together, runs them, ends them in order.

On SIGTERM: no new keys, the passes that run may end (20 s), the Lease is released, exit 0.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from podium import __version__
from podium.clock import SYSTEM, Clock
from podium.cluster.access import Access, AccessError, load_access
from podium.cluster.client import KubernetesClient
from podium.cluster.connection import ApiConnection
from podium.cluster.election import LeaderElection, WentBackError, new_identity
from podium.cluster.errors import ClusterError
from podium.cluster.lease import ApiLeaseStore
from podium.cluster.resources import DEPLOYMENTS, PODIUM
from podium.registry.client import RegistryClient
from podium.runtime import health as healths
from podium.runtime import logs, memory, shell, signing
from podium.runtime.cache import Cache
from podium.runtime.gather import Gatherer
from podium.runtime.hints import Hints
from podium.runtime.keys import Key, Kind, Name
from podium.runtime.metrics import Metrics
from podium.runtime.queue import Backoff, KeyedQueue
from podium.runtime.reconciler import Reconciler
from podium.runtime.registries import Registries
from podium.runtime.repair import Repair
from podium.runtime.settings import DefaultRegistry, Settings, parse

SHUTDOWN_SECONDS = 20.0
KOPF_SECONDS = 5.0  # to end its watches in

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outside:
    """What a replica takes from the machine it runs on. Simulated time brings its own."""

    clock: Clock = SYSTEM
    rng: random.Random = field(default_factory=random.Random)  # jitter
    load_access: Callable[[], Awaitable[Access]] = load_access
    connection: Callable[..., ApiConnection] = ApiConnection
    registry_client: Callable[..., RegistryClient] = RegistryClient
    identity: Callable[[str], str] = new_identity
    watch: shell.Watch = shell.watch


class Operator:
    """All parts of one replica."""

    def __init__(
        self,
        settings: Settings,
        access: Access,
        kube: KubernetesClient,
        election: LeaderElection,
        cluster_id: str,
        metrics: Metrics,
        outside: Outside,
    ) -> None:
        rng, clock = outside.rng, outside.clock
        self.settings = settings
        self.access = access
        self.clock = clock
        self.kube = kube
        self.election = election
        self.backoff: Backoff[str] = Backoff(rng)
        self.cache = Cache()
        self.queue: KeyedQueue[Key] = KeyedQueue(
            settings.workers, clock.monotonic, metrics.queue_seconds.observe
        )
        self.lost = asyncio.Event()
        self.registries = Registries(
            self.cache,
            kube,
            lambda registry, model: self.hints.registry_changed(registry, model),
            lambda name: self.queue.add(Key(Kind.REGISTRY, name)),
            metrics.on_registry_request,
            _default_registry(settings),
            rng,
            clock,
            outside.registry_client,
            metrics.poll_seconds.observe,
        )
        gatherer = Gatherer(
            self.cache, kube, self.registries, cluster_id, settings.max_rollouts, clock
        )
        self.reconciler = Reconciler(
            self.cache,
            kube,
            self.registries,
            gatherer,
            election.fence,
            cluster_id,
            metrics,
            rng,
            clock,
            lambda: self.queue.halted,
        )
        self.hints = Hints(self.cache, self.queue, self.reconciler)
        watched = [
            resource.path(namespace)
            for resource in (*PODIUM.values(), DEPLOYMENTS)
            for namespace in settings.namespaces or (None,)
        ]
        self.health = healths.Health(self.queue.stats, watched, election.heard_ago, clock.monotonic)
        self.repair = Repair(
            kube,
            self.cache,
            self.hints,
            self.health,
            metrics,
            self.backoff,
            settings.namespaces,
            settings.repair_interval,
        )
        metrics.watch(self.cache, self.registries, self.queue.stats, lambda: election.is_leader)

    async def handle(self, key: Key) -> float | None:
        if key.kind is Kind.PROMOTION:
            return await self.reconciler.reconcile(key.name)
        with logs.about(registry=str(key.name)):
            try:
                delay = await self.registries.reconcile(key.name)
            except ClusterError as error:
                _log.info("the ModelRegistry is tried again: %s", error)
                return self.backoff.failed(str(key.name))
            except Exception:
                _log.exception("unexpected error with a ModelRegistry; it is tried again")
                return self.backoff.failed(str(key.name))
            self.backoff.succeeded(str(key.name))
            return delay

    async def lead(self) -> None:
        """Works while the Lease is held, pauses while it is not."""
        while True:
            await self.election.wait_for_leadership()
            self.lost.clear()
            if not hasattr(self.reconciler, "signer"):
                try:
                    self.reconciler.signer = await signing.load_or_create(
                        self.kube, self.settings.lease_namespace
                    )
                except (ClusterError, signing.KeyUnusableError) as error:
                    _log.error("no key to sign the ledger with: %s", error)
                    await self.clock.sleep(self.backoff.failed("key"))
                    continue
            _log.info("leading as %s", self.election.identity)
            for name in self.cache.registries:
                self.queue.add(Key(Kind.REGISTRY, name))
            if (default := _default_registry(self.settings)) is not None:
                self.queue.add(Key(Kind.REGISTRY, default[0]))
            for name in self.cache.promotions:
                self.queue.add(Key(Kind.PROMOTION, name))
            self.queue.resume()
            await self.lost.wait()
            self.queue.pause()
            _log.warning("the Lease was lost; this replica waits for it")


def _default_registry(settings: Settings) -> tuple[Name, DefaultRegistry] | None:
    if settings.default_registry is None:
        return None
    return Name(settings.namespaces[0], "default"), settings.default_registry


async def _cluster_id(kube: KubernetesClient, backoff: Backoff[str], clock: Clock) -> str:
    while True:
        try:
            return await kube.cluster_id()
        except ClusterError as error:
            _log.warning("the cluster cannot be reached yet: %s", error)
            await clock.sleep(backoff.failed("cluster"))


async def run(settings: Settings, stop: asyncio.Event, outside: Outside | None = None) -> int:
    """Runs until `stop`, or until a part that must not end does. Gives the exit code."""
    outside = outside or Outside()
    clock = outside.clock
    metrics = Metrics()
    access = await outside.load_access()
    connection = outside.connection(access, on_request=metrics.on_kubernetes_request, clock=clock)
    lease_connection = outside.connection(access, clock=clock)
    store = ApiLeaseStore(lease_connection, settings.lease_namespace, settings.lease_name)
    operators: list[Operator] = []

    def on_lost() -> None:
        for one in operators:
            one.lost.set()

    election = LeaderElection(
        store,
        identity=outside.identity(settings.pod_name),
        able=lambda: any(one.health.synced for one in operators),
        on_lost=on_lost,
        clock=clock,
    )
    kube = KubernetesClient(
        connection, fence=election.fence, reporting_instance=settings.pod_name, clock=clock
    )
    try:
        first = Backoff[str](outside.rng)
        asked = asyncio.create_task(_cluster_id(kube, first, clock))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({asked, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            asked.cancel()
            return 0
        stopping.cancel()
        cluster_id = await asked
        operator = Operator(settings, access, kube, election, cluster_id, metrics, outside)
        operators.append(operator)
        return await _run(operator, metrics, stop, outside.watch)
    finally:
        await connection.close()
        await lease_connection.close()


async def _run(
    operator: Operator, metrics: Metrics, stop: asyncio.Event, watch: shell.Watch
) -> int:
    settings = operator.settings
    runners = await healths.serve(
        settings.bind,
        settings.health_port,
        settings.metrics_port,
        operator.health,
        metrics.text,
    )
    watching, ready = asyncio.Event(), asyncio.Event()
    try:
        serving = asyncio.create_task(operator.repair.wait_until_served())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            serving.cancel()
            return 0
        await serving
        working = asyncio.create_task(operator.queue.run(operator.handle))
        parts: list[Coroutine[object, object, None]] = [
            watch(
                operator.access,
                operator.hints,
                operator.repair.watch_opened,
                settings.namespaces,
                watching,
                ready,
            ),
            operator.election.run(),
            operator.lead(),
            operator.repair.run(),
            operator.health.beat(),
        ]
        tasks = [asyncio.create_task(part) for part in parts]  # the first is kopf's
        tasks.append(asyncio.create_task(_signals_after_kopf(ready, stop)))
        done, _ = await asyncio.wait(
            {stopping, working, *tasks}, return_when=asyncio.FIRST_COMPLETED
        )
        failed = [task for task in done if task is not stopping and task.exception()]
        for task in failed:
            why = task.exception()
            if isinstance(why, WentBackError | shell.ResourceGoneError):
                _log.error("%s", why)
            else:
                _log.error("a part of the operator ended", exc_info=why)
        await _shut_down(operator, working, watching, tasks)
        return 1 if failed else 0
    finally:
        await operator.registries.close()
        for runner in runners:
            await runner.cleanup()


async def _shut_down(
    operator: Operator,
    working: "asyncio.Task[None]",
    watching: asyncio.Event,
    tasks: "list[asyncio.Task[None]]",
) -> None:
    _log.info("stopping: passes that run may end, then the Lease is released")
    operator.queue.stop()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(working, return_exceptions=True), SHUTDOWN_SECONDS)
    watching.set()
    await operator.election.stop()
    await asyncio.wait(tasks[:1], timeout=KOPF_SECONDS)
    for task in tasks:
        task.cancel()
    _, left = await asyncio.wait(tasks, timeout=KOPF_SECONDS)
    if left:
        _log.warning("not all parts ended in time; the process ends without them")


async def _signals_after_kopf(ready: asyncio.Event, stop: asyncio.Event) -> None:
    """kopf takes the signal handlers when it starts; the order of stopping is ours."""
    await ready.wait()
    _handle_signals(stop)
    await asyncio.Event().wait()


def _handle_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    _handle_signals(stop)
    try:
        code = await run(settings, stop)
    except AccessError as error:
        _log.error("no way to the Kubernetes API: %s", error)
        code = 1
    except Exception:
        _log.exception("the operator ends")
        code = 1
    logging.shutdown()
    os._exit(code)  # asyncio.run would wait for tasks that no cancellation ends


def main() -> None:
    """Entry point of `podium-operator`."""
    settings = parse()
    memory.map_large_blocks()
    logs.configure(settings.log_level)
    _log.info("Podium %s", __version__)
    asyncio.run(_main(settings))


if __name__ == "__main__":
    main()
