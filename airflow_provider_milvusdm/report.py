"""The report of a migration: rows read, loaded and counted, and what each name, metric and index became."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

VERIFIED, SKIPPED, PLANNED, FAILED = "verified", "skipped", "planned", "failed"
LINES = 1000
"""Of the table of a run, at most: the report is in XCom, and people read it."""


@dataclass(frozen=True)
class PartitionReport:
    """Numbers of rows of one partition; ``counted`` is None if the target could not be asked."""

    partition: str
    target: str
    live: int
    deleted: int
    excluded: int
    """Live rows that a policy excludes."""
    loaded: int = 0
    before: int = 0
    counted: int | None = None

    @property
    def rows(self) -> int:
        """Number of rows to load."""
        return self.live - self.excluded


@dataclass(frozen=True)
class SearchReport:
    """Searches in the target for vectors of the source: recall of the ``limit`` nearest rows, and time of a search."""

    queries: int
    limit: int
    recall: float
    median_ms: float
    slow_ms: float
    """The 95th percentile."""
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        params = ", ".join(f"{name}={value}" for name, value in self.params.items()) or "the defaults"
        return (
            f"recall@{self.limit} {self.recall:.4f} of {self.queries} searches, {self.median_ms:.1f} ms each "
            f"(95 %: {self.slow_ms:.1f} ms), search params {params}"
        )


@dataclass(frozen=True)
class CollectionReport:
    """One collection: its status, its partitions, and its names, metric and index in source and target."""

    collection: str
    target: str = ""
    status: str = FAILED
    action: str = ""
    metric: str = ""
    target_metric: str = ""
    index: str = ""
    target_index: str = ""
    partitions: tuple[PartitionReport, ...] = ()
    sampled: int = 0
    """Rows read back and compared bit for bit."""
    search: SearchReport | None = None
    rows_per_second: int | None = None
    """Live rows, divided by the sum of the times of the load tasks."""
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Totals:
    """Of all collections of a run."""

    statuses: Mapping[str, int]
    """Number of collections by status."""
    partitions: int
    loaded: int
    """Live rows that were loaded."""

    def __str__(self) -> str:
        statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{sum(self.statuses.values()):,} collections: {statuses}; {self.partitions:,} partitions, "
            f"{self.loaded:,} rows loaded"
        )


@dataclass(frozen=True)
class Report:
    """The collections of a run. ``totals`` are set where only some are listed; those that failed are listed first."""

    collections: tuple[CollectionReport, ...] = field(default_factory=tuple)
    totals: Totals | None = None

    @property
    def failed(self) -> list[str]:
        """Names of the listed collections that failed; not empty if any collection failed."""
        return [report.collection for report in self.collections if report.status == FAILED]


def shorten(collections: Sequence[CollectionReport], lines: int = LINES) -> Report:
    """A report of all collections, if its table has at most so many lines; otherwise of some, and the totals."""
    lengths = [max(len(report.partitions), 1) for report in collections]
    if sum(lengths) <= lines:
        return Report(tuple(collections))
    totals = Totals(
        Counter(report.status for report in collections),
        sum(len(report.partitions) for report in collections),
        sum(partition.loaded for report in collections for partition in report.partitions),
    )
    by_importance = sorted(zip(collections, lengths, strict=True), key=lambda pair: pair[0].status != FAILED)
    ends = accumulate(length for _, length in by_importance)
    listed = [report for (report, _), end in zip(by_importance, ends, strict=True) if end <= lines]
    return Report(tuple(listed or [by_importance[0][0]]), totals)


def render(report: Report, width: int = 150) -> str:
    """The report as text: a table of partitions, and below it mappings, notes and faults; ``width`` in characters."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Milvus migration")
    for heading in ("collection", "partition", "target"):
        table.add_column(heading, overflow="fold")
    for heading in ("live", "deleted", "excluded", "loaded", "before", "counted", "rows/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for collection in report.collections:
        for row in _rows(collection):
            table.add_row(*map(Text, row))  # as Text, because a tag may look like Rich's markup
    console = Console(file=io.StringIO(), width=width, color_system=None)
    if report.totals:
        console.print(Text(str(report.totals)), soft_wrap=True)
        console.print(f"Listed are {len(report.collections):,}; the logs of verify_counts have all.", soft_wrap=True)
    console.print(table)
    for collection in report.collections:
        for line in _remarks(collection):
            console.print(Text(line), soft_wrap=True)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def _rows(collection: CollectionReport) -> list[Sequence[str]]:
    speed = "" if collection.rows_per_second is None else str(collection.rows_per_second)
    if not collection.partitions:
        return [(collection.collection, "", collection.target, *[""] * 7, collection.status)]
    return [
        (
            "" if number else collection.collection,
            partition.partition,
            f"{collection.target}/{partition.target}",
            str(partition.live),
            str(partition.deleted),
            str(partition.excluded),
            str(partition.loaded),
            str(partition.before),
            "?" if partition.counted is None else str(partition.counted),
            "" if number else speed,
            "" if number else collection.status,
        )
        for number, partition in enumerate(collection.partitions)
    ]


def _remarks(collection: CollectionReport) -> list[str]:
    mapping = (
        f"{collection.collection} -> {collection.target}: {collection.action}; metric {collection.metric} -> "
        f"{collection.target_metric}; index {collection.index} -> {collection.target_index}; "
        f"{collection.sampled} rows read back"
    )
    return [
        *([mapping] if collection.target_metric else []),
        *([f"  search: {collection.search}"] if collection.search else []),
        *(f"  note: {note}" for note in collection.notes),
        *(f"{collection.collection} FAILED: {fault}" for fault in collection.faults),
    ]
