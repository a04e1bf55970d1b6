"""The catalog of a Milvus 1.x server: the SQL tables ``Tables``, ``TableFiles`` and ``Fields`` in SQLite or MySQL.

A row of ``Tables`` is a collection, or a partition: then ``owner_table`` names its collection. A row of ``TableFiles``
is a file of a segment. Source: the server's code, ``core/src/db/meta/MySQLMetaImpl.cpp`` and ``SqliteMetaImpl.cpp``.
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
from airflow_provider_milvusdm.sources.milvus1x.segment_name import SegmentFolder

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
FILE_TYPE_NEW = 0
"""Of a segment that the server still adds rows to."""
FILE_TYPES_WITH_ROWS = {1: "RAW", 2: "TO_INDEX", 3: "INDEX", 7: "BACKUP"}
FILE_TYPES_WITHOUT_ROWS = {FILE_TYPE_NEW: "NEW", 4: "TO_DELETE", 5: "NEW_MERGE", 6: "NEW_INDEX"}
FLAG_IDS_BY_SERVER = 1
KEY_BITS = 44
"""New keys of a partition start at its number in the collection, shifted by this."""
VERSIONS = re.compile(r"(0\.(7|8|9|10)|1\.[01])(\.\d+)*")
RESTORE = "Restore the catalog from a backup."
COPY_WAL = "Copy meta.sqlite-wal together with meta.sqlite: a stopped server leaves most of the catalog there"

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
"""Columns that say which collection a row belongs to. If one is wrong, the whole catalog is refused; if another column
is wrong, only its collection is."""
OPTIONAL = ("Fields", "Environment")
"""SQL tables that not every version has."""
ORDER = {"Tables": " ORDER BY id", "TableFiles": " ORDER BY id", "Fields": "", "Environment": ""}

Row = Mapping[str, Any]
Known = TypeVar("Known")


@dataclass(frozen=True)
class Catalog:
    """The rows of the catalog as the server wrote them. They are checked when a collection is read from it."""

    origin: str
    """Where it was read: a file or a MySQL connection."""
    collections: Mapping[str, Row]
    """Rows of ``Tables``, by name."""
    partitions: Mapping[str, list[Row]]
    """Rows of ``Tables``, by the name of their collection."""
    files: Mapping[str, list[Row]]
    """Rows of ``TableFiles``, by ``table_id``, in the catalog's order."""
    with_attributes: frozenset[str] = field(default_factory=frozenset)
    """Names of hybrid collections."""
    global_lsn: int = 0
    """The lsn of the last flush of all collections."""
    notes: tuple[str, ...] = ()
    """Notes for the report."""

    @property
    def log_start(self) -> int:
        """The lsn from which a server reads its log when it starts."""
        return max(self.global_lsn, min(self.lsns, default=0))

    @cached_property
    def lsns(self) -> list[int]:
        """The lsn of the last flush of each collection and partition; the log has records up to these at least."""
        rows = [*self.collections.values(), *chain.from_iterable(self.partitions.values())]
        return [row["flush_lsn"] for row in rows if isinstance(row["flush_lsn"], int)]

    def names(self) -> list[str]:
        return list(self.collections)

    def collection(self, name: str) -> CollectionSpec:
        """The collection with this name.

        Raises SourceNotFoundError, UnsupportedSourceError (another version, or attributes) or DamagedSourceError.
        """
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
        """The partition with this tag and its segments that hold rows; ``_default`` has the rows without a tag.

        Raises SourceNotFoundError or DamagedSourceError.
        """
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
        """All partition tags of a collection, ``_default`` first. Raises DamagedSourceError."""
        rows = self.partitions.get(collection, [])
        for row in rows:
            self._check(row, "Tables")
        counts = Counter(row["partition_tag"] for row in rows)
        invalid = sorted(tag for tag, count in counts.items() if count > 1 or tag in ("", DEFAULT_PARTITION))
        if invalid:
            self._refuse_tags(collection, invalid)
        return [DEFAULT_PARTITION, *counts]

    def folders(self) -> frozenset[SegmentFolder]:
        """The segment folders of all files in the catalog, deleted and unfinished ones too."""
        rows = chain.from_iterable(self.files.values())
        return frozenset(SegmentFolder(row["table_id"], str(row["segment_id"])) for row in rows)

    def table_ids(self, collection: str, tags: Collection[str]) -> frozenset[str]:
        """The ``table_id`` of each of these partitions of a collection: the folders that hold their segments."""
        rows = [row for row in self.partitions.get(collection, []) if row["partition_tag"] in tags]
        own = {collection} if DEFAULT_PARTITION in tags else set()
        return frozenset(own | {row["table_id"] for row in rows})

    def flushed_lsns(self, collection: str) -> dict[str, int]:
        """By tag: the last lsn whose operations are in the partition's segments. Raises DamagedSourceError.

        A flush commits the partitions of a collection one after another. If a server is killed during a flush, they
        have different lsns.
        """
        rows = self.partitions.get(collection, [])
        for row in rows:
            self._check(row, "Tables")
        own = {DEFAULT_PARTITION: self.collections[collection]["flush_lsn"]}
        return own | {row["partition_tag"]: row["flush_lsn"] for row in rows}

    def _refuse_tags(self, collection: str, tags: list[str]) -> NoReturn:
        raise DamagedSourceError(
            f"partition tags of collection {collection!r} are empty, reserved or not unique",
            where=f"{self.origin}, table Tables",
            expected="each tag once",
            found=", ".join(map(repr, tags)),
            cure=RESTORE,
        )

    def _refuse_other_formats(self, row: Row) -> None:
        name, version = row["table_id"], row["version"]
        if not VERSIONS.fullmatch(version):
            raise UnsupportedSourceError(
                f"collection {name!r} was written by another version of Milvus",
                where=self.origin,
                expected="0.7 to 0.10, 1.0 or 1.1",
                found=repr(version),
                cure="Open it with a Milvus 1.1 server, which upgrades it, then migrate.",
            )
        if name in self.with_attributes:
            raise UnsupportedSourceError(
                f"collection {name!r} has attributes besides its vectors (a hybrid collection of 0.9 or 0.10)",
                where=f"{self.origin}, table Fields",
                cure="Such collections can't be migrated; leave it out of source_collection.",
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
        """The params that are integers: a 1.x server also stored anything else that its client sent."""
        try:
            params = json.loads(row["index_params"] or "{}")
        except (ValueError, RecursionError):
            params = None
        if not isinstance(params, dict):
            raise DamagedSourceError(
                f"index_params of collection {row['table_id']!r} are invalid",
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
            f"{column} of {row['table_id']!r} is not a value that Milvus 1.x writes",
            where=self.origin,
            expected=f"one of {', '.join(map(str, names))}",
            found=row[column],
            cure=RESTORE,
        )

    def _check(self, row: Row, table: str) -> None:
        """Raise DamagedSourceError if a value has the wrong type."""
        for column in COLUMNS[table]:
            check_type(row, column, table, self.origin)

    def _segments(self, table_id: str) -> tuple[SegmentSpec, ...]:
        """Segments that hold rows; a segment counts once if its raw file and its index are both listed."""
        counts: dict[str, int] = {}
        for row in self.files.get(table_id, []):
            self._check(row, "TableFiles")
            self._known(FILE_TYPES_WITH_ROWS | FILE_TYPES_WITHOUT_ROWS, row, "file_type")
            if row["file_type"] not in FILE_TYPES_WITH_ROWS:
                continue
            name, rows = str(SegmentFolder(table_id, row["segment_id"])), row["row_count"]
            if counts.setdefault(name, rows) != rows:
                raise DamagedSourceError(
                    f"the files of segment {name} have different row_count values",
                    where=f"{self.origin}, table TableFiles",
                    expected=counts[name],
                    found=rows,
                    cure=RESTORE,
                )
        return tuple(SegmentSpec(name, rows) for name, rows in counts.items())


def check_type(row: Row, column: str, table: str, origin: str) -> None:
    """Raise DamagedSourceError if the value of a column has the wrong type."""
    if isinstance(row[column], str if column in TEXT_COLUMNS else int):
        return
    raise DamagedSourceError(
        f"column {column} of a row in table {table} has the wrong type",
        where=origin,
        expected="text in UTF-8" if column in TEXT_COLUMNS else "an integer",
        found=repr(row[column]),
        cure=RESTORE,
    )
