"""Deadlines of requests, which go on while the machine is suspended."""

from __future__ import annotations

import time


class LateError(RuntimeError):
    """This process has slept over a request, which is not sent any more; a retry looks anew."""


def seconds_left(deadline: float) -> float:
    """Seconds until then; LateError where it is over: gRPC may send what has no time left, and a server take it."""
    left = deadline - seconds_awake_or_not()
    if left <= 0:
        raise LateError(
            f"A request to the target was not sent: it had to be taken {-left:.1f} s ago. Expected a process that goes "
            "on, found one that was stopped or suspended. A retry looks at the target anew."
        )
    return left


def seconds_awake_or_not() -> float:
    """Seconds that go on while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
