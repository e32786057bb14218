"""Leader election over one Lease, by the rules of client-go's leaderelection package.

A Lease is expired when this process has seen it unchanged for its duration by its own clock:
wall clocks of machines are never compared. The Lease is surely ours for its duration from
*before* the renewal was sent. client-go: tools/leaderelection/leaderelection.go.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace

from podium.clock import SYSTEM, Clock
from podium.cluster.errors import ClusterError, Conflict, NotFound, NotLeader
from podium.cluster.events import micro_time
from podium.cluster.lease import LeaseRecord, LeaseStore, older

LEASE_SECONDS = 12
RENEW_SECONDS = 2.0  # between the starts of two renewals
# A standby looks twice as often: what it sees late of the last renewal, a failover takes longer.
LOOKS_PER_RENEWAL = 2

_log = logging.getLogger(__name__)


def new_identity(pod_name: str) -> str:
    """The holder's name: a pod that was restarted in place is another holder."""
    return f"{pod_name}_{secrets.token_hex(4)}"


class WentBackError(Exception):
    """The API server knows less than it did. What this process remembers of it, and its watches,
    which wait for what comes after the newest that they saw, are worth nothing any more."""


class LeaderElection:
    """This replica's part in the election. Whoever makes it runs `run()` as a task and awaits it.

    After a loss it stands for election again; `on_lost` may end the process instead.
    """

    def __init__(
        self,
        store: LeaseStore,
        *,
        identity: str,
        able: Callable[[], bool] = lambda: True,
        on_acquired: Callable[[], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        lease_seconds: int = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
        clock: Clock = SYSTEM,
    ) -> None:
        """Only while it is `able` to do the work it takes a Lease; it watches another's before."""
        self.identity = identity
        self._able = able
        self._store = store
        self._on_acquired = on_acquired or (lambda: None)
        self._on_lost = on_lost or (lambda: None)
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._clock = clock
        self._observed: LeaseRecord | None = None
        self._observed_at = 0.0
        self._newest = ""
        self._ours_until: float | None = None
        self._led = False  # as those who wait were told
        self._heard_at: float | None = None
        self._changed = asyncio.Condition()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    def valid_for(self) -> float:
        """Seconds for which the Lease is surely ours; 0 or less: it is not, or may not be."""
        return 0.0 if self._ours_until is None else self._ours_until - self._clock.monotonic()

    def heard_ago(self) -> float | None:
        """Seconds since the API server last answered about the Lease; None: not yet."""
        return None if self._heard_at is None else self._clock.monotonic() - self._heard_at

    @property
    def is_leader(self) -> bool:
        return self.valid_for() > 0

    def fence(self, seconds: float) -> None:
        """Raises NotLeader unless the Lease outlasts a write that may take so many seconds."""
        left = self.valid_for()
        if left < seconds:
            raise NotLeader(
                f"This replica holds the Lease for {max(0.0, left):.1f} s more and a write may "
                f"take {seconds:g} s: nothing was sent. The leader does this work."
            )

    async def wait_for_leadership(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_leader)

    async def run(self) -> None:
        """Stands for election, and renews, until `stop()` or cancelled (then without release).

        Raises WentBackError.
        """
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                started = self._clock.monotonic()
                await self._turn()
                await self._pause(started)
            await self._release()
        finally:
            self._ours_until = None
            self._ended.set()

    async def stop(self) -> None:
        """Ends `run()` and gives the Lease away, so that another replica need not wait."""
        self._stopping.set()
        await self._ended.wait()

    async def _turn(self) -> None:
        """One try to get or to keep the Lease."""
        try:
            await self._try()
        except ClusterError as error:
            _log.warning("Lease: %s", error)
        else:
            self._heard_at = self._clock.monotonic()
        # By what was told: the Lease may have been got, and have run out, within one request.
        if self._led and not self.is_leader:
            self._led = False
            self._ours_until = None
            _log.warning("The Lease is lost; this replica (%s) no longer leads.", self.identity)
            self._on_lost()
        elif self.is_leader:
            async with self._changed:
                self._changed.notify_all()  # who found it run out waits, though it was not lost
            if not self._led:
                self._led = True
                _log.info("This replica (%s) leads.", self.identity)
                self._on_acquired()

    async def _try(self) -> None:
        if not self.is_leader:
            # Also after a renewal whose answer was lost: what is stored is not what was seen last.
            self._observe(await self._store.read())
        observed = self._observed
        if observed is not None and observed.holder not in ("", self.identity):
            self._ours_until = None
            if self._expires_in() > 0:
                return
        if not self.is_leader and not self._able():
            return
        started = self._clock.monotonic()
        try:
            written = await self._write(observed)
        except (Conflict, NotFound):
            # Somebody else was faster, edited or deleted it: what they left is looked at.
            self._observe(await self._store.read())
            self._give_way()
            return
        self._observe(written)
        self._ours_until = started + self._lease_seconds

    async def _write(self, observed: LeaseRecord | None) -> LeaseRecord:
        if observed is None:
            return await self._store.create(self._new_term(0, ""))
        if observed.holder == self.identity:
            return await self._store.replace(replace(observed, renewed=self._now()))
        return await self._store.replace(self._new_term(observed.transitions + 1, observed.version))

    def _new_term(self, transitions: int, version: str) -> LeaseRecord:
        now = self._now()
        return LeaseRecord(self.identity, self._lease_seconds, now, now, transitions, version)

    def _now(self) -> str:
        return micro_time(self._clock.now())

    def _observe(self, record: LeaseRecord | None) -> None:
        if record is not None:
            if older(record.version, self._newest):
                raise WentBackError(
                    f"The Lease has resourceVersion {record.version} and had {self._newest}: etcd "
                    "was restored from a backup. This process ends, and begins anew with what the "
                    "API server knows now."
                )
            self._newest = record.version
        if record != self._observed:
            self._observed = record
            self._observed_at = self._clock.monotonic()

    def _give_way(self) -> None:
        if self._observed is None or self._observed.holder != self.identity:
            self._ours_until = None

    def _expires_in(self) -> float:
        """Seconds until another's Lease has gone unchanged for as long as it says it lasts."""
        if self._observed is None:
            return 0.0
        return self._observed_at + self._observed.seconds - self._clock.monotonic()

    async def _pause(self, started: float) -> None:
        """Until the next try is due: at the latest when the other's Lease, or ours, runs out."""
        every = self._renew_seconds / (1 if self.is_leader else LOOKS_PER_RENEWAL)
        wait = started + every - self._clock.monotonic()
        if self.is_leader:
            wait = min(wait, self.valid_for())
        elif self._observed is not None and self._expires_in() > 0:
            wait = min(wait, self._expires_in())
        stopping = asyncio.ensure_future(self._stopping.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(max(0.05, wait)))
        try:
            await asyncio.wait({stopping, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            sleeping.cancel()

    async def _release(self) -> None:
        """Leaves the Lease to whoever comes first. A failure only makes them wait."""
        record = self._observed
        held = self.is_leader and record is not None and record.holder == self.identity
        self._ours_until = None
        if not held or record is None:
            return
        try:
            await self._store.replace(
                LeaseRecord(
                    holder="",
                    seconds=1,
                    renewed=self._now(),
                    acquired=record.acquired,
                    transitions=record.transitions,
                    version=record.version,
                )
            )
        except ClusterError as error:
            _log.warning("The Lease could not be released; it runs out by itself: %s", error)
