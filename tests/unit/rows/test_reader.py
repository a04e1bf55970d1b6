"""Batches of rows: from several segments if these are small, but from one partition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric, Slice, SourceRef
from airflow_provider_milvusdm.rows.reader import read_slices
from tests.support.directories import DIMENSION, random_vectors
from tests.support.milvus1x_directory import Milvus1xDirectory

SEGMENTS = {"_default": (3, 2, 4, 9), "march": (1, 5)}
"""Stored rows of the segments, by partition; ids are counted from 0."""


@pytest.fixture
def slices(tmp_path: Path) -> list[Slice]:
    directory, found, first = Milvus1xDirectory(tmp_path), [], 0
    news = directory.collection("news", dimension=DIMENSION)
    for tag, sizes in SEGMENTS.items():
        table = news if tag == "_default" else directory.partition(news, tag)
        for rows in sizes:
            segment = directory.segment(table, range(first, first + rows), random_vectors(rows, first), deleted=[0])
            found.append(Slice(tag, f"{table.table_id}/{segment.segment_id}", 0, rows))
            first += rows
    directory.write()
    return found


def batches(path: Path, slices: list[Slice], done: int = 0) -> list[tuple[int, str, list[int], list[int]]]:
    """End, partition, ids, and the ids that have these vectors."""
    read = read_slices(
        SourceRef("milvus1x", str(path / "db" / "tables")),
        CollectionSpec("news", DIMENSION, Metric.L2),
        slices,
        6,
        done,
    )
    return [(end, tag, batch.ids.tolist(), owners(batch.vectors)) for end, tag, batch in read]


def owners(vectors: np.ndarray) -> list[int]:
    by_vector, first = {}, 0
    for rows in sum(SEGMENTS.values(), ()):
        by_vector |= {bytes(vector): first + offset for offset, vector in enumerate(random_vectors(rows, first))}
        first += rows
    return [by_vector[bytes(vector)] for vector in vectors]


DEFAULT = [(5, [1, 2, 4]), (9, [6, 7, 8]), (15, [10, 11, 12, 13, 14]), (18, [15, 16, 17])]


def test_small_segments_of_a_partition_are_read_together(tmp_path, slices):
    march = [20, 21, 22, 23]
    expected = [(end, "_default", ids, ids) for end, ids in DEFAULT]
    assert batches(tmp_path, slices) == [*expected, (24, "march", march, march)]


@pytest.mark.parametrize("done", range(24))
def test_rows_that_are_done_are_skipped(tmp_path, slices, done):
    everything = [row for _, _, ids, _ in batches(tmp_path, slices) for row in ids]
    read = batches(tmp_path, slices, done)
    assert [row for _, _, ids, _ in read for row in ids] == [row for row in everything if row >= done]
    assert all(ids == found for _, _, ids, found in read)
    assert read[-1][0] == 24
