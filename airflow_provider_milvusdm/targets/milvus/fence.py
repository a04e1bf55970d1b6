"""An attempt that was given up writes no more: it checks the target before each request, which has a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_milvusdm.progress import progress
from airflow_provider_milvusdm.targets.milvus.runs import Run, Runs
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot

FENCE_SECONDS = 1
REQUEST_SECONDS = 120
"""Seconds after the last look at the target in which a server may accept a request. What arrives later it drops: see
:mod:`airflow_provider_milvusdm.targets.milvus.server.sending`."""


def new_deadline() -> float:
    """The deadline of requests that are decided on now, for :func:`sent_before`.

    Take it before looking at what they depend on: a process that is suspended afterwards sends none of them.
    """
    return seconds_since_boot() + REQUEST_SECONDS


class Fence:
    """Checks before a request is sent that the target is still ours, as the process may have been suspended.

    Where a collection has a name of its own, the target itself refuses late requests. Where rows are added to an
    existing collection, this class does.

    :param look: raises an error where nothing may be written any more.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self.look, self.looked = look, 0.0

    def check(self) -> float:
        """The deadline of the request, for :func:`start_before`; raises what ``look`` raises.

        Calls ``look`` at most once every :data:`FENCE_SECONDS`. The deadline counts from before the call, because the
        process may be suspended before it has the answer.
        """
        looked, now = self.looked, seconds_since_boot()
        if now - looked > FENCE_SECONDS:
            self.look()
            self.looked = looked = now
        return looked + REQUEST_SECONDS


def await_requests(runs: Runs, run: Run, collection: str) -> None:
    """Wait until the target accepts no more requests of ``run``, whose marker was replaced just now.

    A suspended process may have sent half of a request; when it wakes, the rest would arrive and be inserted.
    """
    if runs.may_wake(run):
        text = "%s: waiting %d s, until requests that %s may have begun have arrived or are refused"
        progress.info(text, collection, REQUEST_SECONDS, run)
        time.sleep(REQUEST_SECONDS)
