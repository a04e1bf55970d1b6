"""The hash of a row depends on each bit of its key, its vector and its source ID, and on where each bit is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from airflow_provider_milvusdm.model.collections import SOURCE_ID
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.rows.row_hashes import BLOCK_ROWS, hash_rows

Bytes = npt.NDArray[np.uint8]
SIGN = 31
"""The highest bit of a float."""


def hashes_of(rows: Bytes, ids: Any = None, source_ids: Any = None) -> npt.NDArray[np.uint64]:
    """Hashes of vectors given as bytes, shape (n, bytes); all have ID 7 unless told."""
    ids = np.full(len(rows), 7) if ids is None else np.asarray(ids)
    columns = {} if source_ids is None else {SOURCE_ID: np.asarray(source_ids)}
    return hash_rows(VectorBatch(ids, rows, columns))


def flipped(row: Bytes, flips: npt.NDArray[np.intp]) -> Bytes:
    """The row, once for each line of ``flips``: the numbers of the bits that are flipped."""
    bits = np.repeat(np.unpackbits(row, bitorder="little")[None], len(flips), axis=0)
    for column in flips.T:
        bits[np.arange(len(flips)), column] ^= 1
    return np.packbits(bits, axis=1, bitorder="little")


def pairs(numbers: Any) -> npt.NDArray[np.intp]:
    return np.array(list(combinations(numbers, 2)))


def bases(row_bytes: int) -> Iterator[Bytes]:
    """Vectors of zeros, of ones, and random ones."""
    yield np.zeros(row_bytes, np.uint8)
    yield np.frombuffer(np.ones(row_bytes // 4, "<f4").tobytes(), np.uint8)
    yield np.random.default_rng(1).integers(0, 256, row_bytes, np.uint8)


def all_distinct(row: Bytes, changed: Bytes) -> bool:
    found = hashes_of(np.concatenate([row[None], changed]))
    return len(np.unique(found)) == len(changed) + 1


@pytest.mark.parametrize("row_bytes", [4, 12, 64, 512, 3072])
def test_each_flipped_bit_changes_it(row_bytes: int) -> None:
    for row in bases(row_bytes):
        assert all_distinct(row, flipped(row, np.arange(8 * row_bytes)[:, None]))


def test_each_pair_of_flipped_bits_changes_it() -> None:
    for row in bases(64):
        assert all_distinct(row, flipped(row, pairs(range(512))))


@pytest.mark.parametrize("bit", [0, 22, 23, 30, SIGN])
def test_each_pair_of_one_bit_in_two_floats_changes_it(bit: int) -> None:
    for row in bases(512):
        assert all_distinct(row, flipped(row, pairs(range(bit, 4096, 32))))


def test_signs_of_all_floats_and_of_some_change_it() -> None:
    random = np.random.default_rng(2)
    vector = random.standard_normal((1, 128), np.float32)
    signs = np.concatenate([random.choice(np.float32([-1, 1]), (100_000, 128)), -np.ones((1, 128), np.float32)])
    assert all_distinct(vector.view(np.uint8)[0], (vector * signs).view(np.uint8))


def test_each_swap_of_two_elements_changes_it() -> None:
    vector = np.random.default_rng(3).standard_normal(128).astype("<f4")
    orders = np.tile(np.arange(128), (128 * 127 // 2, 1))
    for order, (one, other) in zip(orders, combinations(range(128), 2), strict=True):
        order[[one, other]] = other, one
    assert all_distinct(vector.view(np.uint8), vector[orders].view(np.uint8))


def test_each_order_of_a_few_elements_changes_it() -> None:
    vector = np.array([1, -1, 2, -2, 0, 0.5, 3], "<f4")
    orders = [order for order in permutations(range(7)) if order != tuple(range(7))]
    assert all_distinct(vector.view(np.uint8), np.array([vector[list(order)] for order in orders]).view(np.uint8))


def test_each_bit_of_the_key_and_of_the_source_id_counts_and_they_are_told_apart() -> None:
    rows, ids = np.zeros((65, 16), np.uint8), np.append(0, np.left_shift(1, np.arange(64)))
    zeros = np.zeros(65, np.int64)
    found = [hashes_of(rows, ids), hashes_of(rows, ids, zeros), hashes_of(rows, zeros, ids)]
    assert len(np.unique(np.concatenate(found))) == 3 * 65 - 1  # key and source ID 0 are there twice


def test_it_is_that_of_the_bytes_whatever_the_batch_is_like() -> None:
    vectors = np.random.default_rng(4).standard_normal((3 * BLOCK_ROWS // 2, 6), np.float32)
    ids = np.arange(len(vectors))
    expected = hash_rows(VectorBatch(ids, vectors))
    wide = np.repeat(vectors, 2, axis=1)[:, ::2]
    assert np.array_equal(hash_rows(VectorBatch(ids, wide)), expected)
    assert np.array_equal(hash_rows(VectorBatch(ids, vectors.view(np.uint8))), expected)
    assert np.array_equal(
        np.concatenate([hash_rows(VectorBatch(ids[i:], vectors[i:]))[:1] for i in (0, 5)]), expected[[0, 5]]
    )


def test_it_is_the_same_on_each_machine() -> None:
    """A task may run beside another version of NumPy than the one before it."""
    vectors = np.arange(12, dtype="<f4").reshape(2, 6)
    assert hash_rows(VectorBatch(np.array([1, -2]), vectors)).tolist() == [6909727267391260702, 14670664920566377238]
