"""The rows of a Milvus 1.x catalog and the codes in them, for the builder of test directories."""

from __future__ import annotations

from dataclasses import dataclass

L2, IP, HAMMING, JACCARD, TANIMOTO, SUBSTRUCTURE, SUPERSTRUCTURE = range(1, 8)
NEW, RAW, TO_INDEX, INDEX, TO_DELETE, NEW_MERGE, NEW_INDEX, BACKUP = range(8)
HOLDING_DATA = {RAW, TO_INDEX, INDEX, BACKUP}
NORMAL, DROPPED = 0, 1
DEFAULT_TAG = "_default"

CLOCK = 1_614_924_431_224_891
"""Microseconds since 1970; each row is of the same moment."""
DATE = 1_210_205
"""That day as the server writes it: (year - 1900) * 10000 + (month - 1) * 100 + day."""


@dataclass(frozen=True)
class Table:
    """A row of `Tables`, its columns in order: a collection, or a partition of one."""

    id: int
    table_id: str
    state: int
    dimension: int
    created_on: int
    flag: int
    index_file_size: int
    engine_type: int
    index_params: str
    metric_type: int
    owner_table: str
    partition_tag: str
    version: str
    flush_lsn: int

    @property
    def collection(self) -> str:
        return self.owner_table or self.table_id

    @property
    def tag(self) -> str:
        return self.partition_tag or DEFAULT_TAG

    @property
    def is_binary(self) -> bool:
        return self.metric_type >= HAMMING

    @property
    def row_bytes(self) -> int:
        return self.dimension // 8 if self.is_binary else self.dimension * 4


@dataclass(frozen=True)
class TableFile:
    """A row of `TableFiles`, its columns in order: one file of a segment."""

    id: int
    table_id: str
    segment_id: str
    engine_type: int
    file_id: str
    file_type: int
    file_size: int
    row_count: int
    updated_time: int
    created_on: int
    date: int
    flush_lsn: int


@dataclass(frozen=True)
class Field:
    """A row of `Fields`: an attribute of a 0.9 or 0.10 hybrid collection, or its vector (type 100)."""

    collection_id: str
    field_name: str
    field_type: int
    field_params: str
