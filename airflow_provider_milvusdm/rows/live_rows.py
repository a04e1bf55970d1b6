"""The rows of a segment while it's resolved: the live ones, without those that a policy leaves out."""

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
    """``name``: the segment's. ``tag``: its partition. ``batch_rows``: rows whose vectors are read at once."""

    def __init__(self, name: str, tag: str, segment: Segment, batch_rows: int) -> None:
        self.name, self.tag, self.segment, self.batch_rows = name, tag, segment, batch_rows
        self.file_version = version_of(segment.files)
        self.checksum = 0
        """CRC-32 of the vectors, once :meth:`vectors` has read them all."""
        self._excluded: Mask | None = None

    def exclude(self, offsets: Ids) -> None:
        """Leave out the rows at these offsets."""
        if self._excluded is None:
            self._excluded = np.zeros(self.segment.stored_rows, np.bool_)
        self._excluded[offsets] = True

    @property
    def excluded_rows(self) -> int:
        return 0 if self._excluded is None else int(np.count_nonzero(self._excluded))

    def excluded(self, piece: Slice) -> str:
        """Which rows of the slice are left out, for its manifest."""
        return "" if self._excluded is None else to_text(self._excluded[piece.start : piece.stop])

    def vectors(self) -> Iterator[tuple[int, int, VectorBatch]]:
        """Stored rows, from and to, and the live ones among them, in order; those left out as well."""
        for start, stop in ranges(0, self.segment.stored_rows, self.batch_rows):
            batch = self.segment.read(start, stop)
            self.checksum = zlib.crc32(np.ascontiguousarray(batch.vectors).data, self.checksum)
            yield start, stop, batch

    def batches(self) -> Iterator[tuple[Ids, Ids]]:
        """Offsets and ids, in stored order."""
        for start, stop in ranges(0, self.segment.stored_rows, IDS_A_BATCH):
            offsets, ids = np.flatnonzero(self.segment.live(start, stop)) + start, self.segment.ids(start, stop)
            if self._excluded is not None:
                kept = ~self._excluded[offsets]
                offsets, ids = offsets[kept], ids[kept]
            yield offsets, ids
