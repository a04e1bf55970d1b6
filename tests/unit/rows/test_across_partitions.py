"""Ids in several partitions are found, whatever their number and order, with bounded memory."""

from __future__ import annotations

import shutil
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest

from airflow_provider_milvusdm.manifests import ResolvedGroup
from airflow_provider_milvusdm.rows import across_partitions
from airflow_provider_milvusdm.rows.across_partitions import find_ids_across
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import resolve

RANDOM = np.random.default_rng(20_210_309)


def shared(groups: list[ResolvedGroup]) -> dict[int, bool]:
    """The ids that are in several partitions, and whether their vectors differ."""
    units = [unit for group in groups for unit in group.units]
    partitions = [partition for group in groups for partition in group.partitions]
    found = list(find_ids_across(units, partitions))
    ids = [row_id for shared in found for row_id in shared.ids.tolist()]
    assert ids == sorted(set(ids))
    return dict(zip(ids, (differs for shared in found for differs in shared.different.tolist()), strict=True))


def expected(directory: Milvus1xDirectory, tags: list[str]) -> dict[int, bool]:
    vectors: dict[int, list[bytes]] = defaultdict(list)
    for tag in tags:
        for row_id, vector in directory.live("news", tag).items():
            vectors[row_id].append(vector)
    return {row_id: len(set(found)) > 1 for row_id, found in vectors.items() if len(found) > 1}


@pytest.mark.parametrize("window", [7, 40, 6 << 20])
@pytest.mark.parametrize("spread", [60, 300, 5000])
def test_shared_ids_are_those_that_a_dictionary_finds(
    directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch, window: int, spread: int
) -> None:
    monkeypatch.setattr(across_partitions, "WINDOW_IDS", window)
    monkeypatch.setattr(across_partitions, "COMPARED_IDS", 5)
    monkeypatch.setattr("airflow_provider_milvusdm.rows.reader.IDS_A_BATCH", 6)
    news, tags = directory.collection("news", dimension=2), ["_default", *"abcde"]
    for number, tag in enumerate(tags):
        table = news if tag == "_default" else directory.partition(news, tag)
        ids = RANDOM.permutation(np.arange(number * spread // 20, number * spread // 20 + spread))[:50]
        for part in np.split(ids, [3, 30]):
            deleted = RANDOM.permutation(len(part))[: len(part) // 4].tolist()
            directory.segment(table, part.tolist(), RANDOM.integers(0, 2, (len(part), 2)), deleted=deleted)
    groups = resolve(directory.write(), unit_bytes=100)
    assert shared(groups) == expected(directory, tags) != {}


def test_memory_is_bounded_by_the_window(directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 MB of ids, 64 KB of them held twice."""
    monkeypatch.setattr(across_partitions, "WINDOW_IDS", 1 << 13)
    monkeypatch.setattr("airflow_provider_milvusdm.rows.reader.IDS_A_BATCH", 1 << 13)
    news, rows = directory.collection("news", dimension=1), 1 << 17
    ids = RANDOM.permutation(2 * rows)
    for number, table in enumerate((news, directory.partition(news, "x"))):
        directory.segment(table, ids[number * rows :][:rows].tolist(), np.zeros((rows, 1)))
    groups = resolve(directory.write())
    tracemalloc.start()
    try:
        assert shared(groups) == {}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nothing_is_read_if_id_ranges_do_not_overlap(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    for number, table in enumerate([news, directory.partition(news, "x"), directory.partition(news, "y")]):
        directory.segment(table, range(number * 10, number * 10 + 10), RANDOM.random((10, 2)))
    groups = resolve(directory.write())
    shutil.rmtree(directory.path)
    assert shared(groups) == {}
