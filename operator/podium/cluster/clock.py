"""Elapsed time as leases and deadlines need it: it goes on while the machine sleeps."""

import time

# CLOCK_MONOTONIC stands still while Linux is suspended; a Lease does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds that never go back and never pause."""
    return time.clock_gettime(_CLOCK)
