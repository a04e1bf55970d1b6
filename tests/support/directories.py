"""Milvus 1.x directories that several tests migrate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import L2

DIMENSION = 8


def random_vectors(rows: int, seed: int, dimension: int = DIMENSION) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension), np.float32)


def random_rows(ids: Iterable[int], seed: int) -> dict[int, bytes]:
    """Vectors by id."""
    ids = list(ids)
    return dict(zip(ids, map(bytes, random_vectors(len(ids), seed)), strict=True))


def write_directory(
    path: Path,
    collections: Mapping[str, Mapping[str, Iterable[int]]],
    *,
    seed: int = 1,
    dimension: int = DIMENSION,
    metric: int = L2,
) -> Milvus1xDirectory:
    """Collections of partitions of ids, one segment a partition; another seed gives other vectors."""
    directory = Milvus1xDirectory(path)
    for name, partitions in collections.items():
        collection = directory.collection(name, dimension=dimension, metric=metric)
        for tag, ids in partitions.items():
            table = collection if tag == "_default" else directory.partition(collection, tag)
            ids, seed = list(ids), seed + 1
            directory.segment(table, ids, random_vectors(len(ids), seed, dimension))
    directory.write()
    return directory
