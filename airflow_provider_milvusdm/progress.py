"""Progress of a task: records for Airflow's log, and each step for the terminal of the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

progress = logging.getLogger(__name__)
"""Its records go to Airflow's log, and to the terminal of the command line."""
LOG_SECONDS = 20
"""Seconds between two lines of a :class:`Meter` in the log."""
LABEL_LENGTH = 32
"""So that a line has fewer than 90 characters, which the log shows beside Airflow's graph."""
PERIODIC = "periodic"
"""Attribute of the records of a :class:`Ticker`: the terminal ignores them, because it is told each step."""

_watchers: list[Callable[[str], None]] = []


@contextmanager
def watch_meters(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call ``watcher`` with the text of a meter for each of its steps, while the block runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class Ticker:
    """Tells where a piece of work is: each step to the watchers, and a line in the log every :data:`LOG_SECONDS`."""

    def __init__(self) -> None:
        self.logged = time.monotonic()

    def tell(self, text: str) -> None:
        for watcher in _watchers:
            watcher(text)
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
    """

    def __init__(self, label: str, total: int, row_bytes: int, done: int = 0) -> None:
        self.label, self.total, self.row_bytes, self.done = shorten(label), total, row_bytes, done
        self.began_at, self.began, self.ticker = done, time.monotonic(), Ticker()

    def reach(self, done: int) -> None:
        """``done`` rows of all are done now."""
        self.done = done
        self.ticker.tell(self.text(time.monotonic() - self.began))

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
