"""The catalog of a Milvus 1.x server: tables ``Tables``, ``TableFiles`` and ``Fields`` of SQLite or MySQL.

Source of the facts: the server's own code, ``core/src/db/meta/MySQLMetaImpl.cpp`` and ``SqliteMetaImpl.cpp``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, NoReturn, TypeVar

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceNotFoundError, UnsupportedSourceError
from airflow_provider_milvusdm.model.collections import (
    DEFAULT_PARTITION,
    CollectionSpec,
    Metric,
    PartitionSpec,
    SegmentSpec,
)

STATES = {0: "NORMAL", 1: "TO_DELETE"}
STATE_DROPPED = 1
LARGEST_DIMENSION = 32768
METRICS = {
    1: Metric.L2,
    2: Metric.IP,
    3: Metric.HAMMING,
    4: Metric.JACCARD,
    5: Metric.TANIMOTO,
    6: Metric.SUBSTRUCTURE,
    7: Metric.SUPERSTRUCTURE,
}
INDEXES = {
    1: "FLAT",
    2: "IVF_FLAT",
    3: "IVF_SQ8",
    4: "RNSG",
    5: "IVF_SQ8H",
    6: "IVF_PQ",
    7: "SPTAG_KDT",
    8: "SPTAG_BKT",
    9: "BIN_FLAT",
    10: "BIN_IVF_FLAT",
    11: "HNSW",
    12: "ANNOY",
}
FILE_TYPES_WITH_ROWS = {1: "RAW", 2: "TO_INDEX", 3: "INDEX", 7: "BACKUP"}
FILE_TYPES_WITHOUT_ROWS = {0: "NEW", 4: "TO_DELETE", 5: "NEW_MERGE", 6: "NEW_INDEX"}
FLAG_IDS_BY_SERVER = 1
KEY_BITS = 44
"""Rows with keys of their own: those of a partition count on from its place in the collection, shifted by this."""
VERSIONS = re.compile(r"(0\.(7|8|9|10)|1\.[01])(\.\d+)*")
RESTORE = "Restore the catalog from a backup."
COPY_WAL = "Copy meta.sqlite-wal beside meta.sqlite, where a stopped server leaves most of it"

COLUMNS = {
    "Tables": (
        "table_id",
        "state",
        "dimension",
        "created_on",
        "flag",
        "engine_type",
        "index_params",
        "metric_type",
        "owner_table",
        "partition_tag",
        "version",
        "flush_lsn",
    ),
    "TableFiles": ("table_id", "segment_id", "file_type", "row_count"),
    "Fields": ("collection_id",),
    "Environment": ("global_lsn",),
}
TEXT_COLUMNS = {
    "table_id",
    "index_params",
    "owner_table",
    "partition_tag",
    "version",
    "segment_id",
    "collection_id",
}
NAMES = {"table_id", "owner_table", "collection_id"}
"""What says whose row it is: a fault in it is the whole catalog's, one in another column that collection's."""
OPTIONAL = ("Fields", "Environment")
"""Not in every version's catalog."""
ORDER = {"Tables": " ORDER BY id", "TableFiles": " ORDER BY id", "Fields": "", "Environment": ""}

Row = Mapping[str, Any]
Known = TypeVar("Known")


