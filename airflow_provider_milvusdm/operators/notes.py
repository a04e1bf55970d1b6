"""How far a running task is, noted in Airflow's task state for the Migration page: XCom has it only once it ended."""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from threading import Lock
from typing import Any

from airflow_provider_milvusdm.operators.done import SharedStore
from airflow_provider_milvusdm.progress import Meter

log = logging.getLogger(__name__)

PROGRESS = "progress"
"""Key in the task state."""
NOTE_SECONDS = 10
"""Between two notes: each is a request to Airflow's API."""
MAX_SPANS = 64
"""Of a note. Where there are more, two become one."""

Span = list[float]
"""From when to when, in seconds since 1970, and how many rows."""


class ProgressNotes:
    """Notes the meters of a task, a :class:`Watcher <airflow_provider_milvusdm.progress.Watcher>`.

    A note is ``{"work": [[collection, step, rows done, all rows], …], "spans": [[start, stop, rows], …], "max_tries":
    …}``. Several threads may use it.

    :param max_tries: of the task instance. It is the same for an attempt and its retries, and another one once the task
        was cleared: then it begins again, and earlier notes don't count.
    """

    def __init__(self, store: SharedStore, max_tries: int = 0) -> None:
        self.store, self.max_tries, self.lock = store, max_tries, Lock()
        self.meters: dict[Meter, None] = {}
        self.spans: list[Span] | None = None
        self.noted_at, self.noted_rows = time.time(), 0

    def tell(self, text: str) -> None:
        """It has no number of rows."""

    def expect(self, collection: str, rows: int) -> None:
        """The plan has the number of rows."""

    def reach(self, meter: Meter) -> None:
        self.meters[meter] = None
        if time.time() - self.noted_at >= NOTE_SECONDS and self.lock.acquire(blocking=False):
            try:
                self._note()
            except Exception:
                log.debug("the progress of the task could not be noted", exc_info=True)
            finally:
                self.lock.release()

    def _note(self) -> None:
        if self.spans is None:
            noted = self.store.get(PROGRESS) or {}
            self.spans = list(noted["spans"]) if noted.get("max_tries") == self.max_tries else []
        now, meters = time.time(), list(self.meters)
        rows = sum(meter.done - meter.began_at for meter in meters)
        self.spans = shorten_spans([*self.spans, [self.noted_at, now, rows - self.noted_rows]])
        self.noted_at, self.noted_rows = now, rows
        self.store.set(PROGRESS, {"work": _work(meters), "spans": self.spans, "max_tries": self.max_tries})


def _work(meters: list[Meter]) -> list[list[Any]]:
    """Rows by collection and step."""
    found: dict[tuple[str, str], list[int]] = {}
    for meter in meters:
        counts = found.setdefault((meter.collection, meter.step), [0, 0])
        counts[0] += meter.done
        counts[1] += meter.total
    return [[collection, step, *counts] for (collection, step), counts in found.items()]


def shorten_spans(spans: list[Span]) -> list[Span]:
    """At most :data:`MAX_SPANS` spans: where there are more, each two that follow each other become one."""
    if len(spans) <= MAX_SPANS:
        return spans
    pairs = list(pairwise(spans))[::2]
    joined = [[first[0], second[1], first[2] + second[2]] for first, second in pairs]
    return joined if len(spans) % 2 == 0 else [*joined, spans[-1]]
