"""Progress of a task: records for Airflow's log, and each step for the terminal of the command line."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

progress = logging.getLogger(__name__)
"""Its records go to Airflow's log, and to the terminal of the command line."""
LOG_SECONDS = 20
"""Seconds between two lines of a :class:`Meter` in the log."""
LABEL_LENGTH = 32
"""So that a line has fewer than 90 characters, which the log shows beside Airflow's graph."""
PERIODIC = "periodic"
"""Attribute of the records of a :class:`Ticker`: a terminal ignores them, because it is told each step."""


class Watcher(Protocol):
    """What is told the progress of tasks in this process: the terminal of the command line, or the task state."""

    def tell(self, text: str) -> None:
        """A piece of work that is not counted in rows got further."""

    def reach(self, meter: Meter) -> None:
        """A meter got further."""

    def expect(self, collection: str, rows: int) -> None:
        """A collection gets so many rows, from one load unit or several."""


_watchers: list[Watcher] = []


@contextmanager
def watch_progress(watcher: Watcher) -> Iterator[None]:
    """Tell ``watcher`` the progress of all tasks, while the block runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def expect_rows(units: Iterable[tuple[str, int]]) -> None:
    """Tell the watchers how many rows of each collection are loaded; ``units``: of each, its collection and rows."""
    totals: Counter[str] = Counter()
    for collection, rows in units:
        totals[collection] += rows
    for watcher in _watchers:
        for collection, rows in totals.items():
            watcher.expect(collection, rows)


class Ticker:
    """Tells where a piece of work is: each step to the watchers, and a line in the log every :data:`LOG_SECONDS`."""

    def __init__(self) -> None:
        self.logged = time.monotonic()

    def tell(self, text: str) -> None:
        for watcher in _watchers:
            watcher.tell(text)
        self.log(text)

    def log(self, text: str) -> None:
        """A line in the log, if it is time for one."""
        now = time.monotonic()
        if now - self.logged >= LOG_SECONDS:
            self.logged = now
            progress.info("%s", text, extra={PERIODIC: True})


class Meter:
    """How many rows of a piece of work are done, how fast, and how long the rest takes.

    :param label: what is worked on.
    :param total: rows to go through.
    :param row_bytes: bytes of a row.
    :param done: rows that an earlier attempt went through.
    :param collection: the collection that the rows belong to.
    :param step: what is done with them: ``load``, ``verify``, …
    """

    def __init__(
        self, label: str, total: int, row_bytes: int, done: int = 0, *, collection: str = "", step: str = "load"
    ) -> None:
        self.name, self.label = label, shorten(label)
        self.total, self.row_bytes, self.done = total, row_bytes, done
        self.collection, self.step = collection, step
        self.began_at, self.began, self.ticker = done, time.monotonic(), Ticker()

    def reach(self, done: int) -> None:
        """``done`` rows of all are done now."""
        self.done = done
        for watcher in _watchers:
            watcher.reach(self)
        self.ticker.log(self.text(time.monotonic() - self.began))

    def add(self, rows: int) -> None:
        """``rows`` more rows are done."""
        self.reach(self.done + rows)

    def text(self, seconds: float) -> str:
        """Rows, percent, speed and the time left, if ``done`` was reached in so many seconds."""
        percent = 100 * self.done // self.total if self.total else 100
        speed = (self.done - self.began_at) / max(seconds, 1e-3)
        left = f", {_duration((self.total - self.done) / speed)} left" if speed else ""
        rows = f"{to_short_number(self.done)} of {to_short_number(self.total)} rows"
        return f"{self.label}: {rows} ({percent} %), {speed * self.row_bytes / 1e6:.1f} MB/s{left}"


def count_of(number: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def to_short_number(number: int) -> str:
    """``9999``, ``10.0k``, ``1.2M``."""
    if number < 10_000:
        return str(number)
    for unit, size in (("k", 1e3), ("M", 1e6)):
        if number < 1000 * size:
            return f"{number / size:.1f}{unit}"
    return f"{number / 1e9:.1f}G"


def shorten(label: str) -> str:
    """A label that fits into a line of the log."""
    if len(label) <= LABEL_LENGTH:
        return label
    end = LABEL_LENGTH // 2
    return f"{label[: LABEL_LENGTH - end - 1]}…{label[-end:]}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
