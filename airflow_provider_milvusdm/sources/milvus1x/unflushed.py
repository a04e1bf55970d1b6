"""Count the operations in the log of a Milvus 1.x server that its segment folders don't have yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION, SegmentSpec
from airflow_provider_milvusdm.sources.milvus1x.catalog import Catalog
from airflow_provider_milvusdm.sources.milvus1x.log import DELETE, FLUSH, INSERTS, Log, LogGap, LogRecord, last_lsn
from airflow_provider_milvusdm.sources.milvus1x.segment_name import LogSegmentName
from airflow_provider_milvusdm.storage.paths import AnyPath

AFTER_ALL = 1 << 64
"""Higher than every lsn."""


@dataclass
class Unflushed:
    """The operations of one collection that are only in the log."""

    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Number of inserted rows, by partition and number of the log's file."""
    deleted: int = 0
    """Number of deleted ids."""
    others: Counter[int] = field(default_factory=Counter)
    """Number of records, by type, that are neither insertions nor deletions."""
    last_lsn: int = 0
    """Of its last operation; 0: there are none."""
    start: int = 0
    """The lsn from which a server reads its log when it starts."""
    before_start: int = 0
    """Rows inserted before ``start`` into partitions that were not flushed since: a server ignores them."""

    def add(self, record: LogRecord) -> None:
        if record.lsn <= self.start:
            self.before_start += record.rows if record.kind in INSERTS else 0
            return
        self.last_lsn = record.lsn
        if record.kind in INSERTS:
            self.rows[record.partition, record.file_number] += record.rows
        elif record.kind == DELETE:
            self.deleted += record.rows
        else:
            self.others[record.kind] += 1

    @property
    def inserted(self) -> int:
        return self.rows.total()

    def __bool__(self) -> bool:
        return bool(self.last_lsn)

    def __str__(self) -> str:
        return f"{self.inserted} inserted and {self.deleted} deleted"

    def segments(self, tag: str) -> Iterator[SegmentSpec]:
        """The rows inserted into a partition: one segment for each file of the log."""
        for (partition, number), rows in sorted(self.rows.items()):
            if partition == tag:
                yield SegmentSpec(str(LogSegmentName(number, tag)), rows)


class Flushed(dict[str, int]):
    """By partition: the last lsn whose operations are in its segment folders."""

    @cached_property
    def lowest(self) -> int:
        return min(self.values(), default=AFTER_ALL)


def is_unflushed(record: LogRecord, flushed: Flushed) -> bool:
    """Whether a server replays the record, on at least one of these partitions, when it starts.

    A deletion without a tag is for all partitions. It is replayed on those that were not flushed since.
    """
    if record.kind == FLUSH:
        return False
    if record.kind == DELETE and not record.tag:
        return record.lsn > flushed.lowest
    return record.partition in flushed and record.lsn > flushed[record.partition]


@dataclass
class LogCounts:
    """The counts of a log."""

    unflushed: dict[str, Unflushed]
    """By collection: what a 1.x server replays when it starts."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Rows inserted into a ``collection`` or a ``collection/partition`` that the catalog doesn't have: a server ignores
    them."""
    exists: bool = True
    """There is a log."""
    gap: LogGap | None = None
    rows_after_last: int = 0
    """Rows inserted after the last record that the server acknowledged."""

    def gap_fault(self, flushed: Flushed) -> SourceError | None:
        """The error if operations on partitions with these flushed lsns may be missing."""
        return self.gap.fault if self.gap and flushed.lowest < self.gap.end else None


def count_log(log_folder: AnyPath, catalog: Catalog, flushed: Mapping[str, Flushed]) -> LogCounts:
    """Count the operations in a log. ``flushed``: lsns of each collection that is migrated.

    A log that can't be read is a gap up to its end.
    """
    start = catalog.log_start
    counts = LogCounts({name: Unflushed(start=start) for name in flushed})
    known = {name: {row["partition_tag"] for row in catalog.partitions.get(name, [])} for name in catalog.names()}
    try:
        last = last_lsn(log_folder, max(start, *catalog.lsns, 0))
        log = Log(log_folder, start, last or 0, [start, *catalog.lsns])
        for record in log.records():
            if record.collection in flushed and is_unflushed(record, flushed[record.collection]):
                counts.unflushed[record.collection].add(record)
            if record.kind in INSERTS and (name := _unknown(record, known)):
                counts.unknown[name] += record.rows
        counts.exists, counts.gap, counts.rows_after_last = last is not None, log.gap, log.count_rows_after_last()
    except SourceError as fault:
        counts.gap = LogGap(AFTER_ALL, fault)
    return counts


def _unknown(record: LogRecord, known: Mapping[str, Collection[str]]) -> str:
    """The collection or the partition, if the catalog doesn't have it; ``known``: tags by collection."""
    if record.collection not in known:
        return record.collection
    is_known = record.partition == DEFAULT_PARTITION or record.partition in known[record.collection]
    return "" if is_known else f"{record.collection}/{record.tag}"
