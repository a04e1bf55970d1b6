"""The live rows of one segment while it is resolved, and which of them a policy excludes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import SOURCE_ID, Slice
from airflow_provider_milvusdm.model.mask import Mask, to_text
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.rows.key_ranges import KeyRanges
from airflow_provider_milvusdm.rows.row_hashes import hash_rows
from airflow_provider_milvusdm.sources.base import Segment
from airflow_provider_milvusdm.storage.file_version import version_of

Ids = npt.NDArray[np.int64]


class LiveRows:
    """``name``: the segment's. ``tag``: its partition. ``batch_rows``: rows whose vectors are read at once.

    ``first_key``: primary key of the first stored row, those behind it counted on; None: the ids are the keys.
    """

    def __init__(self, name: str, tag: str, segment: Segment, batch_rows: int, first_key: int | None = None) -> None:
        self.name, self.tag, self.segment, self.batch_rows = name, tag, segment, batch_rows
        self.first_key = first_key
        self.file_version = version_of(segment.files)
        self.checksum = 0
        """Of ids and vectors, after :meth:`vectors` has read all of them."""
        self._excluded: Mask | None = None
        self._key_ranges: KeyRanges | None = None

    def exclude(self, offsets: Ids) -> None:
        """Exclude the rows at these offsets, and take them out of the ranges that they were counted in."""
        if self._excluded is None:
            self._excluded = np.zeros(self.segment.stored_rows, np.bool_)
        if self._key_ranges is not None:
            offsets = np.sort(offsets)
            for start, stop in ranges(int(offsets[0]), int(offsets[-1]) + 1, self.batch_rows):
                first, last = np.searchsorted(offsets, (start, stop))
                if first < last:
                    self._uncount(self._key_ranges, start, stop, offsets[first:last])
        self._excluded[offsets] = True

    def _uncount(self, key_ranges: KeyRanges, start: int, stop: int, offsets: Ids) -> None:
        chosen = np.isin(self._live(start, stop), offsets, assume_unique=True)
        rows = self._with_keys(start, stop, self.segment.read(start, stop))
        key_ranges.remove(rows.ids[chosen], hash_rows(rows)[chosen])

    @property
    def excluded_rows(self) -> int:
        return 0 if self._excluded is None else int(np.count_nonzero(self._excluded))

    def excluded(self, row_slice: Slice) -> str:
        """Which rows of a slice are excluded, as the text of a mask."""
        return "" if self._excluded is None else to_text(self._excluded[row_slice.start : row_slice.stop])

    def read_keys(self) -> Iterator[Ids]:
        """Primary keys of all live rows, in batches, excluded rows included."""
        for start, stop in ranges(0, self.segment.stored_rows, IDS_A_BATCH):
            if self.first_key is None:
                yield self.segment.ids(start, stop)
            else:
                yield self._live(start, stop) + self.first_key

    def vectors(self, key_ranges: KeyRanges) -> Iterator[tuple[int, int, VectorBatch]]:
        """Start and stop of stored rows, and the live rows among them, in order, excluded rows included.

        They are counted in ``key_ranges`` until they are excluded.
        """
        self._key_ranges = key_ranges
        for start, stop in ranges(0, self.segment.stored_rows, self.batch_rows):
            batch = self.segment.read(start, stop)
            rows = self._with_keys(start, stop, batch)
            hashes = hash_rows(rows)
            key_ranges.add(rows.ids, hashes)
            self.checksum = (self.checksum + int(hashes.sum())) % 2**64
            yield start, stop, batch

    def _with_keys(self, start: int, stop: int, batch: VectorBatch) -> VectorBatch:
        """The rows as they are loaded, excluded rows included."""
        if self.first_key is None:
            return batch
        return VectorBatch(self._live(start, stop) + self.first_key, batch.vectors, {SOURCE_ID: batch.ids})

    def _live(self, start: int, stop: int) -> Ids:
        """Offsets of the live rows among the stored rows ``start`` to ``stop``."""
        return np.flatnonzero(self.segment.live(start, stop)) + start

    def batches(self) -> Iterator[tuple[Ids, Ids]]:
        """Numbers of the stored rows and their ids, without excluded rows, in order: int64 of shape (rows,) each."""
        for start, stop in ranges(0, self.segment.stored_rows, IDS_A_BATCH):
            offsets, ids = self._live(start, stop), self.segment.ids(start, stop)
            if self._excluded is not None:
                kept = ~self._excluded[offsets]
                offsets, ids = offsets[kept], ids[kept]
            yield offsets, ids
