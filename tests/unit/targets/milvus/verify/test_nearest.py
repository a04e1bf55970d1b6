"""Exact nearest neighbours, compared with the definitions of the distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from airflow_provider_milvusdm.model.collections import Metric
from airflow_provider_milvusdm.targets.milvus.verify.nearest import Nearest, distances

RANDOM = np.random.default_rng(20_211_005)
FLOATS = RANDOM.standard_normal((50, 6)).astype(np.float32)
BITS = RANDOM.integers(0, 256, (50, 3), np.uint8)
BITS[7] = 0


def bits(row: Sequence[int]) -> set[int]:
    return {place * 8 + bit for place, byte in enumerate(row) for bit in range(8) if byte >> bit & 1}


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


DEFINED: dict[Metric, Callable[[Sequence[float], Sequence[float]], float]] = {
    Metric.L2: lambda one, other: math.dist(one, other) ** 2,
    Metric.IP: lambda one, other: -dot(one, other),
    Metric.COSINE: lambda one, other: -dot(one, other) / math.sqrt(dot(one, one) * dot(other, other)),
    Metric.HAMMING: lambda one, other: len(bits(one) ^ bits(other)),
    Metric.JACCARD: lambda one, other: 1 - len(bits(one) & bits(other)) / len(bits(one) | bits(other)),
}


@pytest.mark.parametrize("metric", DEFINED)
def test_distances_are_as_defined(metric: Metric) -> None:
    rows = BITS if metric.is_binary else FLOATS
    found = distances(metric, rows[:5], rows[5:])
    expected = [[DEFINED[metric](query, row) for row in rows[5:].tolist()] for query in rows[:5].tolist()]
    assert found == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize("limit", [1, 10, 60])
def test_the_nearest_are_found_for_any_size_of_batches(batch: int, limit: int) -> None:
    nearest = Nearest(Metric.L2, FLOATS[:4], limit)
    for start in range(0, 50, batch):
        nearest.add(np.arange(start, min(start + batch, 50)), FLOATS[start : start + batch])
    every = np.sort(distances(Metric.L2, FLOATS[:4], FLOATS), axis=1)[:, :limit]
    assert np.sort(nearest.distances, axis=1)[:, :50] == pytest.approx(every, abs=1e-12)
    assert nearest.farthest == pytest.approx(every[:, -1], abs=1e-12)
    assert nearest.count == every.size


@pytest.mark.parametrize("limit", [1, 5, 60])
def test_of_rows_that_share_an_id_the_nearest_counts(limit: int) -> None:
    nearest = Nearest(Metric.L2, FLOATS[:4], limit)
    ids = np.concatenate([RANDOM.permutation(20)[:10] for _ in range(5)])
    for start in range(0, 50, 10):
        nearest.add(ids[start : start + 10], FLOATS[start : start + 10])
    every = distances(Metric.L2, FLOATS[:4], FLOATS)
    expected = np.sort([[row[ids == row_id].min() for row_id in np.unique(ids)] for row in every], axis=1)[:, :limit]
    assert np.sort(nearest.distances, axis=1)[:, : expected.shape[1]] == pytest.approx(expected, abs=1e-12)
    assert nearest.count == expected.size
