"""What the log of a Milvus 1.x server holds beyond the segments, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from airflow_provider_milvusdm.sources.files import AnyPath
from airflow_provider_milvusdm.sources.milvus1x_log import DELETE, FLUSH, INSERTS, LogRecord, read_log
from airflow_provider_milvusdm.vectors import DEFAULT_PARTITION, SegmentSpec

LOG = "wal"
"""First part of the names of segments that are in the log."""


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

    def add(self, record: LogRecord) -> None:
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


def is_unflushed(record: LogRecord, flushed: Mapping[str, int]) -> bool:
    """Whether a server replays the record at its start, on one of the partitions whose flushed lsns are given.

    A deletion without a tag is of all partitions: replayed on those flushed before it.
    """
    if record.kind == FLUSH:
        return False
    if record.kind == DELETE and not record.tag:
        return record.lsn > min(flushed.values())
    return record.partition in flushed and record.lsn > flushed[record.partition]


def count_unflushed(folder: AnyPath, flushed: Mapping[str, Mapping[str, int]]) -> dict[str, Unflushed]:
    """By collection: what a 1.x server would replay at its start. ``flushed``: by collection and partition."""
    counts = {name: Unflushed() for name in flushed}
    for record in read_log(folder):
        if flushed.get(record.collection) and is_unflushed(record, flushed[record.collection]):
            counts[record.collection].add(record)
    return counts


def count_unknown(folder: AnyPath, known: Mapping[str, Collection[str]]) -> Counter[str]:
    """Rows inserted into what the catalog doesn't know, by collection or ``collection/partition``; a server drops them.

    ``known``: the tags of each collection.
    """
    counts: Counter[str] = Counter()
    for record in read_log(folder):
        if record.kind not in INSERTS:
            continue
        if record.collection not in known:
            counts[record.collection] += record.rows
        elif record.partition not in {DEFAULT_PARTITION, *known[record.collection]}:
            counts[f"{record.collection}/{record.tag}"] += record.rows
    return counts
