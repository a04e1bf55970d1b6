"""What the log of a Milvus 1.x server holds beyond the segments, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION, SegmentSpec
from airflow_provider_milvusdm.sources.milvus1x.catalog import Catalog
from airflow_provider_milvusdm.sources.milvus1x.log import DELETE, FLUSH, INSERTS, Log, LogGap, LogRecord, last_lsn
from airflow_provider_milvusdm.storage.paths import AnyPath

LOG = "wal"
"""First part of the names of segments that are in the log."""
AFTER_ALL = 1 << 64
"""Behind every lsn."""


@dataclass
class Unflushed:
    """Rows of one collection that its log inserts or deletes and its segments know nothing of."""

    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Inserted, by partition and number of the log's file."""
    deleted: int = 0
    others: Counter[int] = field(default_factory=Counter)
    """Records of other types."""
    last_lsn: int = 0
    """Of its last record."""
    start: int = 0
    """Where a server begins to read."""
    before_start: int = 0
    """Rows inserted before that, though no flush of their partition is known: a server takes them for flushed."""

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
        """The rows inserted into a partition, a segment a file of the log."""
        for (partition, number), rows in sorted(self.rows.items()):
            if partition == tag:
                yield SegmentSpec(f"{LOG}/{number}/{tag}", rows)


class Flushed(dict[str, int]):
    """By partition: the last log position whose operations are in segments."""

    @cached_property
    def least(self) -> int:
        return min(self.values(), default=AFTER_ALL)


def is_unflushed(record: LogRecord, flushed: Flushed) -> bool:
    """Whether a server replays the record at its start, on one of the partitions whose flushed lsns are given.

    A deletion without a tag is of all partitions: replayed on those flushed before it.
    """
    if record.kind == FLUSH:
        return False
    if record.kind == DELETE and not record.tag:
        return record.lsn > flushed.least
    return record.partition in flushed and record.lsn > flushed[record.partition]


@dataclass
class LogCounts:
    """What was counted in a log."""

    unflushed: dict[str, Unflushed]
    """By collection: what a 1.x server would replay at its start."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Rows inserted into what the catalog doesn't know, by collection or ``collection/partition``: a server drops them.
    """
    is_there: bool = True
    """There is a log."""
    gap: LogGap | None = None
    rows_behind: int = 0
    """Rows inserted behind the last record that the server acknowledged."""

    def lost(self, flushed: Flushed) -> SourceError | None:
        """Why operations on partitions that are flushed so far may be missing."""
        return self.gap.fault if self.gap and flushed.least < self.gap.end else None


def count_log(folder: AnyPath, catalog: Catalog, flushed: Mapping[str, Flushed]) -> LogCounts:
    """Count what the log in ``folder`` holds. ``flushed``: by collection and partition, of those asked for."""
    start = catalog.log_start
    counts = LogCounts({name: Unflushed(start=start) for name in flushed})
    known = {name: {row["partition_tag"] for row in catalog.partitions.get(name, [])} for name in catalog.names()}
    try:
        last = last_lsn(folder, max(start, *catalog.lsns, 0))
        log = Log(folder, start, last or 0, [start, *catalog.lsns])
        for record in log.records():
            if record.collection in flushed and is_unflushed(record, flushed[record.collection]):
                counts.unflushed[record.collection].add(record)
            if record.kind in INSERTS and (name := _unknown(record, known)):
                counts.unknown[name] += record.rows
        counts.is_there, counts.gap, counts.rows_behind = last is not None, log.gap, log.count_rows_behind()
    except SourceError as fault:
        counts.gap = LogGap(AFTER_ALL, fault)
    return counts


def _unknown(record: LogRecord, known: Mapping[str, Collection[str]]) -> str:
    """The collection, or the partition, that the catalog doesn't know; ``known``: the tags of each collection."""
    if record.collection not in known:
        return record.collection
    is_known = record.partition == DEFAULT_PARTITION or record.partition in known[record.collection]
    return "" if is_known else f"{record.collection}/{record.tag}"
