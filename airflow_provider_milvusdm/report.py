"""The report of a migration: rows read, loaded and counted, and what each name, metric and index became."""

from __future__ import annotations

import io
import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.progress import count_of

if TYPE_CHECKING:
    from rich.table import Table

VERIFIED, SKIPPED, PLANNED, FAILED = "verified", "skipped", "planned", "failed"
UNFINISHED = "unfinished"
"""Status of a collection of which only an :func:`overview <airflow_provider_milvusdm.operators.overview.overview>` is
known yet."""
LINES = 1000
"""Of the table of a run, at most: the report is in XCom, and people read it."""
NUMBERS = ("live", "deleted", "excluded", "loaded", "before", "counted")
"""Columns of the report: numbers of rows of a partition."""
SELDOM = ("deleted", "excluded", "before")
WIDE, LOG_WIDTH = 150, 88
"""Characters of a line: on a terminal, or in a file; and of Airflow's log, beside its graph."""
LISTED = 20
"""Failed collections that :func:`list_faults` lists."""


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
    fingerprint: str = ""
    """Digest of its rows in the source; only an overview has it."""
    left_alone: bool = False
    """It existed, and stays as it was, while other partitions were loaded: nothing of it was verified."""

    @property
    def rows(self) -> int:
        """Number of rows to load."""
        return self.live - self.excluded


@dataclass(frozen=True)
class SearchTrial:
    """The recall with other search params."""

    params: Mapping[str, Any]
    recall: float

    def __str__(self) -> str:
        return f"{_params_text(self.params)} the recall is {self.recall:.4f}"

    def as_json(self) -> str:
        """The params as the param ``search_params`` takes them."""
        return json.dumps(dict(self.params))


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
    tried: tuple[SearchTrial, ...] = ()
    """Other search params, where the recall was too low."""

    def __str__(self) -> str:
        return (
            f"recall@{self.limit} {self.recall:.4f} of {self.queries} searches, {self.median_ms:.1f} ms each "
            f"(95 %: {self.slow_ms:.1f} ms), search params "
            f"{_params_text(self.params) or 'the defaults'}"
        )


def _params_text(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


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
    address: str = ""
    """The server and the database, or the file, that verification asked."""
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
            f"{count_of(sum(self.statuses.values()), 'collection')}: {statuses}; "
            f"{count_of(self.partitions, 'partition')}, {count_of(self.loaded, 'row')} loaded"
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


def list_faults(report: Report) -> list[str]:
    """How many collections failed, and a line for each with its first fault and the cure."""
    failed = [collection for collection in report.collections if collection.status == FAILED][:LISTED]
    listed = [f"- {collection.collection}: {_first_line(collection)}" for collection in failed]
    statuses = report.totals.statuses if report.totals else Counter(found.status for found in report.collections)
    count = statuses[FAILED]
    more = [f"- and {count - len(failed)} more"] if count > len(failed) else []
    return [f"{count} of {sum(statuses.values())} collections failed:", *listed, *more]


def _first_line(collection: CollectionReport) -> str:
    """The first fault; of several in one text the first one."""
    lines = (collection.faults or ("no fault is known",))[0].splitlines()
    return lines[1].removeprefix("- ") if len(lines) > 1 and lines[0].endswith(":") else lines[0]


def render(report: Report, width: int = WIDE) -> str:
    """The report as text: a table of partitions, and below it mappings, notes and faults.

    ``width``: in characters. A report narrower than :data:`WIDE` has no columns of zeros only, none of the names in the
    target, which are below the table, and lines that are wrapped.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width, color_system=None)
    if report.totals:
        console.print(Text(wrap_text(str(report.totals), width)), soft_wrap=True)
        console.print(f"Listed are {len(report.collections):,}; the logs of verify_counts have all.", soft_wrap=True)
    if width >= WIDE:
        console.print(_wide_table(report))
        for line in (line for collection in report.collections for line in _remarks(collection)):
            console.print(Text(line), soft_wrap=True)
    else:
        console.print(_narrow_table(report))
        for line in (line for collection in report.collections for line in _narrow_remarks(collection)):
            console.print(Text(wrap_text(line, width)), soft_wrap=True)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def wrap_text(text: str, width: int = LOG_WIDTH) -> str:
    """Text in lines of ``width`` characters, of which those added are indented. A word that is longer stays whole."""
    return "\n".join(part for line in text.splitlines() for part in _wrap_line(line, width))


def _wrap_line(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _wide_table(report: Report) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Milvus migration")
    for heading in ("collection", "partition", "target"):
        table.add_column(heading, overflow="fold")
    for heading in (*NUMBERS, "rows/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for collection in report.collections:
        for row in _rows(collection):
            table.add_row(*map(Text, row))  # as Text, because a tag may look like Rich's markup
    return table


def _narrow_table(report: Report) -> Table:
    from rich.table import Table
    from rich.text import Text

    partitions = [part for collection in report.collections for part in collection.partitions]
    shown = [name for name in NUMBERS if name not in SELDOM or any(getattr(part, name) for part in partitions)]
    table = Table(title="Milvus migration", padding=0)
    table.add_column("partition", overflow="fold")
    for heading in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for collection in report.collections:
        if not collection.partitions:
            table.add_row(Text(collection.collection), *[""] * len(shown), collection.status)
        for part in collection.partitions:
            name, numbers = f"{collection.collection}/{part.partition}", (_number(part, heading) for heading in shown)
            table.add_row(Text(name), *numbers, SKIPPED if part.left_alone else collection.status)
    return table


def _number(partition: PartitionReport, heading: str) -> str:
    number = getattr(partition, heading)
    return "?" if number is None else str(number)


def _rows(collection: CollectionReport) -> list[Sequence[str]]:
    speed = "" if collection.rows_per_second is None else str(collection.rows_per_second)
    if not collection.partitions:
        return [(collection.collection, "", collection.target, *[""] * 7, collection.status)]
    first = next((number for number, part in enumerate(collection.partitions) if not part.left_alone), 0)
    return [
        (
            "" if number else collection.collection,
            partition.partition,
            f"{collection.target}/{partition.target}",
            *(_number(partition, heading) for heading in NUMBERS),
            "" if number else speed,
            SKIPPED if partition.left_alone else collection.status if number == first else "",
        )
        for number, partition in enumerate(collection.partitions)
    ]


def _remarks(collection: CollectionReport) -> list[str]:
    mapping = (
        f"{collection.collection} -> {collection.target}: {collection.action}; metric {collection.metric} -> "
        f"{collection.target_metric}; index {collection.index} -> {collection.target_index}; "
        f"{collection.sampled} rows read back"
    )
    note_of = "  note" if collection.target_metric else f"{collection.collection}: note"
    return [
        *([mapping] if collection.target_metric else []),
        *([f"  search: {collection.search}"] if collection.search else []),
        *(f"{note_of}: {note}" for note in collection.notes),
        *(f"{collection.collection} FAILED: {fault}" for fault in collection.faults),
    ]


def _narrow_remarks(collection: CollectionReport) -> list[str]:
    """The remarks, after them what the narrow table leaves out."""
    mapping, *others = _remarks(collection) or [""]
    renamed = [
        f"  partition {part.partition} -> {part.target}"
        for part in collection.partitions
        if part.target != part.partition
    ]
    speed = [f"  {collection.rows_per_second} rows/s"] if collection.rows_per_second else []
    return [*([mapping] if mapping else []), *renamed, *speed, *others]
