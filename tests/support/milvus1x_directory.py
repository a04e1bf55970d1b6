"""Builds Milvus 1.x data directories for tests: bytes packed by hand, apart from any reader in the package.

Example::

    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8, engine=2, index_params='{"nlist":16}')
    directory.segment(news, [1, 2, 3], vectors, deleted=[2, 0])
    march = directory.partition(news, "2021-03 news")
    directory.segment(march, [4], other_vectors, file_types=(INDEX, BACKUP))
    directory.write()
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np

from tests.support.milvus1x_catalog import Catalog, DbApiConnection, write_mysql_catalog, write_sqlite_catalog
from tests.support.milvus1x_log import Log
from tests.support.milvus1x_rows import (
    CLOCK,
    DATE,
    DEFAULT_TAG,
    INDEX,
    L2,
    NEW_INDEX,
    NORMAL,
    RAW,
    Field,
    Table,
    TableFile,
)
from tests.support.milvus1x_segment import Damage, Segment, pack_vectors, segment_files

_FIRST_GENERATED_ID = 1_614_924_431_171_826_000


class Milvus1xDirectory:
    """What a 1.x server would have left in `path`; nothing is on disk before `write`."""

    def __init__(self, path: Path, *, version: str = "0.9.1", global_lsn: int = 0) -> None:
        self.path = path
        self.version = version
        self.global_lsn = global_lsn
        self._tables: list[Table] = []
        self._segments: list[Segment] = []
        self._fields: list[Field] = []
        self._contents: dict[Path, bytes] = {}
        self._generated_ids = map(str, itertools.count(_FIRST_GENERATED_ID, 1000))
        self._file_numbers = itertools.count(1)

    @property
    def catalog_path(self) -> Path:
        return self.path / "db" / "meta.sqlite"

    @property
    def tables_folder(self) -> Path:
        return self.path / "db" / "tables"

    @property
    def log_folder(self) -> Path:
        return self.path / "wal"

    @property
    def catalog(self) -> Catalog:
        return {
            "Environment": [(self.global_lsn,)],
            "Tables": [astuple(table) for table in self._tables],
            "TableFiles": [astuple(file) for segment in self._segments for file in segment.files],
            "Fields": [astuple(field) for field in self._fields],
        }

    def collection(
        self,
        name: str,
        *,
        dimension: int,
        metric: int = L2,
        engine: int = 1,
        index_params: str = "{}",
        flag: int = 2,
        state: int = NORMAL,
        index_file_size: int = 1 << 30,
        version: str | None = None,
        flush_lsn: int = 0,
        created_on: int = CLOCK,
    ) -> Table:
        """Add a collection; its `version` is the directory's unless given."""
        table = Table(
            id=len(self._tables) + 1,
            table_id=name,
            state=state,
            dimension=dimension,
            created_on=created_on,
            flag=flag,
            index_file_size=index_file_size,
            engine_type=engine,
            index_params=index_params,
            metric_type=metric,
            owner_table="",
            partition_tag="",
            version=version or self.version,
            flush_lsn=flush_lsn,
        )
        self._tables.append(table)
        return table

    def partition(
        self,
        collection: Table,
        tag: str,
        *,
        state: int = NORMAL,
        table_id: str | None = None,
        flush_lsn: int = 0,
    ) -> Table:
        """Add a partition: a copy of its collection's row, under a generated `table_id` unless given."""
        table = replace(
            collection,
            id=len(self._tables) + 1,
            table_id=table_id or next(self._generated_ids),
            state=state,
            flag=0,
            owner_table=collection.table_id,
            partition_tag=tag,
            flush_lsn=flush_lsn,
        )
        self._tables.append(table)
        return table

    def field(self, collection: Table, name: str, field_type: int, params: str = "{}") -> None:
        """Add a row of `Fields`."""
        self._fields.append(Field(collection.table_id, name, field_type, params))

    def segment(
        self,
        table: Table,
        ids: Sequence[int],
        vectors: np.ndarray | Sequence[Sequence[float]],
        *,
        deleted: Sequence[int] | None = None,
        file_types: Sequence[int] = (RAW,),
        row_count: int | None = None,
        segment_id: str | None = None,
        write_folder: bool = True,
        damage: Damage | None = None,
    ) -> Segment:
        """Add a segment of a collection's `_default` or of a partition: a row of `TableFiles` a file type.

        `row_count` overrides the number of live rows in the catalog; without `write_folder` the catalog names
        a segment that has no folder.
        """
        segment_id = segment_id or next(self._generated_ids)
        live = len(ids) - len(set(deleted or ()))
        segment = Segment(
            table=table,
            segment_id=segment_id,
            folder=self.tables_folder / table.table_id / segment_id,
            ids=tuple(map(int, ids)),
            vectors=pack_vectors(table, vectors, len(ids)),
            deleted=tuple(deleted or ()),
            files=(),
        )
        row_count = live if row_count is None else row_count
        files = tuple(self._table_file(segment, file_type, row_count) for file_type in file_types)
        segment = replace(segment, files=files)
        self._segments.append(segment)
        if write_folder:
            self._contents.update(segment_files(segment, damage or Damage()))
        return segment

    def _table_file(self, segment: Segment, file_type: int, row_count: int) -> TableFile:
        table = segment.table
        flat = 9 if table.is_binary else 1
        is_index = file_type in (INDEX, NEW_INDEX)
        return TableFile(
            id=next(self._file_numbers),
            table_id=table.table_id,
            segment_id=segment.segment_id,
            engine_type=table.engine_type if is_index else flat,
            file_id=next(self._generated_ids) if is_index else segment.segment_id,
            file_type=file_type,
            file_size=len(segment.ids) * (table.row_bytes + 8),
            row_count=row_count,
            updated_time=CLOCK,
            created_on=CLOCK,
            date=DATE,
            flush_lsn=0,
        )

    def live_rows(self, collection: str, tag: str = DEFAULT_TAG) -> list[tuple[int, bytes]]:
        """The (id, vector) rows that a right migration brings into a partition, in segment order."""
        if (collection, tag) not in {(table.collection, table.tag) for table in self._tables}:
            raise KeyError(f"no collection {collection!r} with a partition {tag!r} was built")
        states = {table.table_id: table.state for table in self._tables}
        return [
            row
            for segment in self._segments
            if (segment.table.collection, segment.table.tag) == (collection, tag)
            and states[segment.table.table_id] == states[collection] == NORMAL
            and segment.holds_data
            for row in segment.live_rows
        ]

    def live(self, collection: str, tag: str = DEFAULT_TAG) -> dict[int, bytes]:
        """`live_rows` by id; a ValueError where two of them have the same."""
        rows = self.live_rows(collection, tag)
        by_id = dict(rows)
        if len(by_id) != len(rows):
            raise ValueError(f"{collection}/{tag} has duplicate ids: {len(rows)} live rows, {len(by_id)} ids")
        return by_id

    def write(self, *, leave_in_wal: bool = False, catalog: bool = True) -> Path:
        """Write all files, without `catalog` for a server that kept it in MySQL; the directory's path.

        A log is there as of a server that never wrote into it, unless a test has made one.
        """
        if not self.log_folder.exists():
            Log(self.log_folder).write()
        for table in self._tables:
            (self.tables_folder / table.table_id).mkdir(parents=True, exist_ok=True)
        for path, content in self._contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if catalog:
            write_sqlite_catalog(self.catalog_path, self.catalog, leave_in_wal=leave_in_wal)
        return self.path

    def write_mysql(self, connection: DbApiConnection) -> None:
        """Put the same catalog into the connection's MySQL database."""
        write_mysql_catalog(connection, self.catalog)
