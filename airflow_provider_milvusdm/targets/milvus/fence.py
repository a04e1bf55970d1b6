"""What was given up writes nothing any more: it looks before each request, which is taken for so long only."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_milvusdm.progress import progress
from airflow_provider_milvusdm.targets.milvus.runs import Run, Runs
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot

FENCE_SECONDS = 1
REQUEST_SECONDS = 120
"""A server that has no whole request by then takes it no more, should the rest of it come yet."""


class Fence:
    """Looks again, before a request is sent, whether the target is still ours: a process may have slept since.

    Where a collection has a name of its own the target itself refuses what comes late; where rows are added to one
    that is there, this does.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self.look, self.looked = look, 0.0

    def check(self) -> float:
        """When the request must be taken by, for :func:`seconds_left`; raises what ``look`` raises.

        Asks at most every :data:`FENCE_SECONDS`. What counts is when it asked: it may sleep before it has the answer.
        """
        looked, now = self.looked, seconds_since_boot()
        if now - looked > FENCE_SECONDS:
            self.look()
            self.looked = looked = now
        return looked + REQUEST_SECONDS


def await_requests(runs: Runs, run: Run, collection: str) -> None:
    """Return once the target takes nothing more of ``run``, that another marker was set for in its place just now.

    A process that is stopped may have sent half of a request; the rest would come when it wakes, and be inserted.
    """
    if runs.may_wake(run):
        text = "%s: waiting %d s, in which requests that %s may have begun come in or are refused"
        progress.info(text, collection, REQUEST_SECONDS, run)
        time.sleep(REQUEST_SECONDS)
