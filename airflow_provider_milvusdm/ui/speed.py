"""Rows per second over the time of a run, from spans of time in which tasks were at work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BINS = 120
MIN_SECONDS = 1.0
"""Of a bin: the times of tasks are not more exact."""


@dataclass(frozen=True)
class Span:
    """A task went through so many rows from ``start`` to ``stop``, in seconds since 1970."""

    start: float
    stop: float
    rows: int


def cover(noted: Iterable[Span], start: float, stop: float, rows: int) -> list[Span]:
    """All spans of a task that ended: those that it noted, and one for the rows after them."""
    spans = list(noted)
    last = max((span.stop for span in spans), default=start)
    rest = rows - sum(span.rows for span in spans)
    return [*spans, Span(last, max(stop, last), rest)] if rest > 0 else spans


def bin_seconds(start: float, stop: float) -> float:
    """Length of a bin, so that at most :data:`BINS` cover the time."""
    return max((stop - start) / BINS, MIN_SECONDS)


def rows_per_second(spans: Iterable[Span], start: float, stop: float) -> list[int]:
    """Rows per second of each bin from ``start`` to ``stop``."""
    seconds = bin_seconds(start, stop)
    rows = [0.0] * (int((stop - start) // seconds) + 1)
    for span in spans:
        _add(rows, span, start, seconds)
    return [round(count / seconds) for count in rows]


def _add(rows: list[float], span: Span, start: float, seconds: float) -> None:
    begin, end = max(span.start - start, 0.0), max(span.stop - start, 0.0)
    first, last = _bin(begin, seconds, rows), _bin(end, seconds, rows)
    if first == last:
        rows[first] += span.rows
        return
    rate = span.rows / (end - begin)
    for number in range(first, last + 1):
        rows[number] += rate * max(min(end, (number + 1) * seconds) - max(begin, number * seconds), 0.0)


def _bin(seconds_since_start: float, seconds: float, rows: Sequence[float]) -> int:
    return min(int(seconds_since_start // seconds), len(rows) - 1)
