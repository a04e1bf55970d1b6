"""Collections, partitions, segments and slices of any source, and where they go: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from airflow_provider_milvusdm.model.groups import PART_BYTES

ALL_COLLECTIONS = "*"
DEFAULT_PARTITION = "_default"
SOURCE_ID = "source_id"
"""Field for the ids of the source, where rows get new keys."""
PARTITION_TAG = "partition_tag"
"""Field for the partition tags of the source, where they become a partition key."""


class Metric(StrEnum):
    """How two vectors are compared. The last five are for binary vectors."""

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
    """Numbers in a float vector, bits in a binary one."""
    metric: Metric
    index_type: str = "FLAT"
    index_params: Mapping[str, int] = field(default_factory=dict)
    generated_ids: bool = False
    """The source's server generated the ids: applications insert rows without ids."""

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector."""
        return self.dimension // 8 if self.metric.is_binary else self.dimension * 4


@dataclass(frozen=True)
class SegmentSpec:
    """One segment of a source."""

    name: str
    """Unique in its collection; only the source knows what it means."""
    live_rows: int
    """According to the source's catalog."""
    file_version: str = ""
    """As in :class:`Slice`: of the files that the live rows were counted in."""


@dataclass(frozen=True)
class PartitionSpec:
    """One partition of a collection, with its segments."""

    tag: str
    segments: tuple[SegmentSpec, ...] = ()
    first_key: int = 0
    """First new key, if the rows get new keys; the key ranges of two partitions never overlap."""
    replayed_rows: int = 0
    """Rows that a log inserts; they are also counted in the segments."""

    @property
    def live_rows(self) -> int:
        return sum(segment.live_rows for segment in self.segments)

    def work(self, vector_bytes: int) -> int:
        """Bytes to read, for grouping, given the bytes of a vector."""
        return self.live_rows * vector_bytes + max(len(self.segments), 1) * PART_BYTES


@dataclass(frozen=True)
class SourceRef:
    """What another task needs to open a source again."""

    kind: str
    """Its key in :data:`airflow_provider_milvusdm.sources.registry.SOURCES`."""
    folder: str
    """The folder that its segments are in, a path or a URL."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How to read it; each kind has its own options, all of them JSON values."""


@dataclass(frozen=True)
class Slice:
    """Stored rows ``start`` to ``stop`` of a segment, deleted rows included."""

    partition: str
    segment: str
    start: int
    stop: int
    excluded: str = ""
    """Which of these rows a policy excludes, as text of :mod:`airflow_provider_milvusdm.model.mask`."""
    file_version: str = ""
    """Version of the segment's files, see :mod:`airflow_provider_milvusdm.storage.file_version`; empty: not checked."""
    first_key: int | None = None
    """Primary key of row ``start``, and each row after it has the next one; None: the ids are the keys."""

    @property
    def stored_rows(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> Slice:
        """Stored rows ``start`` to ``stop`` of the segment, as a smaller slice; none may be excluded yet."""
        key = None if self.first_key is None else self.first_key + start - self.start
        return replace(self, start=start, stop=stop, first_key=key)


@dataclass(frozen=True)
class TargetCollection:
    """Where a load unit goes: the names in the target."""

    name: str
    id_field: str = "id"
    vector_field: str = "embedding"
    ids_by_target: bool = False
    """The target generates the ids: the rows of the source have none."""
    own_keys: bool = False
    """Rows get new keys, and the ids of the source are in the field ``source_id``."""
    partition_field: str = ""
    """The partition key field, which holds each row's tag; empty: partitions stay partitions."""
    accepts_new_ids: bool = False
    """Rows of the source keep their ids, and rows inserted later without an id get one, if the target can do both."""
