"""Duplicate ids are found with bounded memory, however many rows there are, or have the same id."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.rows import key_space, live_rows
from airflow_provider_milvusdm.rows.id_windows import find_repeated, read_windows
from airflow_provider_milvusdm.rows.key_space import KeySpace
from airflow_provider_milvusdm.rows.partition import Partition
from airflow_provider_milvusdm.sources.registry import open_source
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import inspect, read_rows, resolve

RANDOM = np.random.default_rng(20_211_130)


@pytest.mark.parametrize("held", [8, 20, 1000])
@pytest.mark.parametrize("spread", [1, 3, 50, 10_000])
def test_windows_have_all_ids_in_order(held: int, spread: int) -> None:
    ids = RANDOM.integers(-spread, spread, 300)

    def read(first: int, last: int) -> list[np.ndarray]:
        return [part[(first <= part) & (part <= last)] for part in np.split(ids, 100)]

    windows = [window.copy() for window in read_windows(read, -(2**63), 2**63 - 1, held)]
    found = np.concatenate(windows)
    assert found.tolist() == sorted(found.tolist())
    assert set(found.tolist()) == set(ids.tolist())
    assert max(map(len, windows)) <= held
    repeated, counts = np.unique(ids, return_counts=True)
    assert [row_id for window in windows for row_id in find_repeated(window).tolist()] == repeated[counts > 1].tolist()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 MB of ids, 64 KB of which are held."""
    monkeypatch.setattr(key_space, "HELD_IDS", 1 << 13)
    monkeypatch.setattr(live_rows, "IDS_A_BATCH", 1 << 11)
    news, rows = directory.collection("news", dimension=1), 1 << 19
    for ids in np.split(RANDOM.permutation(rows), 4):
        directory.segment(news, ids.tolist(), np.zeros((len(ids), 1)))
    [group] = inspect(directory.write())
    assert group.collection is not None
    partition = Partition(group.collection, group.partitions[0], RowPolicies())
    partition.open(open_source(group.source))
    ids = KeySpace(partition.rows, "news", ["_default"], "error")
    assert ids.resolve() == key_space.DuplicateCounts()  # what it imports is not measured
    tracemalloc.start()
    try:
        assert ids.resolve() == key_space.DuplicateCounts()
        assert list(ids.faults()) == []
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("policy", "kept"), [("keep_first", 0), ("keep_last", 999)])
def test_an_id_may_be_on_more_rows_than_are_held(
    directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch, policy: str, kept: int
) -> None:
    monkeypatch.setattr(key_space, "HELD_IDS", 50)
    monkeypatch.setattr(live_rows, "IDS_A_BATCH", 20)
    news = directory.collection("news", dimension=1)
    for start in (0, 500):
        directory.segment(news, [7] * 500, np.arange(start, start + 500, dtype=np.float32)[:, None])
    [group] = resolve(directory.write(), policies=RowPolicies(policy))
    [partition] = group.partitions
    assert (partition.rows, partition.excluded) == (1, 999)
    [note] = partition.notes
    assert "999 rows excluded: another row with their id was kept" in note
    assert read_rows(group.units) == {("news", "_default"): [(7, np.float32(kept).tobytes())]}
