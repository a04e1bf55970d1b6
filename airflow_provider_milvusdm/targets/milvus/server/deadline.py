"""Deadlines of requests: the clock continues while the machine is suspended."""

from __future__ import annotations

import time
from typing import Self

from airflow_provider_milvusdm.exceptions import LateError


class SecondsLeft(float):
    """The timeout of requests that have a deadline, in seconds; raises LateError where it is over.

    pymilvus repeats a request that fails, such as during a restart of the server, with the timeout that it was given
    for the first attempt, and the process may be suspended before it does. gRPC adds the timeout to the time at which
    it sends an attempt: here the sum is the deadline itself.
    """

    deadline: float

    def __new__(cls, deadline: float) -> Self:
        left = deadline - seconds_since_boot()
        if left <= 0:
            raise LateError(
                "a request to the target was not sent",
                expected="a process that is not suspended",
                found=f"a deadline that was over {-left:.1f} s ago",
                cure="A retry looks at the target again.",
            )
        timeout = super().__new__(cls, left)
        timeout.deadline = deadline
        return timeout

    def __radd__(self, now: float) -> float:
        return now + float(SecondsLeft(self.deadline))


def seconds_left(deadline: float) -> float:
    """Seconds until ``deadline``, as the timeout of a request and of its repetitions: see :class:`SecondsLeft`.

    Raises LateError where it is over: gRPC may send a request that has no time left, and a server accept it.
    """
    return SecondsLeft(deadline)


def seconds_since_boot() -> float:
    """Seconds since the machine started, including those in which it was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
