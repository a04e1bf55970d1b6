"""The reader alone: live rows of a segment in the page cache, in the batches that the writer takes."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.targets.milvus.load.writer import batch_rows
from bench.figures import Figure
from bench.inputs import whole_unit, write_directory
from bench.stage import Stage, timed


def measure(stage: Stage) -> Iterator[Figure]:
    shape = stage.scale.read
    with stage.folder() as folder:
        unit = whole_unit(write_directory(folder, shape), shape)
        seconds = min(timed(read, unit).seconds for _ in range(stage.scale.rounds + 1))
    yield Figure("reader", "vectors read", shape.vector_bytes / seconds / 1e9, "GB/s", stage.scale.limits.reader)


def read(unit: LoadUnit) -> int:
    """Read all rows, with a copy of those that are not deleted; how many they are."""
    batches = read_slices(unit.source, unit.collection, unit.slices, batch_rows(unit))
    return sum(len(batch) for _, _, batch in batches)
