"""Deadlines of requests: the clock continues while the machine is suspended."""

from __future__ import annotations

import time

from airflow_provider_milvusdm.exceptions import LateError


def seconds_left(deadline: float) -> float:
    """Seconds until ``deadline``.

    Raises LateError where it is over: gRPC may send a request that has no time left, and a server accept it.
    """
    left = deadline - seconds_since_boot()
    if left <= 0:
        raise LateError(
            "a request to the target was not sent",
            expected="a process that is not suspended",
            found=f"a deadline that was over {-left:.1f} s ago",
            cure="A retry looks at the target again.",
        )
    return left


def seconds_since_boot() -> float:
    """Seconds since the machine started, including those in which it was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
