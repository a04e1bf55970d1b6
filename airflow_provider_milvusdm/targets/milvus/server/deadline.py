"""Deadlines of requests, which go on while the machine is suspended."""

from __future__ import annotations

import time


def seconds_left(deadline: float) -> float:
    """Seconds until then, none where it is over."""
    return max(deadline - seconds_since_boot(), 0)


def seconds_since_boot() -> float:
    """Seconds that go on while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
