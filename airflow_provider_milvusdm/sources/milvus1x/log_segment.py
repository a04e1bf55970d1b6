"""The log of a Milvus 1.x server as a source: its insertions as segments, its deletions from segments on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import CollectionSpec, PartitionSpec, Slice
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.sources.milvus1x.replay import ID, Deletions, Insertions, Replay, read_replay
from airflow_provider_milvusdm.sources.milvus1x.unflushed import LOG, Unflushed
from airflow_provider_milvusdm.storage.files import read_items
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path


def log_options(
    folder: AnyPath, unflushed: Unflushed, flushed: Mapping[str, int], partitions: Iterable[PartitionSpec]
) -> dict[str, Any]:
    """What a manifest has to say of the log for some partitions of a collection; ``flushed``: lsns of all of these."""
    partitions = list(partitions)
    segments = [(one.tag, segment.name) for one in partitions for segment in one.segments]
    return {
        "folder": str(folder),
        "last_lsn": unflushed.last_lsn,
        "flushed": {one.tag: max(flushed[one.tag], unflushed.start) for one in partitions},
        "tables": {name.partition("/")[0]: tag for tag, name in segments if not is_in_log(name)},
    }


def options_of(options: Mapping[str, Any], slices: Iterable[Slice]) -> dict[str, Any]:
    """The same as far as these slices need it."""
    names = {piece.segment for piece in slices}
    tables = {name.partition("/")[0] for name in names if not is_in_log(name)}
    found = {table: tag for table, tag in options["tables"].items() if table in tables}
    tags = {*found.values(), *(name.split("/", 2)[2] for name in names if is_in_log(name))}
    flushed = {tag: lsn for tag, lsn in options["flushed"].items() if tag in tags}
    return {**options, "flushed": flushed, "tables": found}


def is_in_log(name: str) -> bool:
    """Whether it is ``wal/<file number>/<tag>``: names of segments on disk have one slash."""
    return name.startswith(f"{LOG}/") and name.count("/") > 1


class Milvus1xLog:
    """What the log adds to the segments of some partitions of a collection, and takes from them."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.folder, self.last_lsn = source_path(options["folder"]), int(options["last_lsn"])
        self.flushed: dict[str, int] = options["flushed"]
        self.tables: dict[str, str] = options["tables"]
        self._read: Replay | None = None

    def segment(self, collection: CollectionSpec, name: str) -> LogSegment:
        """Open segment ``wal/<file number>/<tag>``."""
        _, number, tag = name.split("/", 2)
        replay = self._replay(collection)
        return LogSegment(collection, replay.insertions(int(number), tag), replay.deletions(tag))

    def deleted_ids(self, collection: CollectionSpec, table_id: str) -> npt.NDArray[np.int64]:
        """Ids, sorted, that the log takes out of the segments of a partition."""
        return self._replay(collection).deleted_ids(self.tables[table_id])

    def _replay(self, collection: CollectionSpec) -> Replay:
        if self._read is None:
            flushed = tuple(self.flushed.items())
            self._read = read_replay(self.folder, collection.name, collection.vector_bytes, flushed, self.last_lsn)
        return self._read


class LogSegment:
    """Ids and vectors of the records that insert into one partition, in order; the file is mapped range by range."""

    deleted_rows = 0
    files: tuple[AnyPath, ...] = ()
    """None that must stay as it is: a server appends to its log, and what stood there before is still the same."""

    def __init__(self, collection: CollectionSpec, insertions: Insertions, deletions: Deletions) -> None:
        self._dtype = np.dtype("u1" if collection.metric.is_binary else "<f4")
        self._vector_bytes = collection.vector_bytes
        self._insertions, self._deletions = insertions, deletions
        self.stored_rows = int(insertions.starts[-1])

    @cached_property
    def replayed_deletes(self) -> int:
        return int(np.count_nonzero(~self.live(0, self.stored_rows)))

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        return ~self._deletions.of(self._stored_ids(start, stop), self._lsns(start, stop))

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self._stored_ids(start, stop)[self.live(start, stop)]

    def read(self, start: int, stop: int) -> VectorBatch:
        vectors = self._join(self._insertions.vectors_at, self._vector_bytes, start, stop).view(self._dtype)
        rows = vectors.reshape(-1, self._vector_bytes // self._dtype.itemsize)
        return VectorBatch(self.ids(start, stop), rows[self.live(start, stop)])

    def fingerprint(self) -> bytes:
        """Digest of the ids, the lsns, and what is deleted."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self._stored_ids, self._lsns, self.live):
            digest.update(part(0, self.stored_rows).data)
        return digest.digest()

    def _stored_ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self._join(self._insertions.ids_at, ID.itemsize, start, stop).view(ID)

    def _lsns(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        rows = np.arange(start, stop)
        return self._insertions.lsns[np.searchsorted(self._insertions.starts, rows, "right") - 1]

    def _join(self, places: npt.NDArray[np.int64], item_bytes: int, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """The items of these rows: the first of each record stands at its place."""
        if start == stop:
            return np.empty(0, np.uint8)
        starts = self._insertions.starts
        first, last = np.searchsorted(starts, start, "right") - 1, np.searchsorted(starts, stop, "left")
        begins = places[first:last] + np.maximum(start - starts[first:last], 0) * item_bytes
        ends = places[first:last] + (np.minimum(starts[first + 1 : last + 1], stop) - starts[first:last]) * item_bytes
        base, length = int(begins[0]), int(ends[-1] - begins[0])
        content = read_items(self._insertions.path, np.dtype("u1"), base, length)
        return np.concatenate([content[begin:end] for begin, end in zip(begins - base, ends - base, strict=True)])
