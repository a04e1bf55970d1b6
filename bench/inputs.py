"""What is measured: a Milvus 1.x directory of random rows, the load unit that takes it whole, and its target."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pymilvus import DataType, MilvusClient

from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric, Slice, SourceRef, TargetCollection
from airflow_provider_milvusdm.model.rows import ranges
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.targets.milvus.marker import new_marker
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING, L2

COLLECTION = "bench"
MARK = new_marker(COLLECTION)
ROWS_A_WRITE = 1 << 16
FIRST_ID = 1_600_000_000_000_000_000
"""Milvus 1.x makes ids of the time in nanoseconds."""
DELETED = 0.01


@dataclass(frozen=True)
class Shape:
    """The rows of one measurement."""

    rows: int
    dimension: int
    binary: bool = False

    @property
    def label(self) -> str:
        return f"{self.dimension} {'bits' if self.binary else 'floats'}"

    @property
    def collection(self) -> CollectionSpec:
        return CollectionSpec(COLLECTION, self.dimension, Metric.HAMMING if self.binary else Metric.L2)

    @property
    def vector_bytes(self) -> int:
        """Bytes of all vectors."""
        return self.rows * self.collection.vector_bytes

    def vectors(self, rows: int, seed: int) -> npt.NDArray[np.float32] | npt.NDArray[np.uint8]:
        random = np.random.default_rng(seed)
        if self.binary:
            return random.integers(0, 256, (rows, self.dimension // 8), np.uint8)
        return random.standard_normal((rows, self.dimension), np.float32)


def write_directory(folder: Path, shape: Shape, segments: int = 1, *, zeros: bool = False) -> Path:
    """A Milvus 1.x directory of one collection, a share of its rows deleted; `zeros` take no room on the disk."""
    directory = Milvus1xDirectory(folder)
    table = directory.collection(
        COLLECTION, dimension=shape.dimension, metric=HAMMING if shape.binary else L2, index_params='{"nlist": 1024}'
    )
    bounds = [shape.rows * number // segments for number in range(segments + 1)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        live = _write_segment(directory.tables_folder / COLLECTION / str(number), shape, start, stop, zeros)
        directory.segment(table, [], [], segment_id=str(number), row_count=live, write_folder=False)
    return directory.write()


def whole_unit(directory: Path, shape: Shape) -> LoadUnit:
    """The unit that loads the only segment of a directory."""
    return LoadUnit(
        SourceRef("milvus1x", str(directory / "db" / "tables")),
        shape.collection,
        (Slice("_default", f"{COLLECTION}/0", 0, shape.rows),),
        TargetCollection(COLLECTION),
        migration=MARK.source,
        generation=MARK.generation,
    )


def make_target(client: MilvusClient, shape: Shape) -> None:
    """An empty collection, marked for the whole unit; the server is done with what the one before it was given."""
    if client.has_collection(COLLECTION):
        client.flush(COLLECTION)
        client.drop_collection(COLLECTION)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    kind = DataType.BINARY_VECTOR if shape.binary else DataType.FLOAT_VECTOR
    schema.add_field("embedding", kind, dim=shape.dimension)
    client.create_collection(COLLECTION, schema=schema, properties=MARK.properties())


def _write_segment(folder: Path, shape: Shape, start: int, stop: int, zeros: bool) -> int:
    """Write the segment of rows `start` to `stop`, their ids in no order; how many of them are live."""
    folder.mkdir(parents=True)
    random, rows = np.random.default_rng(start), stop - start
    removed = random.choice(rows, int(rows * DELETED), replace=False, shuffle=False)
    _write(folder / f"{folder.name}.uid", random.permutation(np.arange(FIRST_ID + start, FIRST_ID + stop, dtype="<i8")))
    _write(folder / "deleted_docs", removed.astype("<i4"))
    with (folder / f"{folder.name}.rv").open("wb") as file:
        size = rows * shape.collection.vector_bytes
        file.write(size.to_bytes(8, "little"))
        if zeros:
            file.truncate(8 + size)
        else:
            for first, last in ranges(start, stop, ROWS_A_WRITE):
                shape.vectors(last - first, first).tofile(file)
    return rows - len(removed)


def _write(path: Path, items: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> None:
    """A file of Milvus 1.x: the number of bytes, then those."""
    path.write_bytes(items.nbytes.to_bytes(8, "little") + items.tobytes())
