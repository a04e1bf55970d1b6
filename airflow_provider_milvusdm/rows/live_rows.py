"""The live rows of one segment while it is resolved, and which of them a policy excludes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.mask import Mask, to_text
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.sources.base import Segment
from airflow_provider_milvusdm.storage.file_version import version_of

Ids = npt.NDArray[np.int64]


class LiveRows:
    """The live rows of a segment.

    ``name``: the segment's name. ``tag``: its partition's tag. ``batch_rows``: stored rows whose vectors are read at
    once.
    """

    def __init__(self, name: str, tag: str, segment: Segment, batch_rows: int) -> None:
        self.name, self.tag, self.segment, self.batch_rows = name, tag, segment, batch_rows
        self.file_version = version_of(segment.files)
        self.checksum = 0
        """CRC-32 of the vectors, after :meth:`vectors` has read all of them."""
        self._excluded: Mask | None = None

    def exclude(self, offsets: Ids) -> None:
        """Exclude the stored rows with these numbers: int64 of shape (rows,)."""
        if self._excluded is None:
            self._excluded = np.zeros(self.segment.stored_rows, np.bool_)
        self._excluded[offsets] = True

    @property
    def excluded_rows(self) -> int:
        return 0 if self._excluded is None else int(np.count_nonzero(self._excluded))

    def excluded(self, row_slice: Slice) -> str:
        """Which rows of a slice are excluded, as the text of a mask."""
        return "" if self._excluded is None else to_text(self._excluded[row_slice.start : row_slice.stop])

    def vectors(self) -> Iterator[tuple[int, int, VectorBatch]]:
        """Ranges of stored rows (start, stop) with their live rows, in order; excluded rows are not left out."""
        for start, stop in ranges(0, self.segment.stored_rows, self.batch_rows):
            batch = self.segment.read(start, stop)
            self.checksum = zlib.crc32(np.ascontiguousarray(batch.vectors).data, self.checksum)
            yield start, stop, batch

    def batches(self) -> Iterator[tuple[Ids, Ids]]:
        """Numbers of the stored rows and their ids, without excluded rows, in order: int64 of shape (rows,) each."""
        for start, stop in ranges(0, self.segment.stored_rows, IDS_A_BATCH):
            offsets, ids = np.flatnonzero(self.segment.live(start, stop)) + start, self.segment.ids(start, stop)
            if self._excluded is not None:
                kept = ~self._excluded[offsets]
                offsets, ids = offsets[kept], ids[kept]
            yield offsets, ids
