"""One segment folder of Milvus 1.x: ``<segment_id>.rv``, ``<segment_id>.uid``, ``deleted_docs``.

Each file is a u64 (little-endian) that counts the bytes behind it, then those bytes; a rewrite may leave a longer
tail. Source: the server's code, ``core/src/codecs/default/DefaultVectorsFormat.cpp`` and
``DefaultDeletedDocsFormat.cpp``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceNotFoundError
from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.sources.milvus1x.log_segment import LogSegment, Milvus1xLog, is_in_log
from airflow_provider_milvusdm.sources.milvus1x.replay import is_among
from airflow_provider_milvusdm.storage.files import read_items, refuse_link
from airflow_provider_milvusdm.storage.paths import AnyPath, real_path, source_path

HEADER = np.dtype("<u8")
ID = np.dtype("<i8")
NO_IDS = np.empty(0, np.int64)
"""Looked up among deleted ones at a time."""
OFFSET = np.dtype("<i4")
NAME = re.compile(r"[!-.0-~]{1,250}/[!-.0-~]{1,250}")
"""Printable ASCII without a slash: 1.x made these names of digits, and of collections' names."""
CURE = "Restore the segment's folder from a backup, or leave its collection out of source_collection."
GONE = (
    "If the 1.x server's configuration names a storage.secondary_path, it is there: copy what is below the db/tables "
    "of each to this tables folder. A server that still runs may have merged it: stop it, and start a new run. "
    f"Or: {CURE}"
)


class Milvus1xSource:
    """The tables folder of a Milvus 1.x server (``db/tables``), and its log where that is to be replayed."""

    def __init__(self, path: str, log: Mapping[str, Any] | None = None) -> None:
        self.tables = source_path(path)
        self.log = Milvus1xLog(log) if log else None

    def segment(self, collection: CollectionSpec, name: str) -> Milvus1xSegment | LogSegment:
        """Open segment ``<table_id>/<segment_id>``, its files checked against each other, or one of the log."""
        if self.log and is_in_log(name):
            return self.log.segment(collection, name)
        folder = self.tables / name
        if not NAME.fullmatch(name) or not self._holds(folder):
            raise DamagedSourceError(
                f"segment {name!r} is outside the tables folder",
                where=self.tables,
                expected="<table_id>/<segment_id>",
                found=repr(name),
                cure="The catalog was tampered with or is damaged: restore it from a backup.",
            )
        if not folder.is_dir():
            raise SourceNotFoundError(
                "a segment's folder is gone", where=folder, expected="a folder", found="none", cure=GONE
            )
        deleted = self.log.deleted_ids(collection, folder.parent.name) if self.log else NO_IDS
        return Milvus1xSegment(folder, collection, deleted)

    def _holds(self, folder: AnyPath) -> bool:
        """Whether it is two below the tables folder, links followed."""
        return real_path(folder).parent.parent == real_path(self.tables)


class Milvus1xSegment:
    """Ids, deletions and vectors of one segment; nothing but the deletions is kept in memory.

    ``deleted_ids``: sorted, those that the server's log deletes beyond ``deleted_docs``.
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
        return int(np.count_nonzero(self._deleted))

    @cached_property
    def replayed_deletes(self) -> int:
        if not self._deleted_ids.size:
            return 0
        live = sum(int(np.count_nonzero(self.live(*step))) for step in ranges(0, self.stored_rows, IDS_A_BATCH))
        return self.stored_rows - self.deleted_rows - live

    @property
    def files(self) -> tuple[AnyPath, ...]:
        return self._rv, self._uid, self.folder / "deleted_docs"

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        live = ~self._deleted[start:stop]
        if self._deleted_ids.size:
            live &= ~is_among(_map(self._uid, ID, start, stop), self._deleted_ids)
        return live

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return _chosen(_map(self._uid, ID, start, stop), self.live(start, stop))

    def read(self, start: int, stop: int) -> VectorBatch:
        vectors = _map(self._rv, self._dtype, start * self._columns, stop * self._columns)
        return VectorBatch(self.ids(start, stop), _chosen(vectors.reshape(-1, self._columns), self.live(start, stop)))

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
                "vectors and ids of a segment are at odds",
                where=self._rv,
                expected=f"{expected} bytes: {self.stored_rows} ids x {collection.vector_bytes} bytes a vector",
                found=f"{found} bytes",
                cure=CURE,
            )

    def _read_deleted(self) -> npt.NDArray[np.bool_]:
        path = self.folder / "deleted_docs"
        offsets = _map(path, OFFSET, 0, _payload_bytes(path, OFFSET.itemsize) // OFFSET.itemsize)
        outside = offsets[(offsets < 0) | (offsets >= self.stored_rows)]
        if outside.size:
            raise DamagedSourceError(
                "a deletion names a row that is not there",
                where=path,
                expected=f"offsets from 0, below {self.stored_rows}",
                found=f"{outside.size} others, the first {outside[0]}",
                cure=CURE,
            )
        deleted = np.zeros(self.stored_rows, dtype=np.bool_)
        deleted[offsets] = True
        return deleted


def _payload_bytes(path: AnyPath, item_bytes: int) -> int:
    """Bytes behind the header, after checking that they are there and make whole items."""
    refuse_link(path)
    if not path.is_file():
        raise SourceNotFoundError("a segment's file is gone", where=path, expected="a file", found="none", cure=CURE)
    size = path.stat().st_size
    header = read_items(path, np.dtype("u1"), 0, min(HEADER.itemsize, size)).tobytes()
    if len(header) < HEADER.itemsize:
        raise DamagedSourceError(
            "a segment's file is cut", where=path, expected="a header of 8 bytes", found=f"{size} bytes", cure=CURE
        )
    claimed, present = int.from_bytes(header, "little"), size - HEADER.itemsize
    if claimed > present:
        raise DamagedSourceError(
            "a segment's file is shorter than it says",
            where=path,
            expected=f"{claimed} bytes after the header",
            found=f"{present} bytes",
            cure=CURE,
        )
    if claimed % item_bytes:
        raise DamagedSourceError(
            "a segment's file holds a part of an item",
            where=path,
            expected=f"a multiple of {item_bytes} bytes",
            found=f"{claimed} bytes",
            cure=CURE,
        )
    return claimed


def _chosen(rows: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """The rows that the mask names; without a copy where that's all of them."""
    return rows if mask.all() else rows[mask]


def _map(path: AnyPath, dtype: np.dtype[Any], start: int, stop: int) -> npt.NDArray[Any]:
    """Items ``start`` to ``stop`` behind the header."""
    return read_items(path, dtype, HEADER.itemsize + start * dtype.itemsize, stop - start)
