"""The log of a Milvus 1.x server as a source: its insertions are segments, its deletions apply to segment folders."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.sources.milvus1x.log_options import LogOptions
from airflow_provider_milvusdm.sources.milvus1x.replay import ID, Deletions, Insertions, Replay, read_replay
from airflow_provider_milvusdm.sources.milvus1x.segment_name import LogSegmentName
from airflow_provider_milvusdm.storage.files import read_items
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path


class Milvus1xLog:
    """What the log inserts into some partitions of a collection, and deletes from them."""

    def __init__(self, options: LogOptions) -> None:
        self.folder, self.options = source_path(options.log_folder), options
        self._read: Replay | None = None

    def segment(self, collection: CollectionSpec, name: LogSegmentName) -> LogSegment:
        """Open a segment of the log. Raises DamagedSourceError or ChangedSourceError."""
        replay = self._replay(collection)
        return LogSegment(collection, replay.insertions(name.file_number, name.tag), replay.deletions(name.tag))

    def deleted_ids(self, collection: CollectionSpec, table_id: str) -> npt.NDArray[np.int64]:
        """Ids that the log deletes from the segment folders of a partition: int64 of shape (ids,), sorted."""
        return self._replay(collection).deleted_ids(self.options.tags[table_id])

    def _replay(self, collection: CollectionSpec) -> Replay:
        if self._read is None:
            flushed, last_lsn = tuple(self.options.flushed.items()), self.options.last_lsn
            self._read = read_replay(self.folder, collection.name, collection.vector_bytes, flushed, last_lsn)
        return self._read


class LogSegment:
    """The rows that one file of the log inserts into one partition, a ``Segment``, in the order of its records."""

    deleted_rows = 0
    files: tuple[AnyPath, ...] = ()
    """Not checked for changes: a server only appends to its log."""

    def __init__(self, collection: CollectionSpec, insertions: Insertions, deletions: Deletions) -> None:
        self._dtype = np.dtype("u1" if collection.metric.is_binary else "<f4")
        self._vector_bytes = collection.vector_bytes
        self._insertions, self._deletions = insertions, deletions
        self.stored_rows = int(insertions.starts[-1])

    @cached_property
    def replayed_deletes(self) -> int:
        return int(np.count_nonzero(~self.live(0, self.stored_rows)))

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        return ~self._deletions.mask(self._stored_ids(start, stop), self._lsns(start, stop))

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self._stored_ids(start, stop)[self.live(start, stop)]

    def read(self, start: int, stop: int) -> VectorBatch:
        vectors = self._join(self._insertions.vectors_at, self._vector_bytes, start, stop).view(self._dtype)
        rows = vectors.reshape(-1, self._vector_bytes // self._dtype.itemsize)
        return VectorBatch(self.ids(start, stop), rows[self.live(start, stop)])

    def fingerprint(self) -> bytes:
        """Digest of the ids, the lsns and the deletions."""
        digest = hashlib.blake2b(digest_size=16)
        for read in (self._stored_ids, self._lsns, self.live):
            digest.update(read(0, self.stored_rows).data)
        return digest.digest()

    def _stored_ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self._join(self._insertions.ids_at, ID.itemsize, start, stop).view(ID)

    def _lsns(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        rows = np.arange(start, stop)
        return self._insertions.lsns[np.searchsorted(self._insertions.starts, rows, "right") - 1]

    def _join(self, places: npt.NDArray[np.int64], item_bytes: int, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """The bytes of the items (ids or vectors) of these rows: uint8 of shape ((stop - start) * item_bytes,).

        ``places``: byte in the file at which the items of each record start.
        """
        if start == stop:
            return np.empty(0, np.uint8)
        starts = self._insertions.starts
        first, last = np.searchsorted(starts, start, "right") - 1, np.searchsorted(starts, stop, "left")
        begins = places[first:last] + np.maximum(start - starts[first:last], 0) * item_bytes
        ends = places[first:last] + (np.minimum(starts[first + 1 : last + 1], stop) - starts[first:last]) * item_bytes
        base, length = int(begins[0]), int(ends[-1] - begins[0])
        content = read_items(self._insertions.path, np.dtype("u1"), base, length)
        return np.concatenate([content[begin:end] for begin, end in zip(begins - base, ends - base, strict=True)])
