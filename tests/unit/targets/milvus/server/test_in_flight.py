"""Concurrent calls: never more than the limit, and their follow-ups run in order."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from threading import Barrier, Event, Lock

import pytest

from airflow_provider_milvusdm.targets.milvus.server.in_flight import InFlight


class Calls:
    """Counts the calls that run at the same time."""

    def __init__(self) -> None:
        self.lock, self.running, self.peak = Lock(), 0, 0
        self.followed: list[int] = []

    def run(self, wait: float = 0.001) -> None:
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
        Event().wait(wait)
        with self.lock:
            self.running -= 1


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_follow_ups_run_in_order_and_calls_stay_below_the_limit(limit):
    calls = Calls()
    with closing(InFlight(limit)) as in_flight:
        for number in range(20):
            in_flight.start(partial(calls.run, 0.01 * (number % 3)), partial(calls.followed.append, number))
        in_flight.settle()
    assert calls.followed == list(range(20))
    assert calls.peak <= limit


def test_calls_run_concurrently():
    meeting = Barrier(3, timeout=10)
    with closing(InFlight(3)) as in_flight:
        for _ in range(3):
            in_flight.start(meeting.wait, lambda: None)
        in_flight.settle()
    assert not meeting.broken


def test_a_slow_call_delays_follow_ups_but_no_other_call():
    calls, others_ended = Calls(), Event()
    with closing(InFlight(2)) as in_flight:
        in_flight.start(lambda: others_ended.wait(10), partial(calls.followed.append, 0))
        for number in range(1, 6):
            in_flight.start(calls.run, partial(calls.followed.append, number))
        assert calls.followed == []
        others_ended.set()
        in_flight.settle()
    assert calls.followed == list(range(6))


def test_nothing_follows_a_failed_call_and_running_calls_end_first():
    calls, other_started = Calls(), Event()
    with pytest.raises(ZeroDivisionError), closing(InFlight(2)) as in_flight:  # noqa: PT012
        in_flight.start(lambda: other_started.wait(10) // 0, partial(calls.followed.append, 0))
        in_flight.start(lambda: other_started.set() or calls.run(0.2), partial(calls.followed.append, 1))
        in_flight.settle()
    assert (calls.followed, calls.peak, calls.running) == ([], 1, 0)
