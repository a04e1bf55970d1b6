"""Rows by ranges of their keys, with sums of their hashes: two sides that hold the same rows have the same sums.

Resolve counts the rows that it reads, verification those that it finds in the target. The sums do not depend on the
order of the rows, and rows can be taken out again.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.mask import Mask
from airflow_provider_milvusdm.rows.row_hashes import HALF, SEED, Hashes

Ids = npt.NDArray[np.int64]
LOWEST_KEY, HIGHEST_KEY = -(2**63), 2**63 - 1
MAX_RANGES = 1024
MAX_RANGE_ROWS, MIN_RANGE_ROWS = 1 << 16, 1 << 10
RANGE_BYTES = 32 << 20
SAMPLED_KEYS = 256
"""Size of the sample for each range by which the keys are divided into ranges of about as many rows."""
STORED = np.dtype([("first", "<i8"), ("rows", "<u8"), ("sum", "<u8"), ("product_sum", "<u8")])
EXTENT = np.dtype("<i8")


class KeyRanges:
    """Ranges that cover all keys, with the number and the hashes of the rows in each.

    ``firsts``: int64 of shape (n,), the lowest key of each range, ascending; the first is -2^63. ``rows``, ``sums``
    (of the hashes) and ``product_sums`` (of the products of a hash and its upper half): uint64 of shape (n,).
    ``extent``: the lowest and the highest key that was added.
    """

    def __init__(self, firsts: Ids) -> None:
        self.firsts = firsts
        self.rows, self.sums, self.product_sums = (np.zeros(len(firsts), np.uint64) for _ in range(3))
        self.extent = HIGHEST_KEY, LOWEST_KEY
        self.outer = LOWEST_KEY, HIGHEST_KEY
        """Bounds of all ranges together."""

    def __len__(self) -> int:
        return len(self.firsts)

    def add(self, keys: Ids, hashes: Hashes) -> None:
        """Add rows: their keys and hashes, both of shape (n,)."""
        if len(keys):
            self.extent = min(self.extent[0], int(keys.min())), max(self.extent[1], int(keys.max()))
            self._change(np.add, keys, hashes)

    def remove(self, keys: Ids, hashes: Hashes) -> None:
        """Take out rows that were added."""
        self._change(np.subtract, keys, hashes)

    @property
    def has_changed(self) -> bool:
        """Whether rows were added, or removed that were added elsewhere."""
        return bool(self.rows.any() or self.sums.any() or self.extent != (HIGHEST_KEY, LOWEST_KEY))

    def join(self, other: KeyRanges) -> None:
        """Add what was counted in the same ranges elsewhere."""
        for name in ("rows", "sums", "product_sums"):
            getattr(self, name)[:] += getattr(other, name)
        self.extent = min(self.extent[0], other.extent[0]), max(self.extent[1], other.extent[1])

    def differing(self, other: KeyRanges) -> Mask:
        """Which ranges, shape (n,), do not hold the same rows as the same ranges of ``other``."""
        columns = ("rows", "sums", "product_sums")
        differ: Mask = np.any([getattr(self, name) != getattr(other, name) for name in columns], axis=0)
        return differ

    def bounds(self, number: int) -> tuple[int, int]:
        """The lowest and the highest key of a range."""
        first = self.outer[0] if number == 0 else int(self.firsts[number])
        last = self.outer[1] if number == len(self) - 1 else int(self.firsts[number + 1]) - 1
        return first, last

    def within_extent(self) -> KeyRanges:
        """The same ranges, without keys below the lowest and above the highest that was added."""
        ranges = copy(self)
        ranges.outer = self.extent
        return ranges

    def numbers(self, keys: Ids) -> npt.NDArray[np.intp]:
        """Which range each of the keys, shape (n,), is in."""
        return np.searchsorted(self.firsts[1:], keys, "right")

    def to_text(self) -> str:
        """The ranges as text: 43 characters each."""
        stored = np.empty(len(self), STORED)
        columns = self.firsts, self.rows, self.sums, self.product_sums
        for name, values in zip(STORED.names or (), columns, strict=True):
            stored[name] = values
        return b64encode(np.array(self.extent, EXTENT).tobytes() + stored.tobytes()).decode()

    @classmethod
    def from_text(cls, text: str) -> KeyRanges:
        """The ranges that became ``text``."""
        data = b64decode(text)
        lowest, highest = np.frombuffer(data, EXTENT, 2).tolist()
        stored = np.frombuffer(data, STORED, offset=2 * EXTENT.itemsize)
        found = cls(stored["first"].astype(np.int64))
        found.rows, found.sums, found.product_sums = (
            stored[name].astype(np.uint64) for name in ("rows", "sum", "product_sum")
        )
        found.extent = lowest, highest
        return found

    def _change(self, change: np.ufunc, keys: Ids, hashes: Hashes) -> None:
        numbers = self.numbers(keys)
        counts = np.bincount(numbers, minlength=len(self)).astype(np.uint64)
        change(self.rows, counts, out=self.rows)
        change.at(self.sums, numbers, hashes)
        change.at(self.product_sums, numbers, hashes * (hashes >> HALF))


@dataclass(frozen=True)
class ChosenRanges:
    """A choice of ranges; ``chosen``: shape (n,)."""

    key_ranges: KeyRanges
    chosen: Mask

    @property
    def rows_outside(self) -> int:
        """Number of rows in the other ranges."""
        return int(self.key_ranges.rows[~self.chosen].sum())

    def holds(self, keys: Ids) -> Mask:
        """Which of the keys are in them."""
        found: Mask = self.chosen[self.key_ranges.numbers(keys)]
        return found

    def bounds(self) -> Iterator[tuple[int, int]]:
        """The lowest and the highest key of each."""
        return map(self.key_ranges.bounds, np.flatnonzero(self.chosen).tolist())


class KeySample:
    """A sample of the keys of a partition's rows, to divide them into ranges. It is the same each time.

    :param live_rows: number of all rows, of which keys are chosen in order.
    """

    def __init__(self, live_rows: int, vector_bytes: int) -> None:
        self._count = count_ranges(live_rows, vector_bytes)
        self._random, self._share = np.random.default_rng(SEED), SAMPLED_KEYS * self._count / max(live_rows, 1)
        self._keys: list[Ids] = []

    @property
    def is_needed(self) -> bool:
        """Whether there will be several ranges."""
        return self._count > 1

    def add(self, keys: Ids) -> None:
        """Choose from the keys of the next rows, shape (rows,)."""
        self._keys.append(keys[self._random.random(len(keys)) < self._share])

    def key_ranges(self) -> KeyRanges:
        """Empty ranges of about as many rows each."""
        return divide_keys(np.concatenate(self._keys), self._count) if self._keys else one_range()


def count_ranges(rows: int, vector_bytes: int) -> int:
    """Number of ranges for the keys of ``rows`` rows: up to 1,024, of about 32 MiB or 65,536 rows each."""
    range_rows = min(max(RANGE_BYTES // vector_bytes, MIN_RANGE_ROWS), MAX_RANGE_ROWS)
    return min(max(-(-rows // range_rows), 1), MAX_RANGES)


def divide_keys(sample: Ids, count: int) -> KeyRanges:
    """``count`` ranges, at most, with about the same share of a sample of the keys each."""
    sample = np.sort(sample)
    places = len(sample) * np.arange(1, count) // count
    return KeyRanges(np.unique(np.append(np.int64(LOWEST_KEY), sample[places])))


def one_range() -> KeyRanges:
    """All keys."""
    return divide_keys(np.empty(0, np.int64), 1)
