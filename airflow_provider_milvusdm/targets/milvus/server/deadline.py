"""Deadlines of requests: the clock continues while the machine is suspended."""

from __future__ import annotations

import time


def seconds_left(deadline: float) -> float:
    """Seconds until ``deadline``, at least 0."""
    return max(deadline - seconds_since_boot(), 0)


def seconds_since_boot() -> float:
    """Seconds since the machine started, including those in which it was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
