"""Exact nearest neighbours: distances between vectors, smaller is nearer, whatever the metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.vectors import Metric

Distances = npt.NDArray[np.float64]
Vectors = npt.NDArray[Any]
"""float64, shape (rows, dimension), or uint8, shape (rows, dimension / 8)."""


def _l2(queries: Vectors, rows: Vectors) -> Distances:
    """Squared, as Milvus has it."""
    squares = (queries**2).sum(axis=1)[:, None] + (rows**2).sum(axis=1)
    found: Distances = squares - 2 * (queries @ rows.T)
    return found


def _ip(queries: Vectors, rows: Vectors) -> Distances:
    products: Distances = queries @ rows.T
    return -products


def _cosine(queries: Vectors, rows: Vectors) -> Distances:
    return _ip(_unit_length(queries), _unit_length(rows))


def _hamming(queries: Vectors, rows: Vectors) -> Distances:
    return _bits(np.bitwise_xor, queries, rows)


def _jaccard(queries: Vectors, rows: Vectors) -> Distances:
    shared, either = _bits(np.bitwise_and, queries, rows), _bits(np.bitwise_or, queries, rows)
    return 1 - shared / np.maximum(either, 1)


def _unit_length(vectors: Vectors) -> Distances:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def _bits(operation: Callable[..., npt.NDArray[np.uint8]], queries: Vectors, rows: Vectors) -> Distances:
    """How many bits are set in what the operation makes of each two."""
    counts = [np.bitwise_count(operation(query, rows)).sum(axis=1, dtype=np.float64) for query in queries]
    return np.stack(counts) if counts else np.empty((0, len(rows)))


DISTANCES: dict[Metric, Callable[[Vectors, Vectors], Distances]] = {
    Metric.L2: _l2,
    Metric.IP: _ip,
    Metric.COSINE: _cosine,
    Metric.HAMMING: _hamming,
    Metric.JACCARD: _jaccard,
}
"""SUBSTRUCTURE and SUPERSTRUCTURE are no distances: they select."""


def distances(metric: Metric, queries: Vectors, rows: Vectors) -> Distances:
    """Distances, float64 of shape (queries, rows); float32 vectors are reckoned with in float64."""
    exact = np.uint8 if metric.is_binary else np.float64
    return DISTANCES[metric](queries.astype(exact), rows.astype(exact))


class Nearest:
    """The distances of the ``limit`` rows nearest to each query, of all rows that were added."""

    def __init__(self, metric: Metric, queries: Vectors, limit: int) -> None:
        self.metric, self.queries, self.limit = metric, queries, limit
        self.distances: Distances = np.empty((len(queries), 0))

    def add(self, rows: Vectors) -> None:
        found = np.concatenate([self.distances, distances(self.metric, self.queries, rows)], axis=1)
        if found.shape[1] > self.limit:
            found = np.partition(found, self.limit - 1, axis=1)[:, : self.limit]
        self.distances = found

    @property
    def farthest(self) -> Distances:
        """Of each query: how far the last of its nearest rows is."""
        farthest: Distances = self.distances.max(axis=1)
        return farthest
