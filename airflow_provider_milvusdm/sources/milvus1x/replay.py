"""Replay the log of a Milvus 1.x server, as the server does when it starts.

An insertion adds rows. A deletion removes its ids from the rows in segment folders and from the rows inserted before
it, in the partition that it names, or in all partitions if it names none. So a row is deleted if a later record deletes
its id; rows in folders are as old as the last flush of their partition. Source: the server's code,
``core/src/db/wal/WalManager.cpp`` and ``core/src/db/DBImpl.cpp``.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import ChangedSourceError, DamagedSourceError
from airflow_provider_milvusdm.model.mask import is_among
from airflow_provider_milvusdm.sources.milvus1x.log import DELETE, INSERTS, OFFSET_BITS, RESTORE, Log, LogRecord
from airflow_provider_milvusdm.sources.milvus1x.unflushed import Flushed, is_unflushed
from airflow_provider_milvusdm.storage.file_version import version_of
from airflow_provider_milvusdm.storage.files import read_items
from airflow_provider_milvusdm.storage.paths import AnyPath

ID = np.dtype("<i8")

Ids = npt.NDArray[np.int64]
Lsns = npt.NDArray[np.int64]
Records = npt.NDArray[np.int64]
"""A row per record: ``(lsn, rows, byte at which the ids start)``, shape (records, 3)."""


@dataclass(frozen=True)
class Deletions:
    """Deleted ids, sorted and unique, and the lsn of the last record that deletes each: int64 of shape (ids,)."""

    ids: Ids
    lsns: Lsns

    def mask(self, ids: Ids, lsns: Lsns) -> npt.NDArray[np.bool_]:
        """Which rows are deleted, given their ids and the lsns of the records that inserted them.

        All arrays have the shape (rows,); the result is bool.
        """
        deleted = is_among(ids, self.ids)
        places = np.searchsorted(self.ids, ids[deleted])
        deleted[deleted] = self.lsns[places] > lsns[deleted]
        return deleted


@dataclass(frozen=True)
class Insertions:
    """The records of one file that insert into one partition; the arrays are int64."""

    path: AnyPath
    lsns: Lsns
    """Shape (records,)."""
    starts: npt.NDArray[np.int64]
    """Number of the first row of each record, and at the end the number of all rows: shape (records + 1,)."""
    ids_at: npt.NDArray[np.int64]
    """Byte in the file at which the ids of each record start: shape (records,)."""

    @property
    def vectors_at(self) -> npt.NDArray[np.int64]:
        """Byte in the file at which the vectors of each record start: int64 of shape (records,)."""
        rows = self.starts[1:] - self.starts[:-1]
        return self.ids_at + rows * ID.itemsize


@dataclass(frozen=True, eq=False)
class Replay:
    """The operations of a log on some partitions of a collection that their segment folders don't have yet."""

    folder: AnyPath
    flushed: Mapping[str, int]
    """By partition: the last lsn whose operations are in segment folders."""
    inserts: Mapping[tuple[int, str], Records]
    """By file number and partition."""
    deletes: Mapping[str, Deletions]
    """By tag; the empty tag has the deletions from all partitions."""

    @lru_cache(maxsize=1)  # noqa: B019 - the replay is cached anyway, and segments of a partition follow each other
    def deletions(self, tag: str) -> Deletions:
        """All deletions from a partition."""
        return _last_of_each(self.deletes[name] for name in ("", tag) if name in self.deletes)

    @lru_cache(maxsize=1)  # noqa: B019
    def deleted_ids(self, tag: str) -> Ids:
        """Ids that are deleted from a partition's segment folders: int64 of shape (ids,), sorted."""
        deletions = self.deletions(tag)
        return deletions.ids[deletions.lsns > self.flushed[tag]]

    def insertions(self, number: int, tag: str) -> Insertions:
        """The records in file ``number`` that insert into a partition. Raises ChangedSourceError if there are none."""
        if (number, tag) not in self.inserts:
            raise _changed(self.folder, f"records in {number}.wal that insert into partition {tag!r}", "none")
        records = self.inserts[number, tag]
        starts = np.append(0, np.cumsum(records[:, 1]))
        return Insertions(_file(self.folder, number), records[:, 0], starts, records[:, 2])


