"""A 64-bit hash of each row: of its key, its vector and the id that it had in the source.

The vector is taken as 64-bit words, little-endian, and hashed by two sums modulo 2^64: of the words, and of their
upper halves, each word times a random number of its place (multilinear hashing: D. Lemire and O. Kaser, "Strongly
universal string hashing is fast", 2014, https://arxiv.org/abs/1202.4961). The second sum is needed because in the first
one two flipped bits 63, the signs of floats, cancel each other with a chance of 1/2. Two different vectors have the
same sums with a chance of at most 2^-33, whatever they are, and of about 2^-64 where they differ in many bits. The sums
and the key are then mixed, so that what happens to several rows does not cancel.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import SOURCE_ID
from airflow_provider_milvusdm.model.rows import VectorBatch, ranges

Hashes = npt.NDArray[np.uint64]
SEED = 0x6D69_6C76_7573_646D
BLOCK_BYTES = 1 << 19
"""Vectors hashed at once, with room for the halves of their words in a core's cache."""
BLOCK_ROWS = 1 << 13

MULTIPLIERS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)
"""Of SplitMix64: G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", 2014."""
START = np.uint64(0x9E3779B97F4A7C15)
"""Without it a vector of zeros under key 0 would have hash 0, and a sum would not tell whether it is there."""
HALF, SHIFT = np.uint64(32), np.uint64(29)


def hash_rows(batch: VectorBatch) -> Hashes:
    """The hash of each row, shape (n,): of its key, its vector and, if there is one, its column ``source_id``."""
    vectors, hashes = _as_words(batch.vectors), np.empty(len(batch), np.uint64)
    whole, upper = _factors(vectors.shape[1])
    source_ids = batch.columns.get(SOURCE_ID)
    block = min(max(BLOCK_BYTES // (8 * vectors.shape[1]), 1), BLOCK_ROWS)
    halves = np.empty((min(block, len(batch)), vectors.shape[1]), np.uint64)
    for start, stop in ranges(0, len(batch), block):
        words, found = vectors[start:stop], hashes[start:stop]
        np.einsum("ij,j->i", words, whole, out=found)
        found += START
        upper_halves = np.right_shift(words, HALF, out=halves[: stop - start])
        _mix(found, np.einsum("ij,j->i", upper_halves, upper))
        _mix(found, batch.ids[start:stop].view(np.uint64))
        if source_ids is not None:
            _mix(found, np.asarray(source_ids)[start:stop].view(np.uint64))
        _finish(found)
    return hashes


def _as_words(vectors: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> Hashes:
    """Vectors as 64-bit words, shape (n, words); those of other lengths are filled up with zeros."""
    row_bytes = vectors.shape[1] * vectors.itemsize
    data = np.ascontiguousarray(vectors).view(np.uint8)
    if row_bytes % 8 == 0:
        return data.view("<u8")
    filled = np.zeros((len(vectors), -(-row_bytes // 8) * 8), np.uint8)
    filled[:, :row_bytes] = data
    return filled.view("<u8")


@cache
def _factors(words: int) -> tuple[Hashes, Hashes]:
    """Random numbers for the words of a vector, and for their upper halves."""
    random = np.random.Philox(key=SEED).random_raw(2 * words)
    return random[0::2].copy(), random[1::2].copy()


def _mix(hashes: Hashes, values: Hashes) -> None:
    """Mix further values into hashes, in place."""
    hashes ^= hashes >> HALF
    hashes *= MULTIPLIERS[0]
    hashes += values


def _finish(hashes: Hashes) -> None:
    """Have each bit depend on each bit, in place."""
    for multiplier in MULTIPLIERS:
        hashes ^= hashes >> SHIFT
        hashes *= multiplier
    hashes ^= hashes >> HALF
