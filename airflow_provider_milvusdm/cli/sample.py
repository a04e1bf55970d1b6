"""A small Milvus 1.x data directory to try a migration: two collections, partitions, deletions, an unbuilt index."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import ConfigurationError

L2, IP = 1, 2
FLAT, IVF_FLAT = 1, 2
RAW, TO_INDEX, INDEX, BACKUP = 1, 2, 3, 7
IDS_BY_USER = 2
CLUSTERS, SPREAD = 40, np.float32(0.2)
"""How many clusters the vectors are in, and how far they are from the centers."""

SCHEMA = """
CREATE TABLE Tables (id INTEGER PRIMARY KEY NOT NULL, table_id TEXT UNIQUE NOT NULL, state INTEGER NOT NULL,
  dimension INTEGER NOT NULL, created_on INTEGER NOT NULL, flag INTEGER DEFAULT 0 NOT NULL,
  index_file_size INTEGER NOT NULL, engine_type INTEGER NOT NULL, index_params TEXT NOT NULL,
  metric_type INTEGER NOT NULL, owner_table TEXT DEFAULT '' NOT NULL, partition_tag TEXT DEFAULT '' NOT NULL,
  version TEXT DEFAULT '1.1.1' NOT NULL, flush_lsn INTEGER NOT NULL);
CREATE TABLE TableFiles (id INTEGER PRIMARY KEY NOT NULL, table_id TEXT NOT NULL, segment_id TEXT DEFAULT '' NOT NULL,
  engine_type INTEGER NOT NULL, file_id TEXT NOT NULL, file_type INTEGER NOT NULL, file_size INTEGER DEFAULT 0 NOT NULL,
  row_count INTEGER DEFAULT 0 NOT NULL, updated_time INTEGER NOT NULL, created_on INTEGER NOT NULL,
  date INTEGER NOT NULL, flush_lsn INTEGER NOT NULL);
CREATE TABLE Fields (collection_id TEXT NOT NULL, field_name TEXT NOT NULL, field_type INTEGER NOT NULL,
  field_params TEXT NOT NULL);
CREATE TABLE Environment (global_lsn INTEGER DEFAULT 0 NOT NULL);
"""


def write_sample(folder: Path) -> None:
    """Write the sample to ``folder``. Raises ConfigurationError if ``folder`` exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError("the folder for the sample is not empty", where=folder, cure="Choose another folder.")
    tables = folder / "db" / "tables"
    tables.mkdir(parents=True)
    (folder / "wal").mkdir()
    (folder / "wal" / "mxlog.meta").write_bytes(bytes(24))
    with closing(sqlite3.connect(folder / "db" / "meta.sqlite")) as catalog:
        catalog.executescript(SCHEMA)
        sample = _Sample(catalog, tables)
        sample.articles()
        sample.products()
        catalog.commit()


class _Sample:
    """Writes the sample; its bytes are the same each time."""

    def __init__(self, catalog: sqlite3.Connection, tables: Path) -> None:
        self.catalog, self.tables = catalog, tables
        self.random = np.random.default_rng(1)
        self.segments = 1_600_000_000_000_000_000

    def articles(self) -> None:
        """Float vectors with metric L2, in three partitions; Milvus 2.x does not accept the tag of one of them."""
        self._table("articles", 64, IVF_FLAT, '{"nlist":128}', L2)
        self._segment("articles", 64, range(2000), [INDEX, BACKUP], deleted=[7, 3, 1999])
        self._segment("articles", 64, range(2000, 2500), [TO_INDEX])
        self._table("articles_p1", 64, IVF_FLAT, '{"nlist":128}', L2, "articles", "2021-03 news")
        self._segment("articles_p1", 64, range(10_000, 10_400), [RAW], deleted=[0])
        self._table("articles_p2", 64, IVF_FLAT, '{"nlist":128}', L2, "articles", "empty")

    def products(self) -> None:
        """Float vectors with metric IP; positive and negative ids."""
        self._table("products", 32, FLAT, "{}", IP)
        self._segment("products", 32, range(-300, 300), [RAW], deleted=[300])

    def _table(
        self, table_id: str, dimension: int, index: int, params: str, metric: int, owner: str = "", tag: str = ""
    ) -> None:
        self.catalog.execute(
            "INSERT INTO Tables (table_id, state, dimension, created_on, flag, index_file_size, engine_type, "
            "index_params, metric_type, owner_table, partition_tag, flush_lsn) VALUES (?,0,?,0,?,?,?,?,?,?,?,0)",
            (table_id, dimension, IDS_BY_USER, 1 << 30, index, params, metric, owner, tag),
        )

    def _segment(
        self, table_id: str, dimension: int, ids: Sequence[int], file_types: Sequence[int], deleted: Sequence[int] = ()
    ) -> None:
        self.segments += 1
        name = str(self.segments)
        folder = self.tables / table_id / name
        folder.mkdir(parents=True)
        vectors = self._vectors(len(ids), dimension)
        _write(folder / f"{name}.rv", vectors)
        _write(folder / f"{name}.uid", np.array(ids, "<i8"))
        _write(folder / "deleted_docs", np.array(deleted, "<i4"))
        self.catalog.executemany(
            "INSERT INTO TableFiles (table_id, segment_id, engine_type, file_id, file_type, file_size, row_count, "
            "updated_time, created_on, date, flush_lsn) VALUES (?,?,1,?,?,?,?,0,0,0,0)",
            [(table_id, name, name, kind, vectors.nbytes, len(ids) - len(deleted)) for kind in file_types],
        )

    def _vectors(self, rows: int, dimension: int) -> npt.NDArray[np.float32]:
        """Vectors in clusters, as those of real data are: an index finds neighbours of random ones only by luck."""
        centers = np.random.default_rng(dimension).standard_normal((CLUSTERS, dimension), np.float32)
        noise = self.random.standard_normal((rows, dimension), np.float32)
        return centers[self.random.integers(0, CLUSTERS, rows)] + SPREAD * noise


def _write(path: Path, values: npt.NDArray[np.generic]) -> None:
    path.write_bytes(values.nbytes.to_bytes(8, "little") + values.tobytes())