def read_replay(
    folder: AnyPath, collection: str, vector_bytes: int, flushed: tuple[tuple[str, int], ...], last_lsn: int
) -> Replay:
    """Read the log from the flushed lsns of a collection's partitions to ``last_lsn``; the last result is cached.

    Only heads of records and deleted ids are in memory. Raises DamagedSourceError, or ChangedSourceError if the log
    ends before ``last_lsn``.
    """
    return _read_replay(folder, version_of(sorted(folder.glob("*.wal"))), collection, vector_bytes, flushed, last_lsn)


@lru_cache(maxsize=1)
def _read_replay(
    folder: AnyPath,
    _file_version: str,
    collection: str,
    vector_bytes: int,
    flushed: tuple[tuple[str, int], ...],
    last_lsn: int,
) -> Replay:
    lsns, last = Flushed(flushed), 0
    inserts: defaultdict[tuple[int, str], array[int]] = defaultdict(lambda: array("q"))
    deletes: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
    log = Log(folder, lsns.lowest, last_lsn)
    for record in log.records():
        if record.collection != collection:
            continue
        last = record.lsn
        if not is_unflushed(record, lsns):
            continue
        _check(folder, record, vector_bytes)
        records = deletes[record.tag] if record.kind == DELETE else inserts[record.file_number, record.partition]
        records.extend((record.lsn, record.rows, record.ids_at))
    if last != last_lsn or log.gap:
        found = f"none of them, or not all, before lsn {log.gap.end}" if log.gap else f"records up to lsn {last}"
        raise _changed(folder, f"records of collection {collection!r} up to lsn {last_lsn}", found)
    return Replay(
        folder,
        lsns,
        {key: _to_array(records) for key, records in inserts.items()},
        {tag: _last_of_each(_read_deletions(folder, _to_array(records))) for tag, records in deletes.items()},
    )


def _changed(folder: AnyPath, expected: str, found: object) -> ChangedSourceError:
    return ChangedSourceError(
        "the 1.x server's log changed since it was inspected",
        where=folder,
        expected=expected,
        found=found,
        cure="Stop the 1.x server, if it still runs, and start a new run.",
    )


def _to_array(records: array[int]) -> Records:
    return np.frombuffer(records, np.int64).reshape(-1, 3)


def _read_deletions(folder: AnyPath, records: Records) -> Iterator[Deletions]:
    """The ids of each record that deletes."""
    numbers = records[:, 0] >> OFFSET_BITS
    for number in np.unique(numbers).tolist():
        path = _file(folder, number)
        content = read_items(path, np.dtype("u1"), 0, path.stat().st_size)
        for lsn, rows, ids_at in records[numbers == number].tolist():
            ids = content[ids_at : ids_at + rows * ID.itemsize].copy().view(ID)
            yield Deletions(ids, np.full(rows, lsn))


def _last_of_each(deletions: Iterable[Deletions]) -> Deletions:
    """Each id once, with its last lsn."""
    parts = [Deletions(np.empty(0, np.int64), np.empty(0, np.int64)), *deletions]
    ids, lsns = np.concatenate([part.ids for part in parts]), np.concatenate([part.lsns for part in parts])
    order = np.lexsort((lsns, ids))
    ids, lsns = ids[order], lsns[order]
    last = np.append(ids[1:] != ids[:-1], True)[: len(ids)]
    return Deletions(ids[last], lsns[last])


def _file(folder: AnyPath, number: int) -> AnyPath:
    return folder / f"{number}.wal"


def _check(folder: AnyPath, record: LogRecord, vector_bytes: int) -> None:
    """Raise DamagedSourceError if the sizes in a record's head contradict each other."""
    data = record.rows * vector_bytes if record.kind in INSERTS else 0
    end = record.ids_at + record.rows * ID.itemsize + record.data_bytes
    if record.data_bytes != data or end != record.end:
        raise DamagedSourceError(
            "a record of the 1.x server's log contradicts itself",
            where=f"{_file(folder, record.file_number)}, lsn {record.lsn}",
            expected=f"{record.rows} ids and {data} bytes of vectors up to byte {record.end}",
            found=f"{record.data_bytes} bytes of vectors up to byte {end}",
            cure=RESTORE,
        )
