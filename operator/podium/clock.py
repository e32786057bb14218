"""Time as the operator takes it: elapsed, of day, and waiting. A test brings its own.

Only what must not be taken from the event loop is here; deadlines of a single request are the
loop's.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

# CLOCK_MONOTONIC stands still while Linux is suspended; a Lease does not.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Seconds that never go back and never pause."""

    def now(self) -> datetime:
        """The time of day, in UTC. It may be set, forward or back."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        return time.clock_gettime(_ELAPSED)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


SYSTEM = SystemClock()
