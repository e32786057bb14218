"""Liveness, readiness and metrics over HTTP.

Alive: the event loop turns, no pass and no key is stuck, the watches tell what LISTs find.
Ready: the first LIST is done (a standby replica is ready too).
"""

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from podium.runtime.queue import QueueStats

STUCK_SECONDS = 600.0  # a pass has deadlines of seconds; a key may wait behind many
LOOP_LAG_SECONDS = 10.0
BEAT_SECONDS = 1.0


class Health:
    """What is known about this process. Each check gives a sentence, or None when all is well."""

    def __init__(self, stats: Callable[[], QueueStats]) -> None:
        self._stats = stats
        self._beat = time.monotonic()
        self._worst_lag = 0.0
        self.synced = False
        self.stale_watches: frozenset[str] = frozenset()

    async def beat(self) -> None:
        """Runs for ever: measures how late the event loop is."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.monotonic()
            self._worst_lag = max(now - self._beat - BEAT_SECONDS, self._worst_lag * 0.9)
            self._beat = now

    def not_alive(self) -> str | None:
        stats = self._stats()
        if self._worst_lag > LOOP_LAG_SECONDS:
            return f"the event loop was {self._worst_lag:.1f} s late"
        if stats.longest_run > STUCK_SECONDS:
            return f"a pass has been running for {stats.longest_run:.0f} s"
        if stats.oldest > STUCK_SECONDS:
            return f"a key has been waiting for {stats.oldest:.0f} s"
        if self.stale_watches:
            return f"watches are dead: {', '.join(sorted(self.stale_watches))}"
        return None

    def not_ready(self) -> str | None:
        return None if self.synced else "the first LIST is not done"


async def serve(
    bind: str, health_port: int, metrics_port: int, health: Health, metrics: Callable[[], bytes]
) -> list[web.AppRunner]:
    """Serves /healthz and /readyz, and /metrics; port 0 leaves one out. Clean up the runners."""

    def answer(check: Callable[[], str | None]) -> Callable[[web.Request], object]:
        async def handle(_: web.Request) -> web.Response:
            trouble = check()
            return web.Response(status=503 if trouble else 200, text=(trouble or "ok") + "\n")

        return handle

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), content_type="text/plain", charset="utf-8")

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
