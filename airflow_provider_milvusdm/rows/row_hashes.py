"""A hash of each row, summed by ranges of the keys: what a target's rows are compared with, without the source's.

Resolve sums them while it reads the vectors, verification while it reads the target. The sums do not depend on the
order of the rows, and rows can be taken out again.

The vector is taken as 64-bit words, little-endian, and hashed by two sums modulo 2^64: of the words, and of their
upper halves, each word times a random number of its place (multilinear hashing: D. Lemire and O. Kaser, "Strongly
universal string hashing is fast", 2014, https://arxiv.org/abs/1202.4961). The second sum is needed because in the first
one two flipped bits 63, the signs of floats, cancel each other with a chance of 1/2. Two different vectors have the
same sums with a chance of at most 2^-33, whatever they are, and of about 2^-64 where they differ in many bits. The sums
and the key are then mixed, so that what happens to several rows does not cancel.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import SOURCE_ID
from airflow_provider_milvusdm.model.mask import Mask
from airflow_provider_milvusdm.model.rows import VectorBatch, ranges

Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

SEED = 0x6D69_6C76_7573_646D
LOWEST_KEY = -(2**63)
MAX_RANGES = 1024
RANGE_ROWS = 1 << 16
RANGE_BYTES = 32 << 20
SAMPLES_A_RANGE = 256
BLOCK_BYTES = 1 << 19
"""Vectors hashed at once, with room for the halves of their words in a core's cache."""
BLOCK_ROWS = 1 << 13

STORED = np.dtype([("first", "<i8"), ("rows", "<u8"), ("sum", "<u8"), ("product_sum", "<u8")])
MULTIPLIERS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)
"""Of SplitMix64: G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators", 2014."""
HALF, SHIFT = np.uint64(32), np.uint64(29)


class KeyRanges:
    """Ranges of primary keys that cover all keys, with the number and the hashes of the rows in each.

    ``firsts``: int64 of shape (n,), the lowest key of each range, ascending; the first is -2^63. ``rows``, ``sums``
    (of the hashes) and ``product_sums`` (of the products of a hash and its upper half): uint64 of shape (n,).
    """

    def __init__(self, firsts: Ids) -> None:
        self.firsts = firsts
        self.rows, self.sums, self.product_sums = (np.zeros(len(firsts), np.uint64) for _ in range(3))

    def __len__(self) -> int:
        return len(self.firsts)

    def add(self, keys: Ids, hashes: Hashes) -> None:
        """Add rows: their keys and hashes, both of shape (n,)."""
        self._change(np.add, keys, hashes)

    def remove(self, keys: Ids, hashes: Hashes) -> None:
        """Take out rows that were added."""
        self._change(np.subtract, keys, hashes)

    def differing(self, other: KeyRanges) -> Mask:
        """Which ranges, shape (n,), do not hold the same rows as the same ranges of ``other``."""
        columns = ("rows", "sums", "product_sums")
        differ: Mask = np.any([getattr(self, name) != getattr(other, name) for name in columns], axis=0)
        return differ

    def bounds(self, number: int) -> tuple[int, int]:
        """The lowest and the highest key of a range."""
        last = 2**63 - 1 if number == len(self) - 1 else int(self.firsts[number + 1]) - 1
        return int(self.firsts[number]), last

    def numbers(self, keys: Ids) -> npt.NDArray[np.intp]:
        """Which range each of the keys is in."""
        if len(self) == 1:
            return np.zeros(len(keys), np.intp)
        return np.searchsorted(self.firsts, keys, "right") - 1

    def to_text(self) -> str:
        """The ranges as text: 43 characters each."""
        columns = zip(STORED.names or (), (self.firsts, self.rows, self.sums, self.product_sums), strict=True)
        stored = np.empty(len(self), STORED)
        for name, values in columns:
            stored[name] = values
        return b64encode(stored.tobytes()).decode()

    @classmethod
    def from_text(cls, text: str) -> KeyRanges:
        """The ranges that became ``text``."""
        stored = np.frombuffer(b64decode(text), STORED)
        found = cls(stored["first"].astype(np.int64))
        found.rows, found.sums = stored["rows"].astype(np.uint64), stored["sum"].astype(np.uint64)
        found.product_sums = stored["product_sum"].astype(np.uint64)
        return found

    def _change(self, change: np.ufunc, keys: Ids, hashes: Hashes) -> None:
        numbers = self.numbers(keys)
        counts = np.bincount(numbers, minlength=len(self)).astype(np.uint64)
        change(self.rows, counts, out=self.rows)
        change.at(self.sums, numbers, hashes)
        change.at(self.product_sums, numbers, hashes * (hashes >> HALF))


def range_count(rows: int, vector_bytes: int) -> int:
    """Into how many ranges the keys of so many rows are divided: about 32 MiB and at most 65,536 rows each."""
    range_rows = min(max(RANGE_BYTES // vector_bytes, 1024), RANGE_ROWS)
    return min(max(-(-rows // range_rows), 1), MAX_RANGES)


def divide_keys(sample: Ids, count: int) -> KeyRanges:
    """``count`` ranges, at most, with about the same share of a sample of the keys each."""
    sample = np.sort(sample)
    places = len(sample) * np.arange(1, count) // count
    return KeyRanges(np.unique(np.append(np.int64(LOWEST_KEY), sample[places])))


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
    vectors = np.ascontiguousarray(vectors)
    if row_bytes % 8 == 0:
        return vectors.view("<u8")
    filled = np.zeros((len(vectors), -(-row_bytes // 8) * 8), np.uint8)
    filled[:, :row_bytes] = vectors.view(np.uint8)
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
