"""Collections, partitions, segments and rows of any source, and where they go, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

ALL_COLLECTIONS = "*"
DEFAULT_PARTITION = "_default"
SOURCE_ID = "source_id"
"""Field for the ids of the source, where rows get keys of their own."""
PARTITION_TAG = "partition_tag"
"""Field for the partition tags of the source, where they become a partition key."""


class Metric(StrEnum):
    """How two vectors are compared; the last five compare bits."""

    L2 = "L2"
    IP = "IP"
    COSINE = "COSINE"
    HAMMING = "HAMMING"
    JACCARD = "JACCARD"
    TANIMOTO = "TANIMOTO"
    SUBSTRUCTURE = "SUBSTRUCTURE"
    SUPERSTRUCTURE = "SUPERSTRUCTURE"

    @property
    def is_binary(self) -> bool:
        return self not in (Metric.L2, Metric.IP, Metric.COSINE)


@dataclass(frozen=True)
class CollectionSpec:
    """A collection as its source describes it."""

    name: str
    dimension: int
    metric: Metric
    index_type: str = "FLAT"
    index_params: Mapping[str, int] = field(default_factory=dict)
    generated_ids: bool = False
    """The source's server made the ids: its application inserts without them."""

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector."""
        return self.dimension // 8 if self.metric.is_binary else self.dimension * 4


@dataclass(frozen=True)
class SegmentSpec:
    """One segment of a source: its name there, and the live rows that the source's catalog claims."""

    name: str
    live_rows: int


@dataclass(frozen=True)
class PartitionSpec:
    tag: str
    segments: tuple[SegmentSpec, ...] = ()
    first_key: int = 0
    """Where keys of their own count on from, should its rows get such: no two partitions' meet."""
    replayed_rows: int = 0
    """Rows that a log inserts; they are among those of its segments."""

    @property
    def live_rows(self) -> int:
        return sum(segment.live_rows for segment in self.segments)


@dataclass(frozen=True)
class SourceRef:
    """Enough to open a source again in another task: its kind in the registry, where it is, and how to read it."""

    kind: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourcePosition:
    """How far a source had come: what was there by then, a later look finds as it was, or merged, or deleted."""

    history: str
    """What else decides which rows a later look finds; only positions of one history can be compared."""
    segment: int
    """Name of the youngest segment, a number that grows; all up to it were finished."""
    lsn: int
    """Of the last operation that was taken in."""

    def __str__(self) -> str:
        return f"{self.history} {self.segment} {self.lsn}"

    @classmethod
    def parse(cls, text: str) -> SourcePosition | None:
        """What ``str`` made of a position; None for any other text."""
        history, *numbers = text.split(" ")
        return cls(history, *map(int, numbers)) if len(numbers) == 2 else None

    def follows(self, other: SourcePosition) -> bool:
        """Whether the source has come from the other position to this one."""
        return self.history == other.history and self.segment >= other.segment and self.lsn >= other.lsn


@dataclass(frozen=True)
class Slice:
    """Stored rows ``start`` to ``stop`` of a segment, deleted ones counted."""

    partition: str
    segment: str
    start: int
    stop: int
    excluded: str = ""
    """Which of these rows a policy leaves out: a bit a row, see :mod:`airflow_provider_milvusdm.model.mask`."""
    file_version: str = ""
    """Of the segment's files, see :mod:`airflow_provider_milvusdm.storage.file_version`; empty: none that must stay."""
    first_key: int | None = None
    """Primary key of row ``start``, those behind it counted on; None: the ids are the keys."""

    @property
    def stored_rows(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> Slice:
        """Rows ``start`` to ``stop`` of it, before any was left out."""
        key = None if self.first_key is None else self.first_key + start - self.start
        return replace(self, start=start, stop=stop, first_key=key)


@dataclass(frozen=True)
class TargetCollection:
    """Where a load unit goes: names in the target."""

    name: str
    id_field: str = "id"
    vector_field: str = "embedding"
    ids_by_target: bool = False
    """The target makes the ids: the rows of the source have none."""
    own_keys: bool = False
    """Rows have keys of their own, and their ids are in the field ``source_id``."""
    partition_field: str = ""
    """The partition key: a row's tag is in this field, and there are no partitions; empty: partitions."""
    accepts_new_ids: bool = False
    """Rows inserted without an id later on get one and those of the source keep theirs, where the target can."""
