"""Watches in simulated time, in kopf's place: they tell `hints` what changed, late or not at all.

Order holds within one kind, never between two. A watch that fell behind a compaction begins anew
at what is now, and tells nothing of what came before.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from podium.cluster.access import Access
from podium.cluster.resources import DEPLOYMENTS, PODIUM, PodiumKind
from podium.runtime.hints import Hints
from podium.runtime.shell import Opened
from tests.faults.calls import System
from tests.faults.schedules.loop import Process
from tests.faults.schedules.network import Network
from tests.models.http import Asked
from tests.models.kubernetes import ApiServer, Gone

KINDS = {
    "modelpromotions": PODIUM[PodiumKind.PROMOTIONS],
    "promotiondecisions": PODIUM[PodiumKind.DECISIONS],
    "modelregistries": PODIUM[PodiumKind.REGISTRIES],
    "deployments": DEPLOYMENTS,
}

RETRY_SECONDS = 2.0


@dataclass
class Bad:
    """What is wrong with one replica's watches. Keys are plurals; the n-th event counts from 1,
    since the drive of the story began."""

    lag: dict[str, float] = field(default_factory=dict)  # seconds, on top of the usual
    dropped: set[tuple[str, int]] = field(default_factory=set)
    twice: set[tuple[str, int]] = field(default_factory=set)
    armed: bool = False
    seen: Counter[str] = field(default_factory=Counter)


@dataclass
class Watches:
    """`shell.watch` for one process. `changed` returns when something was written since."""

    api: ApiServer
    network: Network
    process: Process
    changed: Callable[[], Awaitable[None]]
    bad: Bad
    rng: random.Random
    note: Callable[[str], None]

    async def __call__(
        self,
        access: Access,
        hints: Hints,
        opened: Opened,
        namespaces: tuple[str, ...],
        stop: asyncio.Event,
        ready: asyncio.Event,
    ) -> None:
        tell = {
            "modelpromotions": hints.promotion,
            "promotiondecisions": hints.decision,
            "modelregistries": hints.registry,
            "deployments": hints.deployment,
        }
        tasks = [
            asyncio.create_task(self._watch(plural, namespaces[0], tell[plural], opened))
            for plural in KINDS
        ]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (stopping, *tasks):
                task.cancel()

    async def _watch(
        self,
        plural: str,
        namespace: str,
        tell: Callable[[str | None, Any], object],
        opened: Opened,
    ) -> None:
        path = KINDS[plural].path(namespace)
        while True:
            await self._way()
            listed = json.loads(self.api.answer(Asked("GET", path)).body)
            revision = int(listed["metadata"]["resourceVersion"])
            await self._lag(plural)
            opened(path, True)
            try:
                await self._follow(plural, path, revision, tell)
            except Gone:
                self.note(f"{self.process.name}: watch of {plural} is gone and begins anew")

    async def _follow(
        self, plural: str, path: str, revision: int, tell: Callable[[str | None, Any], object]
    ) -> None:
        while True:
            events = self.api.events_since(path, revision)
            if not events:
                await self.changed()
                continue
            await self._lag(plural)
            await self._way()
            for at, kind, found in events:
                self._deliver(plural, kind, found, tell)
                revision = at

    async def _way(self) -> None:
        """kopf tries again and again, seconds apart."""
        while self.network.is_cut(self.process, System.KUBERNETES):  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)

    async def _lag(self, plural: str) -> None:
        usual = self.rng.uniform(0.002, 0.02)
        await asyncio.sleep(usual + self.bad.lag.get(plural, 0.0))

    def _deliver(
        self, plural: str, event: str, found: Any, tell: Callable[[str | None, Any], object]
    ) -> None:
        if self.bad.armed:
            self.bad.seen[plural] += 1
        key = (plural, self.bad.seen[plural])
        if key in self.bad.dropped:
            self.note(f"{self.process.name}: event {key[1]} of {plural} ({event}) is lost")
            return
        tell(event, found)
        if key in self.bad.twice:
            tell(event, found)
