"""What is measured: a Milvus 1.x segment of random rows, the load unit that takes it, and its target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pymilvus import DataType, MilvusClient

from airflow_provider_milvusdm.targets.milvus_mark import new_mark
from airflow_provider_milvusdm.vectors import (
    CollectionSpec,
    LoadUnit,
    Metric,
    Slice,
    SourceRef,
    TargetCollection,
    ranges,
)

ROWS_A_WRITE = 1 << 16
FIRST_ID = 1_600_000_000_000_000_000
"""Milvus 1.x makes ids of the time in nanoseconds."""


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
    def row_bytes(self) -> int:
        return self.collection.vector_bytes + 8

    @property
    def collection(self) -> CollectionSpec:
        return CollectionSpec("bench", self.dimension, Metric.HAMMING if self.binary else Metric.L2)

    def vectors(self, rows: int, seed: int) -> npt.NDArray[np.float32] | npt.NDArray[np.uint8]:
        random = np.random.default_rng(seed)
        if self.binary:
            return random.integers(0, 256, (rows, self.dimension // 8), np.uint8)
        return random.standard_normal((rows, self.dimension), np.float32)


def write_segment(folder: Path, shape: Shape, deleted: float = 0.01) -> LoadUnit:
    """Write one segment below `folder`, a share of its rows deleted; the unit that loads it."""
    segment = folder / "bench" / "1"
    segment.mkdir(parents=True)
    removed = np.random.default_rng(0).choice(shape.rows, int(shape.rows * deleted), replace=False)
    _write(segment / "1.uid", np.arange(FIRST_ID, FIRST_ID + shape.rows, dtype="<i8"))
    _write(segment / "deleted_docs", removed.astype("<i4"))
    with (segment / "1.rv").open("wb") as file:
        file.write((shape.rows * shape.collection.vector_bytes).to_bytes(8, "little"))
        for start, stop in ranges(0, shape.rows, ROWS_A_WRITE):
            shape.vectors(stop - start, start).tofile(file)
    return LoadUnit(
        SourceRef("milvus1x", str(folder)),
        shape.collection,
        (Slice("_default", "bench/1", 0, shape.rows),),
        TargetCollection("bench"),
        migration="bench",
    )


def make_target(client: MilvusClient, shape: Shape) -> None:
    """An empty collection, marked for the unit."""
    if client.has_collection("bench"):
        client.drop_collection("bench")
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    kind = DataType.BINARY_VECTOR if shape.binary else DataType.FLOAT_VECTOR
    schema.add_field("embedding", kind, dim=shape.dimension)
    client.create_collection("bench", schema=schema, properties=new_mark("bench", {}).properties())


def _write(path: Path, items: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> None:
    """A file of Milvus 1.x: the number of bytes, then those."""
    path.write_bytes(items.nbytes.to_bytes(8, "little") + items.tobytes())
