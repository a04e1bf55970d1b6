"""Shares of a large partition: what each of several resolve tasks takes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.groups import PART_BYTES

SHARE_BYTES = 8 << 30
"""Vectors that one task reads, about: seconds in memory, a minute on a slow disk, which a retry repeats."""
SHARE_ROWS = 12 << 20
"""Rows whose ids one task sorts, about: 96 MB, for workers of 512 MB."""


@dataclass(frozen=True)
class Share:
    """What one of several tasks resolves of a partition, or of partitions that have one key space.

    It reads the vectors of some rows, and searches a range of ids for duplicates, wherever their rows are. All shares
    were made from files of the same versions, and count their rows in the same ranges of keys.
    """

    number: int
    """From 1."""
    count: int
    """Number of shares."""
    slices: tuple[Slice, ...]
    """The rows whose vectors it reads: segments, and ranges of rows of one. Rows have the keys of ``remap``."""
    key_ranges: Mapping[str, str]
    """By tag, if there are several: the empty ranges of keys, see :mod:`airflow_provider_milvusdm.rows.key_ranges`."""
    new_key_ranges: Mapping[str, str]
    """As ``key_ranges``, for rows that get new keys (``duplicate_ids: remap``)."""
    ids: tuple[int, int] | None = None
    """The lowest and the highest id that it searches for duplicates; None: other shares search all ids."""
    searched: tuple[Slice, ...] = ()
    """All rows of the segments that have such ids."""

    def work(self, vector_bytes: int) -> int:
        """Bytes to read, for grouping, given the bytes of a vector."""
        rows = sum(row_slice.stored_rows for row_slice in self.slices)
        return rows * vector_bytes + max(len(self.slices), 1) * PART_BYTES


def count_shares(rows: int, vector_bytes: int) -> int:
    """Number of shares for so many rows; 1: one task takes them."""
    return max(count_id_ranges(rows), -(-rows * vector_bytes // SHARE_BYTES))


def count_id_ranges(rows: int) -> int:
    """Number of ranges of ids for so many rows, each of which one task searches for duplicates."""
    return max(-(-rows // SHARE_ROWS), 1)


def cut_shares(slices: Iterable[Slice], count: int) -> Iterator[tuple[Slice, ...]]:
    """Cut slices, in order, into ``count`` shares of as many stored rows, or less shares; empty slices are kept."""
    slices = list(slices)
    capacity = max(-(-sum(row_slice.stored_rows for row_slice in slices) // count), 1)
    share: list[Slice] = []
    room = capacity
    for row_slice in slices:
        start = row_slice.start
        while start < row_slice.stop:
            if not room:
                yield tuple(share)
                share, room = [], capacity
            stop = min(start + room, row_slice.stop)
            share.append(row_slice.part(start, stop))
            room -= stop - start
            start = stop
        if not row_slice.stored_rows:
            share.append(row_slice)
    yield tuple(share)
