"""Exact nearest neighbours. For every metric a smaller distance is nearer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import Metric

Distances = npt.NDArray[np.float64]
Vectors = npt.NDArray[Any]
"""float64, shape (rows, dimension), or uint8, shape (rows, dimension / 8)."""


def _l2(queries: Vectors, rows: Vectors) -> Distances:
    """Squared distances, as in Milvus."""
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
    """Number of bits that are set after ``operation`` on each query and row: shape (queries, rows)."""
    counts = [np.bitwise_count(operation(query, rows)).sum(axis=1, dtype=np.float64) for query in queries]
    return np.stack(counts) if counts else np.empty((0, len(rows)))


DISTANCES: dict[Metric, Callable[[Vectors, Vectors], Distances]] = {
    Metric.L2: _l2,
    Metric.IP: _ip,
    Metric.COSINE: _cosine,
    Metric.HAMMING: _hamming,
    Metric.JACCARD: _jaccard,
}
"""SUBSTRUCTURE and SUPERSTRUCTURE are not distances: they select rows."""


def distances(metric: Metric, queries: Vectors, rows: Vectors) -> Distances:
    """Distances: float64, shape (queries, rows); computed in float64 for float32 vectors."""
    exact = np.uint8 if metric.is_binary else np.float64
    return DISTANCES[metric](queries.astype(exact), rows.astype(exact))


class Nearest:
    """The ``limit`` nearest ids to each query among all added rows, and their distances.

    ``ids``: int64, ``distances``: float64, both of shape (queries, limit); a distance is infinite where there are fewer
    ids. Of rows that share an id the nearest counts, which a search over several partitions returns.
    """

    def __init__(self, metric: Metric, queries: Vectors, limit: int) -> None:
        self.metric, self.queries, self.limit = metric, queries, limit
        self.distances: Distances = np.full((len(queries), limit), np.inf)
        self.ids = np.zeros((len(queries), limit), np.int64)

    def add(self, ids: npt.NDArray[np.int64], rows: Vectors) -> None:
        """Add rows: ``ids`` int64, shape (n,), all different; ``rows`` shape (n, dimension)."""
        if not len(ids):
            return
        found = distances(self.metric, self.queries, rows)
        order = np.argsort(ids)
        places = order[np.minimum(np.searchsorted(ids, self.ids, sorter=order), len(ids) - 1)]
        again = (ids[places] == self.ids) & np.isfinite(self.distances)
        there = np.nonzero(again)[0], places[again]
        found[there] = np.minimum(found[there], self.distances[again])
        found = np.concatenate([np.where(again, np.inf, self.distances), found], axis=1)
        every = np.concatenate([self.ids, np.broadcast_to(ids, (len(self.ids), len(ids)))], axis=1)
        chosen = np.argpartition(found, self.limit - 1, axis=1)[:, : self.limit]
        self.distances, self.ids = (np.take_along_axis(values, chosen, axis=1) for values in (found, every))

    @property
    def count(self) -> int:
        """Number of ids that were found, for all queries together."""
        return int(np.count_nonzero(np.isfinite(self.distances)))

    @property
    def farthest(self) -> Distances:
        """Distance of the last of the nearest ids to each query: float64, shape (queries,)."""
        farthest: Distances = self.distances.max(axis=1, where=np.isfinite(self.distances), initial=-np.inf)
        return farthest