@dataclass(frozen=True)
class Catalog:
    """What a 1.x server knew of its collections, as it knew it."""

    origin: str
    """Where it was read: a file, or a MySQL connection."""
    collections: Mapping[str, Row]
    partitions: Mapping[str, list[Row]]
    """By collection."""
    files: Mapping[str, list[Row]]
    """By table_id, in the catalog's order."""
    with_attributes: frozenset[str] = field(default_factory=frozenset)
    global_lsn: int = 0
    """The log position that was flushed last of all."""
    notes: tuple[str, ...] = ()
    """What the report has to say of it."""

    @property
    def log_start(self) -> int:
        """Where a server that starts begins to read its log."""
        return max(self.global_lsn, min(self.lsns, default=0))

    @cached_property
    def lsns(self) -> list[int]:
        """Up to where each collection and partition was flushed: the log goes at least as far."""
        rows = [*self.collections.values(), *chain.from_iterable(self.partitions.values())]
        return [row["flush_lsn"] for row in rows if isinstance(row["flush_lsn"], int)]

    def names(self) -> list[str]:
        return list(self.collections)

    def collection(self, name: str) -> CollectionSpec:
        """The collection ``name``; refused when unknown, of another version, or with attributes."""
        row = self.collections.get(name)
        if row is None:
            raise SourceNotFoundError(
                f"no collection {name!r} in the catalog",
                where=self.origin,
                found=f"collections {', '.join(sorted(self.collections)) or 'none'}",
                cure="Correct source_collection.",
            )
        self._check(row, "Tables")
        self._known(STATES, row, "state")
        self._refuse_other_formats(row)
        return self._spec(row)

    def partition(self, collection: str, tag: str) -> PartitionSpec:
        """The partition ``tag`` (``_default`` for the rows outside any) with the segments that hold rows."""
        rows = [row for row in self.partitions.get(collection, []) if row["partition_tag"] == tag]
        for row in rows:
            self._check(row, "Tables")
            self._known(STATES, row, "state")
        if len(rows) + (tag == DEFAULT_PARTITION) > 1:
            self._refuse_tags(collection, [tag])
        if tag == DEFAULT_PARTITION:
            return PartitionSpec(tag, self._segments(collection))
        if not rows:
            raise SourceNotFoundError(
                f"no partition {tag!r} in collection {collection!r}",
                where=self.origin,
                found=f"partitions {', '.join(repr(known) for known in self.tags(collection))}",
                cure="Correct source_collection.",
            )
        number = 1 + self.partitions[collection].index(rows[0])
        return PartitionSpec(tag, self._segments(rows[0]["table_id"]), first_key=number << KEY_BITS)

    def tags(self, collection: str) -> list[str]:
        """All partition tags of a collection, ``_default`` first."""
        rows = self.partitions.get(collection, [])
        for row in rows:
            self._check(row, "Tables")
        counts = Counter(row["partition_tag"] for row in rows)
        bad = sorted(tag for tag, count in counts.items() if count > 1 or tag in ("", DEFAULT_PARTITION))
        if bad:
            self._refuse_tags(collection, bad)
        return [DEFAULT_PARTITION, *counts]

    def folders(self) -> frozenset[str]:
        """``<table_id>/<segment_id>`` of every file that it names, dead and unfinished ones too."""
        rows = chain.from_iterable(self.files.values())
        return frozenset(f"{row['table_id']}/{row['segment_id']}" for row in rows)

    def table_ids(self, collection: str, tags: Collection[str]) -> frozenset[str]:
        """Folders of some partitions of a collection."""
        rows = [row for row in self.partitions.get(collection, []) if row["partition_tag"] in tags]
        own = {collection} if DEFAULT_PARTITION in tags else set()
        return frozenset(own | {row["table_id"] for row in rows})

    def flushed_lsns(self, collection: str) -> dict[str, int]:
        """By tag: the last log position whose operations are in the partition's segments.

        Its own, for a flush commits them one by one: a server killed in one leaves partitions behind their collection.
        """
        rows = self.partitions.get(collection, [])
        for row in rows:
            self._check(row, "Tables")
        own = {DEFAULT_PARTITION: self.collections[collection]["flush_lsn"]}
        return own | {row["partition_tag"]: row["flush_lsn"] for row in rows}

    def _refuse_tags(self, collection: str, tags: list[str]) -> NoReturn:
        raise DamagedSourceError(
            f"partition tags of collection {collection!r} are empty, reserved or there twice",
            where=f"{self.origin}, table Tables",
            expected="each tag once",
            found=", ".join(map(repr, tags)),
            cure=RESTORE,
        )

    def _refuse_other_formats(self, row: Row) -> None:
        name, version = row["table_id"], row["version"]
        if not VERSIONS.fullmatch(version):
            raise UnsupportedSourceError(
                f"collection {name!r} is of another version of Milvus",
                where=self.origin,
                expected="0.7 to 0.10, 1.0 or 1.1",
                found=repr(version),
                cure="Open it with a Milvus 1.1 server, which upgrades it, then migrate.",
            )
        if name in self.with_attributes:
            raise UnsupportedSourceError(
                f"collection {name!r} keeps attributes beside its vectors (a hybrid collection of 0.9 or 0.10)",
                where=f"{self.origin}, table Fields",
                cure="Such collections are not migrated yet; leave it out of source_collection.",
            )

    def _spec(self, row: Row) -> CollectionSpec:
        name = row["table_id"]
        metric = self._known(METRICS, row, "metric_type")
        dimension = row["dimension"]
        if not 1 <= dimension <= LARGEST_DIMENSION or (metric.is_binary and dimension % 8):
            raise DamagedSourceError(
                f"collection {name!r} has an impossible dimension",
                where=f"{self.origin}, table Tables",
                expected=f"1 to {LARGEST_DIMENSION}" + (", a multiple of 8" if metric.is_binary else ""),
                found=dimension,
                cure=RESTORE,
            )
        return CollectionSpec(
            name=name,
            dimension=dimension,
            metric=metric,
            index_type=self._known(INDEXES, row, "engine_type"),
            index_params=self._index_params(row),
            generated_ids=row["flag"] == FLAG_IDS_BY_SERVER,
        )

    def _index_params(self, row: Row) -> dict[str, int]:
        """The whole numbers among the params: a 1.x server kept whatever else its client sent along."""
        try:
            params = json.loads(row["index_params"] or "{}")
        except (ValueError, RecursionError):
            params = None
        if not isinstance(params, dict):
            raise DamagedSourceError(
                f"index_params of collection {row['table_id']!r}",
                where=f"{self.origin}, table Tables",
                expected="a JSON object",
                found=repr(row["index_params"]),
                cure=RESTORE,
            )
        return {name: value for name, value in params.items() if type(value) is int}

    def _known(self, names: Mapping[int, Known], row: Row, column: str) -> Known:
        if row[column] in names:
            return names[row[column]]
        raise DamagedSourceError(
            f"{column} of {row['table_id']!r} is none that Milvus 1.x had",
            where=self.origin,
            expected=f"one of {', '.join(map(str, names))}",
            found=row[column],
            cure=RESTORE,
        )

    def _check(self, row: Row, table: str) -> None:
        """Refuse a row with a value of the wrong type."""
        for column in COLUMNS[table]:
            check_type(row, column, table, self.origin)

    def _segments(self, table_id: str) -> tuple[SegmentSpec, ...]:
        """Segments that hold rows; one whose index and raw file are both listed counts once."""
        counts: dict[str, int] = {}
        for row in self.files.get(table_id, []):
            self._check(row, "TableFiles")
            self._known(FILE_TYPES_WITH_ROWS | FILE_TYPES_WITHOUT_ROWS, row, "file_type")
            if row["file_type"] not in FILE_TYPES_WITH_ROWS:
                continue
            name, rows = f"{table_id}/{row['segment_id']}", row["row_count"]
            if counts.setdefault(name, rows) != rows:
                raise DamagedSourceError(
                    f"the files of segment {name} differ in row_count",
                    where=f"{self.origin}, table TableFiles",
                    expected=counts[name],
                    found=rows,
                    cure=RESTORE,
                )
        return tuple(SegmentSpec(name, rows) for name, rows in counts.items())


def check_type(row: Row, column: str, table: str, origin: str) -> None:
    if isinstance(row[column], str if column in TEXT_COLUMNS else int):
        return
    raise DamagedSourceError(
        f"column {column} of a row in table {table}",
        where=origin,
        expected="text in UTF-8" if column in TEXT_COLUMNS else "a whole number",
        found=repr(row[column]),
        cure=RESTORE,
    )
