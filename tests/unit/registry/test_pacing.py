"""Rate limit, breaker and Retry-After, with a clock that stands still until told."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from podium.registry.errors import RegistryThrottled, RegistryUnavailable
from podium.registry.pacing import CircuitBreaker, RateLimit, Throttle, retry_after_seconds

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class HandClock:
    """A clock that only `sleep` and the test move."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds - 1000.0)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


async def test_a_burst_passes_at_once_and_then_the_rate_holds() -> None:
    clock = HandClock()
    limit = RateLimit(2.0, clock, burst=3)
    for _ in range(3):
        await limit.wait(at_most=0)
    assert clock.seconds == 1000.0
    for _ in range(4):
        await limit.wait(at_most=10)
    assert clock.seconds == pytest.approx(1002.0)


async def test_a_turn_too_far_away_is_refused_at_once() -> None:
    clock = HandClock()
    limit = RateLimit(1.0, clock, burst=1)
    await limit.wait(at_most=0)
    with pytest.raises(RegistryThrottled) as refused:
        await limit.wait(at_most=0.5)
    assert refused.value.retry_after == pytest.approx(1.0)
    assert clock.seconds == 1000.0


def breaker(clock: HandClock) -> CircuitBreaker:
    return CircuitBreaker(clock, random.Random(1), threshold=3, first_open=4.0)


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    tried = breaker(HandClock())
    for _ in range(2):
        tried.failed()
    tried.succeeded()
    for _ in range(2):
        tried.failed()
    tried.admit()
    tried.failed()
    with pytest.raises(RegistryUnavailable) as refused:
        tried.admit()
    assert 2.0 <= (refused.value.retry_after or 0) <= 4.0


def test_a_half_open_breaker_lets_one_request_through_at_a_time() -> None:
    clock = HandClock()
    tried = breaker(clock)
    for _ in range(3):
        tried.failed()
    clock.seconds += 4.0
    tried.admit()
    with pytest.raises(RegistryUnavailable):
        tried.admit()
    tried.abandoned()
    tried.admit()
    tried.succeeded()
    tried.admit()
    tried.admit()
    assert not tried.is_open


def test_an_open_breaker_waits_longer_each_time_and_never_over_a_minute() -> None:
    clock = HandClock()
    tried = breaker(clock)
    waits = []
    for _ in range(12):
        tried.failed()
        try:
            tried.admit()
        except RegistryUnavailable as refused:
            waits.append(refused.retry_after or 0)
            clock.seconds += 60.0
            tried.admit()
    assert waits[0] <= 4.0 < waits[2]
    assert 30.0 <= waits[-1] <= 60.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("999999999999", 300),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 11:00:30 GMT", 1),
        (None, 5),
        ("soon", 5),
        ("-3", 5),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(header: str | None, seconds: int) -> None:
    assert retry_after_seconds(header, NOON) == seconds


def test_after_a_429_nothing_is_sent_until_its_time_has_passed() -> None:
    clock = HandClock()
    throttle = Throttle(clock)
    throttle.admit()
    throttle.throttled("10")
    throttle.throttled("2")  # a shorter wish does not shorten an earlier one
    clock.seconds += 9.9
    with pytest.raises(RegistryThrottled):
        throttle.admit()
    clock.seconds += 0.2
    throttle.admit()


def test_after_a_503_that_says_when_the_registry_is_away_and_not_throttling() -> None:
    clock = HandClock()
    throttle = Throttle(clock)
    throttle.throttled("Sat, 21 Nov 2026 12:01:00 GMT", away=True)
    clock.seconds += 30
    with pytest.raises(RegistryUnavailable) as refused:
        throttle.admit()
    assert refused.value.retry_after == pytest.approx(30)
    throttle.throttled("10")  # shorter: what was said first still holds
    clock.seconds += 20
    with pytest.raises(RegistryUnavailable):
        throttle.admit()
    clock.seconds += 10.1
    throttle.admit()


def test_no_refusal_has_a_number_that_changes_with_each_try() -> None:
    """It stands in the status of every promotion: each new text would be a write to all."""
    clock = HandClock()
    throttle, tried = Throttle(clock), breaker(clock)
    throttle.throttled("10")
    said = set()
    for _ in range(3):
        for _ in range(3):
            tried.failed()
        for admit in (throttle.admit, tried.admit):
            with pytest.raises((RegistryThrottled, RegistryUnavailable)) as refused:
                admit()
            said.add(str(refused.value))
        clock.seconds += 1.0
    assert len(said) == 2
