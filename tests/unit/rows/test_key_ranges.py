"""Rows by ranges of their keys: two sides have the same sums only where they hold the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.model.rows import RowPolicies, VectorBatch
from airflow_provider_milvusdm.rows import key_ranges, live_rows, partition
from airflow_provider_milvusdm.rows.key_ranges import (
    HIGHEST_KEY,
    LOWEST_KEY,
    MAX_RANGES,
    ChosenRanges,
    KeyRanges,
    count_ranges,
    divide_keys,
    one_range,
)
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.rows.row_hashes import hash_rows
from tests.support.chain import inspect_directory
from tests.support.directories import random_vectors
from tests.support.milvus1x_directory import Milvus1xDirectory

IDS = np.array([LOWEST_KEY, -7, -1, 0, 5, 6, 1000, 2**62, 2**63 - 2])
FIRSTS = np.array([LOWEST_KEY, -1, 6])
"""Of three ranges of three of these each; two begin with one of them."""


def vectors() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((len(IDS), 8)).astype(np.float32)


def counted(batch: VectorBatch) -> KeyRanges:
    found = KeyRanges(FIRSTS)
    found.add(batch.ids, hash_rows(batch))
    return found


def numbers_differing(ids: np.ndarray, rows: np.ndarray) -> list[int]:
    """Numbers of the ranges that differ from those of `IDS` and `vectors()`."""
    return np.flatnonzero(counted(VectorBatch(IDS, vectors())).differing(counted(VectorBatch(ids, rows)))).tolist()


def test_the_order_of_rows_and_of_batches_does_not_matter() -> None:
    order = np.random.default_rng(2).permutation(len(IDS))
    assert numbers_differing(IDS[order], vectors()[order]) == []
    found = KeyRanges(FIRSTS)
    for row_id, vector in zip(IDS, vectors(), strict=True):
        found.add(np.array([row_id]), hash_rows(VectorBatch(np.array([row_id]), vector[None])))
    assert not found.differing(counted(VectorBatch(IDS, vectors()))).any()


def swap_vectors(ids: np.ndarray, rows: np.ndarray) -> None:
    rows[[3, 4]] = rows[[4, 3]]


def swap_ids(ids: np.ndarray, rows: np.ndarray) -> None:
    ids[[3, 4]] = ids[[4, 3]]


def exchange_a_row(ids: np.ndarray, rows: np.ndarray) -> None:
    ids[4], rows[4] = 4, 1


def double_a_row_and_lose_another(ids: np.ndarray, rows: np.ndarray) -> None:
    ids[4], rows[4] = ids[3], rows[3]


def flip_two_signs(ids: np.ndarray, rows: np.ndarray) -> None:
    rows[3, [1, 5]] *= -1


def flip_a_sign_in_each_of_two_rows(ids: np.ndarray, rows: np.ndarray) -> None:
    rows[[3, 4], 1] *= -1


def exchange_elements_of_two_rows(ids: np.ndarray, rows: np.ndarray) -> None:
    rows[[3, 4], 1] = rows[[4, 3], 1]


def copy_a_vector(ids: np.ndarray, rows: np.ndarray) -> None:
    rows[4] = rows[3]


@pytest.mark.parametrize(
    "change",
    [
        swap_vectors,
        swap_ids,
        exchange_a_row,
        double_a_row_and_lose_another,
        flip_two_signs,
        flip_a_sign_in_each_of_two_rows,
        exchange_elements_of_two_rows,
        copy_a_vector,
    ],
)
def test_what_leaves_the_number_of_rows_as_it_is_is_found_in_its_range(
    change: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    ids, rows = IDS.copy(), vectors()
    change(ids, rows)
    assert numbers_differing(ids, rows) == [1]


def test_missing_rows_rows_too_many_and_rows_of_two_ranges_exchanged_are_found() -> None:
    assert numbers_differing(IDS[1:], vectors()[1:]) == [0]
    assert numbers_differing(np.append(IDS, HIGHEST_KEY), np.append(vectors(), vectors()[:1], axis=0)) == [2]
    rows = vectors()
    rows[[0, 8]] = rows[[8, 0]]
    assert numbers_differing(IDS, rows) == [0, 2]


def test_every_flip_of_a_bit_among_many_rows_is_found() -> None:
    random = np.random.default_rng(3)
    ids, rows = np.arange(1000), random.standard_normal((1000, 16)).astype("<f4")
    expected = one_range()
    expected.add(ids, hash_rows(VectorBatch(ids, rows)))
    bits = rows.view("<u4")
    for row, element, bit in zip(*(random.integers(0, most, 1000) for most in (1000, 16, 32)), strict=True):
        bits[row, element] ^= np.uint32(1 << int(bit))
        found = one_range()
        found.add(ids, hash_rows(VectorBatch(ids, rows)))
        assert expected.differing(found).all()
        bits[row, element] ^= np.uint32(1 << int(bit))


def test_rows_are_taken_out_again() -> None:
    batch, found = VectorBatch(IDS, vectors()), KeyRanges(FIRSTS)
    found.add(batch.ids, hash_rows(batch))
    found.remove(batch.ids[2:5], hash_rows(batch)[2:5])
    kept = np.arange(len(IDS))[[0, 1, 5, 6, 7, 8]]
    assert not found.differing(counted(VectorBatch(IDS[kept], vectors()[kept]))).any()


def test_a_key_on_a_bound_is_in_the_range_that_begins_with_it() -> None:
    found = KeyRanges(FIRSTS)
    assert found.numbers(IDS).tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert [found.bounds(number) for number in range(3)] == [(LOWEST_KEY, -2), (-1, 5), (6, HIGHEST_KEY)]
    chosen = ChosenRanges(found, np.array([True, False, True]))
    assert list(chosen.bounds()) == [(LOWEST_KEY, -2), (6, HIGHEST_KEY)]
    assert chosen.holds(IDS).tolist() == [True, True, False, False, False, True, True, True, True]


def test_within_their_extent_they_begin_and_end_with_keys_that_were_added() -> None:
    found = KeyRanges(FIRSTS)
    found.add(np.array([-7, 5]), np.array([1, 2], np.uint64))
    within = found.within_extent()
    assert [within.bounds(number) for number in range(3)] == [(-7, -2), (-1, 5), (6, 5)]
    assert [found.bounds(number) for number in (0, 2)] == [(LOWEST_KEY, -2), (6, HIGHEST_KEY)]
    assert not within.differing(found).any()


def test_they_become_text_and_the_same_again() -> None:
    ranges = counted(VectorBatch(IDS, vectors()))
    again = KeyRanges.from_text(ranges.to_text())
    assert not ranges.differing(again).any()
    assert (again.firsts.tolist(), again.extent) == (FIRSTS.tolist(), (int(IDS[0]), int(IDS[-1])))


def test_they_are_bounded_in_number_and_take_about_as_many_rows_each() -> None:
    assert (count_ranges(0, 512), count_ranges(65_537, 512), count_ranges(10**9, 512)) == (1, 2, MAX_RANGES)
    assert count_ranges(1025, 131_072) == 2
    keys = np.random.default_rng(4).normal(0, 1e15, 1_000_000).astype(np.int64)
    ranges = divide_keys(keys[:40_000], 16)
    rows = np.bincount(ranges.numbers(keys), minlength=16)
    assert len(ranges) == 16
    assert rows.min() > 0.8 * 62_500
    assert rows.max() < 1.2 * 62_500
    assert len(KeyRanges.from_text(divide_keys(np.arange(10**6), MAX_RANGES).to_text())) == MAX_RANGES
    assert len(divide_keys(np.arange(10**6), MAX_RANGES).to_text()) < 45_000


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of two rows, and batches of a few."""
    for name in ("MAX_RANGE_ROWS", "MIN_RANGE_ROWS"):
        monkeypatch.setattr(key_ranges, name, 2)
    monkeypatch.setattr(live_rows, "IDS_A_BATCH", 3)
    monkeypatch.setattr(partition, "rows_within", lambda _: 3)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("duplicates", ["keep_first", "keep_last", "remap"])
def test_resolve_counts_the_rows_that_are_loaded_and_no_others(tmp_path: Path, duplicates: str) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=4)
    invalid = random_vectors(12, 1)[:, :4].copy()
    invalid[[1, 8], 2] = np.nan, np.inf
    directory.segment(news, [9, 2, 3, 4, 5, 5, 5, 2, 1, 0, 20, 21], invalid, deleted=[3])
    directory.segment(news, [30, 9, 2, -(2**63), 2**63 - 2, 31, 32], random_vectors(7, 2)[:, :4], deleted=[0])
    directory.write()
    policies = RowPolicies(duplicates, "skip", str(tmp_path / "skipped"))
    [group] = inspect_directory(directory.path)
    resolved = resolve_group(group, policies)
    [found] = resolved.partitions
    ranges = KeyRanges.from_text(found.key_ranges)
    expected = KeyRanges(ranges.firsts)
    for unit in resolved.units:
        for _, _, batch in read_slices(unit.source, unit.collection, unit.slices, 5):
            expected.add(batch.ids, hash_rows(batch))
    assert len(ranges) > 3
    assert int(ranges.rows.sum()) == found.rows
    assert not ranges.differing(expected).any()
