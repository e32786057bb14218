"""Liveness, readiness and metrics over HTTP.

Alive: the event loop turns, no pass and no key is stuck, the watches are opened again and again
and tell what LISTs find. Ready: the caches are filled, every watch is open, and the Lease could be
read (a standby replica is ready too).
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from aiohttp import web

from podium.runtime.queue import QueueStats

STUCK_SECONDS = 600.0  # a pass has deadlines of seconds
# A watch ends after five minutes at the latest and is opened again: two of those and a little.
WATCH_DEAD_SECONDS = 720.0
API_AWAY_SECONDS = 30.0  # the Lease is renewed every two
LOOP_LAG_SECONDS = 10.0
BEAT_SECONDS = 1.0


class Health:
    """What is known about this process. Each check gives a sentence, or None when all is well.

    `watched` are the paths of the watches that must be open; `heard_ago` gives the seconds since
    the API server last answered about the Lease.
    """

    def __init__(
        self,
        stats: Callable[[], QueueStats],
        watched: Iterable[str],
        heard_ago: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._heard_ago = heard_ago
        self._clock = clock
        self._worst_lag = 0.0
        self._opened = dict.fromkeys(watched, clock())
        self._never_opened = set(self._opened)
        self.synced = False
        self.stale_watches: frozenset[str] = frozenset()

    def opened(self, path: str) -> None:
        """A watch was opened at that path of the API server."""
        for watched in self._opened:
            if path.endswith(watched):
                self._opened[watched] = self._clock()
                self._never_opened.discard(watched)

    @property
    def all_opened(self) -> bool:
        """Whether each watch was open once."""
        return not self._never_opened

    async def beat(self) -> None:
        """Runs for ever: measures how late the event loop is."""
        before = self._clock()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = self._clock()
            self._worst_lag = max(now - before - BEAT_SECONDS, self._worst_lag * 0.9)
            before = now

    def not_alive(self) -> str | None:
        stats = self._stats()
        if self._worst_lag > LOOP_LAG_SECONDS:
            return f"the event loop was {self._worst_lag:.1f} s late"
        if stats.longest_run > STUCK_SECONDS:
            return f"a pass has been running for {stats.longest_run:.0f} s"
        if stats.stuck > STUCK_SECONDS:
            return f"keys wait, and none has been taken for {stats.stuck:.0f} s"
        dead = self.stale_watches | self._dead_watches()
        if dead:
            return f"watches are dead: {', '.join(sorted(dead))}"
        return None

    def _dead_watches(self) -> frozenset[str]:
        """Those not opened again in time, though the API server is there: with it away, or just
        back, a restart of this process mends nothing."""
        heard_ago = self._heard_ago()
        if heard_ago is None or heard_ago > API_AWAY_SECONDS:
            return frozenset()
        latest = self._clock() - WATCH_DEAD_SECONDS
        return frozenset(path for path, at in self._opened.items() if at < latest)

    def not_ready(self) -> str | None:
        if not self.synced:
            if self._never_opened:
                return f"watches are not open yet: {', '.join(sorted(self._never_opened))}"
            return "the first LIST is not done"
        if self._heard_ago() is None:
            return "the Lease could not be read yet"
        return None


async def serve(
    bind: str, health_port: int, metrics_port: int, health: Health, metrics: Callable[[], bytes]
) -> list[web.AppRunner]:
    """Serves /healthz and /readyz, and /metrics; port 0 leaves one out. Clean up the runners.

    `metrics` is called in a thread of its own.
    """

    def answer(check: Callable[[], str | None]) -> Callable[[web.Request], object]:
        async def handle(_: web.Request) -> web.Response:
            trouble = check()
            return web.Response(status=503 if trouble else 200, text=(trouble or "ok") + "\n")

        return handle

    async def show_metrics(_: web.Request) -> web.Response:
        # Ten thousand promotions take a second, in which passes and the Lease should not wait.
        text = await asyncio.to_thread(metrics)
        return web.Response(body=text, content_type="text/plain", charset="utf-8")

    routes: dict[int, list[web.RouteDef]] = {}
    routes.setdefault(health_port, []).extend(
        [
            web.get("/healthz", answer(health.not_alive)),  # type: ignore[arg-type]
            web.get("/readyz", answer(health.not_ready)),  # type: ignore[arg-type]
        ]
    )
    routes.setdefault(metrics_port, []).append(web.get("/metrics", show_metrics))
    runners = []
    for port, paths in routes.items():
        if port == 0:
            continue
        application = web.Application()
        application.add_routes(paths)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, bind, port).start()
        runners.append(runner)
    return runners
