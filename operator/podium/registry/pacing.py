"""How often, and whether at all, a registry is asked: rate limit, circuit breaker, Retry-After.

One of each per registry. They decide and remember; they send nothing.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from podium.clock import Clock
from podium.registry.errors import RegistryThrottled, RegistryUnavailable

BREAKER_MAX_OPEN_SECONDS = 60.0
RETRY_AFTER_DEFAULT_SECONDS = 5.0
RETRY_AFTER_MAX_SECONDS = 300.0


class RateLimit:
    """A token bucket: `per_second` requests on average, and bursts of `burst`."""

    def __init__(self, per_second: float, clock: Clock, *, burst: float | None = None) -> None:
        if per_second <= 0:
            raise ValueError("The rate limit must be above 0 requests per second.")
        self._per_second = per_second
        self._burst = burst if burst is not None else max(10.0, per_second)
        self._clock = clock
        self._tokens = self._burst
        self._refilled_at = clock.monotonic()

    async def wait(self, *, at_most: float) -> None:
        """Wait for a turn; RegistryThrottled at once when that would take over `at_most` s."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._per_second)
        self._refilled_at = now
        delay = (1 - self._tokens) / self._per_second
        if delay > at_most:
            raise RegistryThrottled(
                "Too many requests to this registry are waiting for their turn at Podium's own "
                f"rate limit ({self._per_second:g} per second). Podium asks again later.",
                retry_after=delay,
            )
        # The turn is taken before the wait, so that others queue behind it in order.
        self._tokens -= 1
        if delay > 0:
            await self._clock.sleep(delay)


class CircuitBreaker:
    """Stops asking a server that keeps failing, and lets one request at a time find out.

    Opens after `threshold` failures in a row, for a time that doubles with each failed try, from
    `first_open` to 60 seconds, with jitter so that many registries behind one proxy do not come
    back at once.
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        threshold: int = 5,
        first_open: float = 1.0,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._threshold = threshold
        self._first_open = first_open
        self._failures = 0
        self._open_until: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether requests are refused, or only a single one tried."""
        return self._open_until is not None

    def admit(self) -> None:
        """Let the request through, or raise RegistryUnavailable without asking the server."""
        if self._open_until is None:
            return
        remaining = self._open_until - self._clock.monotonic()
        if remaining > 0 or self._trying:
            raise RegistryUnavailable(
                # No number in it: the text stands in status, and each new one would be a write.
                "The registry failed several times in a row; Podium asks it again by itself. "
                "Nothing that serves changes meanwhile.",
                retry_after=max(remaining, 1.0),
            )
        self._trying = True

    def succeeded(self) -> None:
        """The server gave an answer that shows it is well."""
        self._failures = 0
        self._open_until = None
        self._trying = False

    def failed(self) -> None:
        """The server gave no usable answer."""
        self._failures += 1
        self._trying = False
        if self._failures >= self._threshold:
            longest = self._first_open * 2.0 ** min(self._failures - self._threshold, 16)
            longest = min(longest, BREAKER_MAX_OPEN_SECONDS)
            self._open_until = self._clock.monotonic() + longest * self._rng.uniform(0.5, 1.0)

    def abandoned(self) -> None:
        """The request ended without telling anything about the server (it was cancelled)."""
        self._trying = False


class Throttle:
    """Remembers a 429, or a 503 with Retry-After: until its time has passed nothing is sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._away = False

    @property
    def remaining(self) -> float:
        """Seconds."""
        return max(0.0, self._until - self._clock.monotonic())

    def admit(self) -> None:
        """Raise RegistryThrottled (after a 503 RegistryUnavailable) while the server wants to be
        left alone."""
        remaining = self.remaining
        if not remaining:
            return
        if self._away:
            raise RegistryUnavailable(
                "The registry is not available for now (503) and says when to ask again "
                "(Retry-After); Podium waits until then.",
                retry_after=remaining,
            )
        raise RegistryThrottled(
            "The registry asked for fewer requests; Podium waits for as long as it asked.",
            retry_after=remaining,
        )

    def throttled(self, retry_after_header: str | None, *, away: bool = False) -> float:
        """Note a 429 (or, `away`, a 503) and give the seconds to wait."""
        seconds = retry_after_seconds(retry_after_header, self._clock.now())
        until = self._clock.monotonic() + seconds
        if until > self._until:
            self._until, self._away = until, away
        return seconds


def retry_after_seconds(header: str | None, now: datetime) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110 10.2.3: seconds or a date)."""
    seconds = RETRY_AFTER_DEFAULT_SECONDS
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    elif text:
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return seconds
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        seconds = (until - now).total_seconds()
    return min(max(seconds, 1.0), RETRY_AFTER_MAX_SECONDS)
