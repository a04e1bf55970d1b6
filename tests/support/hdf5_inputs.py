"""HDF5 files for the tests of their reader, made by h5py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.sources.hdf5.inspect import inspect_hdf5


def write_hdf5(
    path: Path, datasets: Mapping[str, Any], *, attributes: Mapping[str, Any] | None = None, **storage: Any
) -> Path:
    """A file with these datasets; `storage` are h5py's options of `embeddings`, or of the only dataset."""
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            options = storage if name == "embeddings" or len(datasets) == 1 else {}
            file.create_dataset(name, data=data, **options)
        file.attrs.update(attributes or {})
    return path


def add_strings(path: Path, name: str, rows: np.ndarray, padding: int) -> Path:
    """A dataset of fixed-length strings, each a row of uint8, with one of HDF5's paddings."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(rows.shape[1])
    kind.set_strpad(padding)
    with h5py.File(path, "a") as file:
        dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((len(rows),)))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(rows), mtype=kind)
    return path


def inspect(paths: Path | Sequence[Path], **arguments: Any) -> PartitionGroup:
    """The one group, of a collection `news` unless named otherwise."""
    paths = [paths] if isinstance(paths, Path) else paths
    [group] = inspect_hdf5(paths, **{"name": "news", "unit_bytes": 256 << 20, "max_tasks": 1024} | arguments)
    return group
