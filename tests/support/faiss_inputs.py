"""Faiss indexes for the tests of their reader, made and written by faiss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.sources.faiss.inspect import inspect_faiss


def make_index(kind: str, vectors: np.ndarray, ids: np.ndarray | None = None, metric: int = faiss.METRIC_L2) -> Any:
    """An index of a factory string, trained and filled; a binary one for uint8."""
    if vectors.dtype == np.uint8:
        index = faiss.index_binary_factory(vectors.shape[1] * 8, kind)
    else:
        index = faiss.index_factory(vectors.shape[1], kind, metric)
    index.train(vectors)
    if ids is None:
        index.add(vectors)
    else:
        index.add_with_ids(vectors, ids)
    return index


def write_index(path: Path, index: Any) -> Path:
    write = faiss.write_index_binary if isinstance(index, faiss.IndexBinary) else faiss.write_index
    write(index, str(path))
    return path


def write_on_disk(path: Path, vectors: np.ndarray, ids: np.ndarray, kind: str = "IVF4,Flat") -> Path:
    """An IVF index whose lists are in a file beside it, named by another folder than the one it is read from."""
    index = make_index(kind, vectors, ids)
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(path.with_suffix(".ivfdata")))
    arrays = faiss.InvertedListsPtrVector()
    arrays.push_back(index.invlists)
    lists.merge_from_multiple(arrays.data(), 1)
    lists.filename = f"/where/it/was/made/{path.stem}.ivfdata"
    index.replace_invlists(lists)
    return write_index(path, index)


def inspect(path: Path, **arguments: Any) -> PartitionGroup:
    """The one group, of a collection `news` unless named otherwise."""
    [group] = inspect_faiss(path, **{"name": "news", "unit_bytes": 256 << 20, "max_tasks": 1024} | arguments)
    return group
