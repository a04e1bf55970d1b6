"""Write partitions into HDF5 files of MilvusDM's layout: datasets ``embeddings`` and ``ids``, one entry a row.

A file is written under a temporary name, and renamed when it is complete and on disk: a ``.h5`` file is complete.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CollectionPlan, Exported, ExportUnit
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.model.rows import rows_within
from airflow_provider_milvusdm.progress import Meter
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.sources.registry import narrow_source
from airflow_provider_milvusdm.targets.hdf5.run_folder import require_marker

ID_BYTES = 8
CHUNK_BYTES = 1 << 20
STEM_BYTES = 241
"""A file name has at most 255 bytes, of which the suffix (``.0a1b2c3d.part``) takes 14."""
DISTANCES = {"L2": "euclidean", "IP": "ip", "HAMMING": "hamming", "JACCARD": "jaccard"}
"""Values of the attribute ``distance``, as in the files of ann-benchmarks."""


def export_units(plans: Iterable[CollectionPlan], marker: Path) -> list[ExportUnit]:
    """The partitions of resolved collections, each with its file ``<collection>/<partition>.h5`` beside the marker."""
    return [unit for plan in plans for unit in _collection_units(plan, marker)]


def _collection_units(plan: CollectionPlan, marker: Path) -> Iterator[ExportUnit]:
    if plan.collection is None or plan.source is None:
        return
    for partition in plan.partitions:
        name = plan.partition_names[partition.tag]
        path = marker.parent / plan.target.name / file_name(name)
        units = [unit for unit in plan.units if any(row_slice.partition == partition.tag for row_slice in unit.slices)]
        slices = tuple(row_slice for unit in units for row_slice in unit.slices if row_slice.partition == partition.tag)
        source = narrow_source(units[0].source if units else plan.source, slices)
        paths = str(path), str(marker)
        yield ExportUnit(source, plan.collection, partition.tag, *paths, partition.rows, slices, name)


def file_name(partition: str) -> str:
    """File name of a partition; a name that is too long is cut, and ends with a digest of the whole name."""
    if len(partition.encode()) <= STEM_BYTES:
        return f"{partition}.h5"
    digest = hashlib.blake2b(partition.encode(), digest_size=8).hexdigest()
    return f"{partition[: STEM_BYTES - len(digest) - 1]}-{digest}.h5"


def export_partition(unit: ExportUnit) -> Exported:
    """Write a partition's file, and beside it the YAML of a job that loads it.

    Raises TargetError where the number of rows is not the one that was resolved, and FolderNotSharedError where this
    worker does not see the folder of the run.
    """
    from airflow_provider_milvusdm.storage.hdf5_output import begin_part

    started, path = time.monotonic(), Path(unit.path)
    require_marker(Path(unit.marker))
    path.parent.mkdir(exist_ok=True)
    partial = begin_part(path)
    rows = _write(partial, unit)
    if rows != unit.rows:
        raise TargetError(
            f"partition {unit.label} changed while it was read",
            where=partial,
            expected=f"{unit.rows} rows, as many as were resolved",
            found=rows,
            cure="Stop the 1.x server and run again.",
        )
    partial.replace(path)
    path.with_suffix(".yaml").write_text(load_yaml(unit), encoding="utf-8")
    seconds = time.monotonic() - started
    return Exported(unit.collection.name, unit.partition, unit.path, unit.marker, rows, seconds)


def _write(path: Path, unit: ExportUnit) -> int:
    """Write the file and flush it to disk; returns the number of rows."""
    from airflow_provider_milvusdm.storage.hdf5_output import create_hdf5

    rows = 0
    meter = Meter(unit.label, unit.rows, unit.collection.vector_bytes + ID_BYTES, collection=unit.name, step="export")
    size = unit.rows * (unit.collection.vector_bytes + ID_BYTES)
    with create_hdf5(path, f"{size} bytes of ids and vectors") as (file, output):
        file.attrs["metric_type"] = str(unit.collection.metric)
        if distance := DISTANCES.get(unit.collection.metric):
            file.attrs["distance"] = distance
        ids, embeddings = _datasets(file, unit)
        for _, _, batch in read_slices(unit.source, unit.collection, unit.slices, rows_within(unit.collection)):
            stop = rows + len(batch)
            if stop <= unit.rows:
                ids[rows:stop], embeddings[rows:stop] = batch.ids, batch.vectors
                output.check()
            rows = stop
            meter.reach(rows)
    return rows


def _datasets(file: Any, unit: ExportUnit) -> tuple[Any, Any]:
    """Datasets ``ids``: int64 (rows,), and ``embeddings``: float32 (rows, dimension) or uint8 (rows, dimension / 8)."""
    collection, rows = unit.collection, unit.rows
    binary = collection.metric.is_binary
    shape = (rows, collection.vector_bytes if binary else collection.dimension)
    chunk_rows = min(max(CHUNK_BYTES // collection.vector_bytes, 1), rows)
    chunks = (chunk_rows, shape[1]) if rows else None
    ids = file.create_dataset("ids", (rows,), "<i8")
    return ids, file.create_dataset("embeddings", shape, "u1" if binary else "<f4", chunks=chunks)


def load_yaml(unit: ExportUnit) -> str:
    """An H2M job for the file, with MilvusDM's keys; Milvus 2.x ignores ``index_file_size``."""
    import yaml

    job = {
        "H2M": {
            "milvus_version": "2.x",
            "data_path": [unit.path],
            "data_dir": None,
            "dest_host": "127.0.0.1",
            "dest_port": 19530,
            "mode": "append",
            "dest_collection_name": Path(unit.path).parent.name,
            "dest_partition_name": "" if unit.target == DEFAULT_PARTITION else unit.target,
            "collection_parameter": {
                "dimension": unit.collection.dimension,
                "index_file_size": 1024,
                "metric_type": str(unit.collection.metric),
            },
        }
    }
    return yaml.safe_dump(job, sort_keys=False, allow_unicode=True)
