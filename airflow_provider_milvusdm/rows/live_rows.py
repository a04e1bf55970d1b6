"""The live rows of a segment, or of a range of its rows, while they are resolved, and which of them are excluded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import SOURCE_ID, Slice
from airflow_provider_milvusdm.model.mask import Mask, RowMask
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.rows.key_ranges import HIGHEST_KEY, LOWEST_KEY, KeyRanges
from airflow_provider_milvusdm.rows.row_hashes import hash_rows
from airflow_provider_milvusdm.rows.rows_at import read_rows_at
from airflow_provider_milvusdm.sources.base import Segment

Ids = npt.NDArray[np.int64]
NO_IDS = HIGHEST_KEY, LOWEST_KEY
"""The lowest and the highest of no ids."""


class LiveRows:
    """``row_slice``: the rows; if its ``first_key`` is set, they get new keys. ``batch_rows``: vectors read at once."""

    def __init__(self, row_slice: Slice, segment: Segment, batch_rows: int) -> None:
        self.row_slice, self.segment, self.batch_rows = row_slice, segment, batch_rows
        self.key_ranges: KeyRanges | None = None
        """Where the rows are counted; None: nowhere."""
        self.checksum = 0
        """Of ids and vectors, after :meth:`vectors` has read all of them."""
        self.excluded: RowMask | None = None
        """Of all rows of the segment; None: no row is excluded."""
        self.id_range: tuple[int, int] | None = None
        """Lowest and highest id, without rows that are excluded because of their vectors; None: not known."""

    @property
    def name(self) -> str:
        """The segment's."""
        return self.row_slice.segment

    @property
    def tag(self) -> str:
        """The partition's."""
        return self.row_slice.partition

    @property
    def excluded_rows(self) -> int:
        return self.excluded.count() if self.excluded else 0

    def exclude(self, offsets: Ids) -> None:
        """Exclude the rows with these numbers, sorted, and take them out of the ranges that they are counted in."""
        if self.excluded is None:
            self.excluded = RowMask(self.segment.stored_rows)
        self.excluded.set(offsets)
        if self.key_ranges is None:
            return
        for first, last, batch in read_rows_at(self.segment, offsets, self.batch_rows):
            rows = self._with_keys(batch, offsets[first:last])
            self.key_ranges.remove(rows.ids, hash_rows(rows))

    def read_keys(self) -> Iterator[Ids]:
        """Primary keys of all live rows, in batches, excluded rows included."""
        for start, stop in self._ranges(IDS_A_BATCH):
            if self.row_slice.first_key is None:
                yield self.segment.ids(start, stop)
            else:
                yield self._live(start, stop) + self._key_of_row_0

    def vectors(self) -> Iterator[tuple[int, int, VectorBatch]]:
        """Start and stop of stored rows, and the live rows among them, in order, excluded rows included.

        They are counted in ``key_ranges`` until they are excluded.
        """
        for start, stop in self._ranges(self.batch_rows):
            batch = self.segment.read(start, stop)
            rows = batch if self.row_slice.first_key is None else self._with_keys(batch, self._live(start, stop))
            hashes = hash_rows(rows)
            if self.key_ranges is not None:
                self.key_ranges.add(rows.ids, hashes)
            self.checksum = (self.checksum + int(hashes.sum())) % 2**64
            yield start, stop, batch

    def offsets(self, start: int, stop: int, chosen: Mask) -> Ids:
        """Numbers of the rows that are chosen of the live ones among the stored rows ``start`` to ``stop``."""
        return self._live(start, stop)[chosen]

    def batches(self, *, backwards: bool = False) -> Iterator[tuple[Ids, Ids]]:
        """Numbers of the stored rows and their ids, without excluded rows: int64 of shape (rows,) each.

        The batches come in order, or with ``backwards`` the last one first; the rows of a batch are always in order.
        """
        batches = list(self._ranges(IDS_A_BATCH))
        for start, stop in reversed(batches) if backwards else batches:
            offsets, ids = self._live(start, stop), self.segment.ids(start, stop)
            if self.excluded is not None:
                kept = ~self.excluded.at(offsets)
                offsets, ids = offsets[kept], ids[kept]
            yield offsets, ids

    def read_ids(self, first: int, last: int) -> Iterator[Ids]:
        """The ids from ``first`` to ``last``, without those of excluded rows, in batches: int64 of shape (rows,).

        Nothing is read if an earlier call found that there are none.
        """
        if not self.may_hold(first, last):
            return
        found = NO_IDS
        for ids in self._ids():
            lowest, highest = range_of(ids)
            found = join_ranges([found, (lowest, highest)])
            yield ids if first <= lowest and highest <= last else ids[(first <= ids) & (ids <= last)]
        self.id_range = self.id_range or found

    def may_hold(self, first: int, last: int) -> bool:
        """Whether a row may have an id from ``first`` to ``last``; all ids must have been read to exclude that."""
        return self.id_range is None or (self.id_range[0] <= last and first <= self.id_range[1])

    def _ids(self) -> Iterator[Ids]:
        if self.excluded is None:
            for start, stop in self._ranges(IDS_A_BATCH):
                yield self.segment.ids(start, stop)
        else:
            for _, ids in self.batches():
                yield ids

    def _ranges(self, rows: int) -> Iterator[tuple[int, int]]:
        return ranges(self.row_slice.start, self.row_slice.stop, rows)

    @property
    def _key_of_row_0(self) -> int:
        return (self.row_slice.first_key or 0) - self.row_slice.start

    def _with_keys(self, batch: VectorBatch, offsets: Ids) -> VectorBatch:
        """The rows with these numbers as they are loaded."""
        if self.row_slice.first_key is None:
            return batch
        return VectorBatch(offsets + self._key_of_row_0, batch.vectors, {SOURCE_ID: batch.ids})

    def _live(self, start: int, stop: int) -> Ids:
        """Numbers of the live rows among the stored rows ``start`` to ``stop``."""
        return np.flatnonzero(self.segment.live(start, stop)) + start


def range_of(ids: Ids) -> tuple[int, int]:
    """The lowest and the highest of the ids, shape (n,); of none, ``NO_IDS``."""
    return (int(ids.min()), int(ids.max())) if len(ids) else NO_IDS


def join_ranges(id_ranges: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The lowest and the highest id of all ranges; of none, ``NO_IDS``."""
    firsts, lasts = zip(NO_IDS, *id_ranges, strict=True)
    return min(firsts), max(lasts)
