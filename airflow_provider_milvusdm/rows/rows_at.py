"""Read single rows of a segment, and digests of their vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.rows import VectorBatch, ranges
from airflow_provider_milvusdm.sources.base import Segment

Ids = npt.NDArray[np.int64]
DIGEST = np.dtype("V16")
GAPS = 128
"""If two rows of a local file are farther apart than this fraction of a batch, they are read one by one: faster than
all between. Of a remote file, a read is a request, which takes as long as to read a batch."""


def read_rows_at(segment: Segment, offsets: Ids, batch_rows: int) -> Iterator[tuple[int, int, VectorBatch]]:
    """The live rows with these numbers, which are sorted and unique, in batches.

    Before each batch: the places in ``offsets`` at which its rows begin and end. ``batch_rows``: stored rows that are
    read at once.
    """
    is_local = all(isinstance(file, Path) for file in segment.files)
    gaps = np.flatnonzero(np.diff(offsets) > (max(batch_rows // GAPS, 1) if is_local else batch_rows)) + 1
    for begin, end in pairwise([0, *gaps.tolist(), len(offsets)] if len(offsets) else []):
        for start, stop in ranges(int(offsets[begin]), int(offsets[end - 1]) + 1, batch_rows):
            first, last = (int(place) for place in np.searchsorted(offsets, (start, stop)))
            if first < last:
                yield first, last, _chosen(segment, start, stop, offsets[first:last])


def _chosen(segment: Segment, start: int, stop: int, offsets: Ids) -> VectorBatch:
    """Of the live rows among the stored rows ``start`` to ``stop``, those with these numbers."""
    batch = segment.read(start, stop)
    if len(batch) == len(offsets):
        return batch
    return batch.where(np.isin(np.flatnonzero(segment.live(start, stop)) + start, offsets, assume_unique=True))


def digests_at(segment: Segment, offsets: Ids, batch_rows: int) -> npt.NDArray[np.void]:
    """Digests of the vectors of the live rows with these numbers, which are sorted: void of shape (rows,)."""
    digests = np.empty(len(offsets), DIGEST)
    for first, last, batch in read_rows_at(segment, offsets, batch_rows):
        digests[first:last] = digests_of(batch)
    return digests


def digests_of(batch: VectorBatch) -> npt.NDArray[np.void]:
    """Digests of the vectors of a batch: void of shape (rows,)."""
    found = [hashlib.blake2b(vector.tobytes(), digest_size=DIGEST.itemsize).digest() for vector in batch.vectors]
    return np.frombuffer(b"".join(found), DIGEST)
