"""The segment folders of a Milvus 1.x server: ``<segment_id>.rv``, ``<segment_id>.uid``, ``deleted_docs``.

Each file starts with a u64 (little-endian), the number of bytes that follow. A file can be longer than that, if the
server wrote it again with fewer bytes. Source: the server's code, ``core/src/codecs/default/DefaultVectorsFormat.cpp``
and ``DefaultDeletedDocsFormat.cpp``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceNotFoundError
from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.mask import RowMask, is_among
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.sources.milvus1x.log_options import LogOptions
from airflow_provider_milvusdm.sources.milvus1x.log_segment import LogSegment, Milvus1xLog
from airflow_provider_milvusdm.sources.milvus1x.segment_name import LogSegmentName, parse_segment_name
from airflow_provider_milvusdm.storage.files import read_items, refuse_link
from airflow_provider_milvusdm.storage.paths import AnyPath, real_path, source_path

HEADER = np.dtype("<u8")
ID = np.dtype("<i8")
NO_IDS = np.empty(0, np.int64)
OFFSET = np.dtype("<i4")
CURE = "Restore the segment's folder from a backup, or leave its collection out of source_collection."
CURE_MISSING = (
    "If the 1.x server's configuration has a storage.secondary_path, the folder is there: copy the content of its "
    "db/tables to this tables folder. If the server still runs, it may have merged the segment: stop it, and start a "
    f"new run. Otherwise: {CURE}"
)


class Milvus1xSource:
    """The tables folder of a Milvus 1.x server (``db/tables``), and its log if that is to be replayed.

    ``options``: those of :class:`LogOptions`, or none.
    """

    def __init__(self, folder: str, options: Mapping[str, Any] | None = None) -> None:
        self.folder = source_path(folder)
        self.log = Milvus1xLog(LogOptions(**options)) if options else None

    def segment(self, collection: CollectionSpec, name: str) -> Milvus1xSegment | LogSegment:
        """Open a segment, a folder or one in the log.

        Raises SourceNotFoundError, DamagedSourceError or ChangedSourceError.
        """
        parsed = parse_segment_name(name)
        if self.log and isinstance(parsed, LogSegmentName):
            return self.log.segment(collection, parsed)
        folder = self.folder / name
        if isinstance(parsed, LogSegmentName) or not parsed.is_valid or not self._contains(folder):
            raise DamagedSourceError(
                f"segment {name!r} is outside the tables folder",
                where=self.folder,
                expected="<table_id>/<segment_id>",
                found=repr(name),
                cure="The catalog is damaged or was manipulated: restore it from a backup.",
            )
        if not folder.is_dir():
            raise SourceNotFoundError(
                "a segment's folder is gone", where=folder, expected="a folder", found="none", cure=CURE_MISSING
            )
        deleted = self.log.deleted_ids(collection, parsed.table_id) if self.log else NO_IDS
        return Milvus1xSegment(folder, collection, deleted)

    def _contains(self, folder: AnyPath) -> bool:
        """Whether a folder is two levels below the tables folder, once links are followed."""
        return real_path(folder).parent.parent == real_path(self.folder)


class Milvus1xSegment:
    """Ids, deletions and vectors of one segment folder, a ``Segment``; only the deletions are kept in memory.

    ``deleted_ids``: ids that the server's log deletes in addition to ``deleted_docs``: int64 of shape (ids,), sorted.
    Raises SourceNotFoundError or DamagedSourceError.
    """

    def __init__(
        self, folder: AnyPath, collection: CollectionSpec, deleted_ids: npt.NDArray[np.int64] = NO_IDS
    ) -> None:
        self.folder, self._deleted_ids = folder, deleted_ids
        self._dtype = np.dtype("u1" if collection.metric.is_binary else "<f4")
        self._columns = collection.vector_bytes // self._dtype.itemsize
        self._rv, self._uid = (folder / f"{folder.name}.{suffix}" for suffix in ("rv", "uid"))
        self.stored_rows = _payload_bytes(self._uid, ID.itemsize) // ID.itemsize
        self._check_vectors(collection)
        self._deleted = self._read_deleted()

    @property
    def deleted_rows(self) -> int:
        return self._deleted.count() if self._deleted else 0

    @cached_property
    def replayed_deletes(self) -> int:
        if not self._deleted_ids.size:
            return 0
        batches = ranges(0, self.stored_rows, IDS_A_BATCH)
        live = sum(int(np.count_nonzero(self.live(start, stop))) for start, stop in batches)
        return self.stored_rows - self.deleted_rows - live

    @property
    def files(self) -> tuple[AnyPath, ...]:
        return self._rv, self._uid, self.folder / "deleted_docs"

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        live: npt.NDArray[np.bool_] = np.ones(stop - start, np.bool_)
        if self._deleted:
            live = ~self._deleted.part(start, stop)
        if self._deleted_ids.size:
            live &= ~is_among(_map(self._uid, ID, start, stop), self._deleted_ids)
        return live

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return _select(_map(self._uid, ID, start, stop), self.live(start, stop))

    def read(self, start: int, stop: int) -> VectorBatch:
        vectors = _map(self._rv, self._dtype, start * self._columns, stop * self._columns)
        return VectorBatch(self.ids(start, stop), _select(vectors.reshape(-1, self._columns), self.live(start, stop)))

    def fingerprint(self) -> bytes:
        digest = hashlib.blake2b(self.stored_rows.to_bytes(8, "little"), digest_size=16)
        for start, stop in ranges(0, self.stored_rows, IDS_A_BATCH):
            digest.update(_map(self._uid, ID, start, stop).data)
            digest.update(np.packbits(self.live(start, stop)).data)
        return digest.digest()

    def _check_vectors(self, collection: CollectionSpec) -> None:
        found, expected = _payload_bytes(self._rv, 1), self.stored_rows * collection.vector_bytes
        if found != expected:
            raise DamagedSourceError(
                "vectors and ids of a segment don't match",
                where=self._rv,
                expected=f"{expected} bytes: {self.stored_rows} ids x {collection.vector_bytes} bytes per vector",
                found=f"{found} bytes",
                cure=CURE,
            )

    def _read_deleted(self) -> RowMask | None:
        """Which rows ``deleted_docs`` lists; None: none."""
        path = self.folder / "deleted_docs"
        offsets = _map(path, OFFSET, 0, _payload_bytes(path, OFFSET.itemsize) // OFFSET.itemsize)
        outside = offsets[(offsets < 0) | (offsets >= self.stored_rows)]
        if outside.size:
            raise DamagedSourceError(
                "a deletion names a row that doesn't exist",
                where=path,
                expected=f"offsets from 0, below {self.stored_rows}",
                found=f"{outside.size} others, the first {outside[0]}",
                cure=CURE,
            )
        if not offsets.size:
            return None
        deleted = RowMask(self.stored_rows)
        deleted.set(offsets.astype(np.int64))
        return deleted


def _payload_bytes(path: AnyPath, item_bytes: int) -> int:
    """Number of bytes after the header. Raises an error if some are missing, or if they end inside an item."""
    refuse_link(path)
    if not path.is_file():
        raise SourceNotFoundError("a segment's file is gone", where=path, expected="a file", found="none", cure=CURE)
    size = path.stat().st_size
    header = read_items(path, np.dtype("u1"), 0, min(HEADER.itemsize, size)).tobytes()
    if len(header) < HEADER.itemsize:
        raise DamagedSourceError(
            "a segment's file is too short",
            where=path,
            expected="a header of 8 bytes",
            found=f"{size} bytes",
            cure=CURE,
        )
    claimed, present = int.from_bytes(header, "little"), size - HEADER.itemsize
    if claimed > present:
        raise DamagedSourceError(
            "a segment's file is shorter than its header says",
            where=path,
            expected=f"{claimed} bytes after the header",
            found=f"{present} bytes",
            cure=CURE,
        )
    if claimed % item_bytes:
        raise DamagedSourceError(
            "a segment's file ends inside an item",
            where=path,
            expected=f"a multiple of {item_bytes} bytes",
            found=f"{claimed} bytes",
            cure=CURE,
        )
    return claimed


def _select(rows: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """The rows that are set in the mask, without a copy if all are."""
    return rows if mask.all() else rows[mask]


def _map(path: AnyPath, dtype: np.dtype[Any], start: int, stop: int) -> npt.NDArray[Any]:
    """Items ``start`` to ``stop`` after the header, of shape (stop - start,)."""
    return read_items(path, dtype, HEADER.itemsize + start * dtype.itemsize, stop - start)
