"""One MLflow server in use: its client, what is known of its models, and the poll that keeps
that true.

A model's snapshot is either from the poll or from a fresh read, whichever began later. After a
write of ours it counts with what the server acknowledged, or no longer.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from podium.api.model_registry import ModelRegistry
from podium.clock import SYSTEM, Clock
from podium.engine.ledger import PREFIX
from podium.engine.observation import Problem
from podium.registry.client import RegistryClient
from podium.registry.connection import seconds_until_worthwhile
from podium.registry.errors import RegistryError, RegistryUnavailable
from podium.registry.model import Capabilities, RegisteredModel, Version
from podium.registry.stored import StoredModel
from podium.runtime import problems
from podium.runtime.reading import Reading
from podium.runtime.snapshots import Snapshot, Snapshots, whole

REQUEST_SECONDS = 5.0
FAILURES_BEFORE_PROBLEM = 2
POLL_MOST_SECONDS = 120.0
LEAST_SHARE = 0.9  # of the interval, that is between two polls
IDLE_SHARE = 0.25  # of the time that the last poll took, at least, until the next begins

Amendment = Callable[[Snapshot], Snapshot]  # what a write made of the model

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A model that promotions use. `all_versions`: their selectors look at each version."""

    model: str
    all_versions: bool


class Connected:
    """A ModelRegistry whose client is up. `changed` is told of models to look at again (None:
    of all of them, the server's health or abilities changed)."""

    def __init__(
        self,
        registry: ModelRegistry,
        client: RegistryClient,
        wanted: Callable[[], Iterable[Wanted]],
        changed: Callable[[str | None], None],
        rng: random.Random,
        clock: Clock = SYSTEM,
        on_poll: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self.registry = registry
        self.client = client
        self.problem: Problem | None = None
        self.capabilities: Capabilities | None = None
        self.polled_at: float | None = None  # monotonic: when the last good poll began
        self._wanted = wanted
        self._changed = changed
        self._rng = rng
        self._clock = clock
        self._on_poll = on_poll  # told the seconds that a good poll took
        self._snapshots = Snapshots()
        self._reading = Reading(client, clock)
        self._written: dict[str, float] = {}
        self._failures = 0
        self._polls = 0
        self._poll_took = 0.0  # seconds
        self._not_before = 0.0  # monotonic: the server asked to be left alone until then
        self._hint = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._hint.set()
        self._task = asyncio.create_task(self._poll_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._reading.close()
        await self.client.close()

    @property
    def pending(self) -> bool:
        """Whether it is not known yet if the server is well."""
        return self.polled_at is None and self.problem is None

    def snapshot(self, model: str) -> Snapshot | None:
        """The last known state; None when there is none that may be believed."""
        as_of = self._snapshots.as_of(model)
        if as_of is None or as_of < self._written.get(model, 0.0):
            return None
        return self._snapshots.get(model)

    def outdated(self, model: str) -> None:
        """What was read of the model until now is old: it was, or may have been, written to."""
        self._written[model] = self._clock.monotonic()

    def amend(self, model: str, amendment: Amendment) -> None:
        """The server acknowledged a write to the model, and nothing else of it is known to be
        old."""
        known = self.snapshot(model)
        self.outdated(model)
        if known is None or not known.complete:
            return
        after = replace(amendment(known), amended_at=self._written[model])
        self._snapshots.put(model, after)
        if _news(known, after):
            # What one promotion did to the model, others wait for: the poll will see no change.
            self._changed(model)

    def poll_soon(self) -> None:
        self._hint.set()

    async def read(self, model: str) -> Snapshot:
        """The model and all its versions, read now. Raises RegistryError."""
        fresh = await self._reading.read(model)
        first = self._snapshots.as_of(model) is None
        if self._keep(model, fresh) and not first:
            self._changed(model)  # as in `amend`
        return fresh

    def _keep(self, model: str, fresh: Snapshot) -> bool:
        """Whether it is news."""
        known = self._snapshots.get(model)
        if known is not None and self._overtaken(model, known, fresh):
            return False
        self._snapshots.put(model, fresh)
        return known is None or _news(known, fresh)

    def _overtaken(self, model: str, known: Snapshot, fresh: Snapshot) -> bool:
        """Whether more is known by now than when `fresh` was asked for. What it may show of
        others beside a write of ours since must be read again."""
        if known.as_of <= fresh.read_at:
            return False
        if known.read_at <= fresh.read_at:
            self.outdated(model)
        return True

    async def _until_due(self) -> None:
        """At most the interval from when the last poll began, doubled by each failure; a hint cuts
        it short, Retry-After does not."""
        interval = self.registry.spec.poll_interval.seconds
        longest = min(interval * 2.0 ** min(self._failures, 8), max(POLL_MOST_SECONDS, interval))
        # A server that is busy with polls for longer than the interval has pauses, too.
        least = self._poll_took * IDLE_SHARE
        if self._polls > 1:
            pause = max(longest * self._rng.uniform(LEAST_SHARE, 1.0) - self._poll_took, least)
        else:
            # All registries of a server are first polled together; then spread over what is left.
            pause = max(longest - self._poll_took, least) * self._rng.uniform(0.0, 1.0)
        # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the hint.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._hint.wait()
        self._hint.clear()
        if (left := self._not_before - self._clock.monotonic()) > 0:
            # Only ever later than asked for, and not all registries behind one proxy at once.
            await self._clock.sleep(left * self._rng.uniform(1.0, 1.1))

    async def _poll_for_ever(self) -> None:
        while True:
            await self._until_due()
            began = self._clock.monotonic()
            try:
                await self._poll()
            except RegistryError as error:
                self.failed(error)
            except Exception as error:
                _log.exception("poll failed; it is tried again")
                # Told too: passes wait for a registry of which nothing is known.
                said = f"an unexpected {type(error).__name__} (see the operator's log)"
                self.failed(RegistryUnavailable(f"The registry could not be polled: {said}."))
            else:
                self._on_poll(self._clock.monotonic() - began)
                self._worked()
            self._polls += 1
            self._poll_took = self._clock.monotonic() - began

    def failed(self, error: RegistryError) -> None:
        """The server did not serve a poll or a probe."""
        self._failures += 1
        if (wait := seconds_until_worthwhile(error)) is not None:
            self._not_before = self._clock.monotonic() + wait
        if self._failures < FAILURES_BEFORE_PROBLEM and self.polled_at is not None:
            return
        problem = problems.of_registry(error)
        if self.problem is not None and self.problem.reason is problem.reason:
            return  # other words for the same would be a write to each promotion's status
        self.problem = problem
        _log.warning("registry is unwell: %s", error)
        self._changed(None)

    def learned(self, capabilities: Capabilities) -> None:
        """What the server can do is known better than before."""
        known, self.capabilities = self.capabilities, capabilities
        if known is not None and known != capabilities:
            self._changed(None)

    def _worked(self) -> None:
        """A poll went well. (That a probe did would say nothing about polls.)"""
        self._failures = 0
        if self.problem is not None:
            self.problem = None
            _log.info("registry is well again")
            self._changed(None)

    async def _poll(self) -> None:
        """Asks portion by portion, and tells of each what changed before it asks for the next:
        ten thousand models take seconds."""
        wanted = {w.model: w for w in self._wanted()}
        self._forget_all_but(wanted.keys())
        began = asked = self._clock.monotonic()
        pending = self.pending
        if self.capabilities is None:
            self.capabilities = await self.client.capabilities()
        if wanted:
            async for names, found in self.client.search_portions(list(wanted)):
                portion = {name: wanted[name] for name in names}
                for model in await self._polled(portion, found, asked):
                    # A pass that sees `pending` ends and waits to be told: not before it is over.
                    if not pending:
                        self._changed(model)
                asked = self._clock.monotonic()
        self.polled_at = began
        if pending:  # and a promotion that came during the poll waits for the end of it
            self._changed(None)

    def _forget_all_but(self, wanted: Collection[str]) -> None:
        self._snapshots.keep_only(wanted)
        for model in self._written.keys() - wanted:
            del self._written[model]

    async def _polled(
        self, portion: Mapping[str, Wanted], found: Mapping[str, StoredModel], asked: float
    ) -> list[str]:
        """Keeps what the server answered when it was asked then. Gives the models that are not as
        they were."""
        seen: dict[str, tuple[RegisteredModel | None, bytes | None]] = {}
        for name, want in portion.items():
            stored = found.get(name)
            if stored is None:
                seen[name] = None, None
            elif want.all_versions or not self._snapshots.unchanged(name, stored.digest, asked):
                seen[name] = stored.decode(), stored.digest
        all_of = [name for name, (model, _) in seen.items() if self._asks_all(portion[name], model)]
        versions = await self.client.search_versions_of(all_of) if all_of else {}
        changed = []
        for name, (model, written) in seen.items():
            if name in all_of or model is None:
                fresh = whole(asked, model, versions.get(name, ()))
            else:
                fresh = Snapshot(asked, model, {}, whole_at=None)
            if self._keep_polled(name, fresh, written):
                changed.append(name)
        return changed

    def _asks_all(self, want: Wanted, found: RegisteredModel | None) -> bool:
        """Whether all versions of the model must be read, or the newest of each stage will do."""
        if found is None:
            return False
        if want.all_versions:
            return True
        known = self._snapshots.get(want.model)
        if known is not None:
            return _model_content(known.model) != _model_content(found)
        # At first sight the newest of each stage usually tell enough: ten thousand models must
        # not cost the versions of ten thousand models.
        newest = {version.version: version for version in found.latest_versions}
        aliased = newest.keys() >= set(found.aliases.values())
        return not aliased or any(version.status != "READY" for version in newest.values())

    def _keep_polled(self, name: str, fresh: Snapshot, written: bytes | None) -> bool:
        """Keeps what a poll found; whether it is news. Podium's own tags are here, where no write
        of ours came between: what a pass wrote, its next pass has read, so a difference is a
        request that the network delayed."""
        believed = self.snapshot(name)
        known = self._snapshots.get(name)
        if known is not None and self._overtaken(name, known, fresh):
            return self.snapshot(name) is None
        if fresh.model is not None and not fresh.complete:
            newest = {version.version: version for version in fresh.model.latest_versions}
            versions = {**known.versions, **newest} if known is not None else newest
            whole_at = known.whole_at if known is not None else None
            fresh = Snapshot(fresh.read_at, fresh.model, versions, whole_at)
        self._snapshots.put(name, fresh, written)
        if known is None or _news(known, fresh):
            return True
        return believed is not None and _tags(believed) != _tags(fresh)


def _model_content(model: RegisteredModel | None) -> object:
    """What a change of must wake a promotion. Podium's own tags are left out, or its writes
    would wake it."""
    if model is None:
        return None
    return (
        dict(model.aliases),
        _others(model.tags),
        tuple(_version_content(version) for version in model.latest_versions),
    )


def _tags(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.model.tags if snapshot.model is not None else {}


def _version_content(version: Version) -> object:
    return (version.version, version.stage, version.status, version.source, _others(version.tags))


def _others(tags: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in tags.items() if not k.startswith(PREFIX)}


def _news(known: Snapshot, fresh: Snapshot) -> bool:
    """Whether something is not as it was known to be. Versions that are read for the first time
    are none."""
    if _model_content(known.model) != _model_content(fresh.model):
        return True
    before = {v: _version_content(version) for v, version in known.versions.items()}
    seen = before.keys() | (fresh.versions.keys() if known.complete else ())
    after = {v: _version_content(fresh.versions[v]) for v in seen & fresh.versions.keys()}
    return before != after
