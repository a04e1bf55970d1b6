"""The log of a Milvus 1.x server (``wal/<n>.wal``, ``mxlog.meta``): operations that may not be in a segment yet.

Source: the server's code, ``core/src/db/wal/WalBuffer.cpp`` and ``WalMetaHandler.cpp``. A record, packed:

    lsn u64 | type u8 | name_len u16 | tag_len u16 | rows u32 | data_bytes u32 | name | tag | rows x i64 | data
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceError
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.storage.files import refuse_link
from airflow_provider_milvusdm.storage.paths import AnyPath

RECORD = struct.Struct("<QBHHII")
META_FILE, META = "mxlog.meta", struct.Struct("<3Q")
OFFSET_BITS = 32
"""An lsn (log sequence number) is the number of the log's file, shifted by this, plus the end of the record in it."""
END_MASK = (1 << OFFSET_BITS) - 1
INSERTS, DELETE, FLUSH = frozenset({1, 2}), 3, 5
"""Types of records. 1 inserts binary vectors, 2 float vectors."""
PLAIN = INSERTS | {DELETE, FLUSH}
"""Types of records that hold only ids and vectors."""
ID_BYTES = 8
NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
RESTORE = "Restore the log from a backup, or migrate without its rows: unflushed_log: ignore."


@dataclass(frozen=True, slots=True)
class LogRecord:
    """The head of a record: its type, partition and number of rows."""

    lsn: int
    kind: int
    """Its type."""
    collection: str
    tag: str
    """Empty: ``_default``, or all partitions if it is a deletion."""
    rows: int
    data_bytes: int
    """Bytes of the vectors."""
    ids_at: int
    """Byte in the file at which the ids start; the vectors follow them."""

    @property
    def file_number(self) -> int:
        return self.lsn >> OFFSET_BITS

    @property
    def end(self) -> int:
        """Byte in the file at which it ends."""
        return self.lsn & END_MASK

    @property
    def partition(self) -> str:
        """The partition that an insertion goes to."""
        return self.tag or DEFAULT_PARTITION


@dataclass(frozen=True)
class LogGap:
    """Records that are missing or can't be read."""

    end: int
    """No record after this lsn is affected."""
    fault: SourceError


class Log:
    """The log in a folder, from the lsn ``start`` to the lsn ``last``.

    ``known``: lsns in the catalog, at which records must end.
    """

    def __init__(self, folder: AnyPath, start: int, last: int, known: Iterable[int] = ()) -> None:
        self.folder, self.start, self.last = folder, start, last
        self._known = {lsn for lsn in known if lsn & END_MASK}
        self._ends = {lsn >> OFFSET_BITS: lsn for lsn in sorted(self._known)}
        """By file: the lsn that its records must reach."""
        self.gap: LogGap | None = None
        """What is missing; known once all records have been read."""

    def records(self) -> Iterator[LogRecord]:
        """Heads of all records, in order. Raises DamagedSourceError if this is the log of another catalog.

        An incomplete record after the last lsn is no damage: the server never acknowledged it.
        """
        next_number, final = self.start >> OFFSET_BITS, self.last >> OFFSET_BITS
        for number, path in _list_files(self.folder):
            if number > final:
                break
            self._note_missing(next_number, number)
            yield from self._records_of(number, path)
            next_number = max(next_number, number + 1)
        self._note_missing(next_number, final + 1)

    def count_rows_after_last(self) -> int:
        """Number of rows inserted by records after the last lsn, which the server never acknowledged.

        Raises DamagedSourceError if that lsn is 0 and there are several such records: a killed server leaves only one.
        """
        files = [(number, path) for number, path in _list_files(self.folder) if number >= self.last >> OFFSET_BITS]
        records = rows = 0
        for number, path in files:
            for record in _read_file(path, number):
                if record.lsn > self.last:
                    records, rows = records + 1, rows + (record.rows if record.kind in INSERTS else 0)
        if not self.last and records > 1:
            raise _no_end(self.folder, "1", f"0, before {records} records")
        return rows

    def _records_of(self, number: int, path: AnyPath) -> Iterator[LogRecord]:
        read = number << OFFSET_BITS
        for record in _read_file(path, number):
            if record.lsn > self.last:
                break
            yield record
            read = record.lsn
            self._known.discard(read)
        self._refuse_other_log(number, path, read)
        self._note_cut(number, path, read)

    def _refuse_other_log(self, number: int, path: AnyPath, read: int) -> None:
        """Refuse a file that was read up to ``read``, if no record ends at an lsn that the catalog names."""
        unmet = [lsn for lsn in self._known if number << OFFSET_BITS < lsn < read]
        if unmet:
            raise DamagedSourceError(
                "the 1.x server's log does not belong to its catalog",
                where=path,
                expected=f"a record that ends at lsn {min(unmet)}, which the catalog names as flushed",
                found="a record that ends later",
                cure=f"Set wal_path to the log of the same server, copied together with the catalog. {RESTORE}",
            )

    def _note_cut(self, number: int, path: AnyPath, read: int) -> None:
        """Note a gap if the records of a file end before they should."""
        begin, end = number << OFFSET_BITS, self.last
        if number < self.last >> OFFSET_BITS:
            end = max(self._ends.get(number, 0), begin + max(path.stat().st_size, 1))
        if read != end:
            self._add_gap(
                number,
                "the 1.x server's log is cut or overwritten",
                where=path,
                expected=f"records up to lsn {end}",
                found=f"records up to lsn {read}" if read > begin else "none",
            )

    def _note_missing(self, start: int, stop: int) -> None:
        """Note a gap if there are files missing: those with the numbers from ``start`` to ``stop - 1``."""
        if start < stop:
            self._add_gap(
                stop - 1,
                "files of the 1.x server's log are missing",
                where=self.folder,
                expected=f"{start}.wal" + (f" to {stop - 1}.wal" if stop - start > 1 else ""),
                found="none",
            )

    def _add_gap(self, number: int, what: str, **facts: object) -> None:
        """Note a gap up to the end of a file; before ``start`` nothing is needed."""
        end = min(number << OFFSET_BITS | END_MASK, self.last)
        if self.start < end:
            reads = f"A server needs the records from lsn {self.start} to {self.last}, and does not start without them."
            self.gap = LogGap(end, DamagedSourceError(what, **facts, cure=f"{reads} {RESTORE}"))


def last_lsn(folder: AnyPath, flushed: int) -> int | None:
    """The last lsn according to ``mxlog.meta``; None if there is no log.

    ``flushed``: the last lsn that the catalog names. Raises DamagedSourceError if ``mxlog.meta`` is missing or wrong.
    """
    last, is_written = _read_meta(folder / META_FILE), any(path.stat().st_size for _, path in _list_files(folder))
    if last is not None and last >= flushed:
        return last
    if not is_written:
        return None
    raise _no_end(folder, f"{flushed}, which the catalog names", "no such file, or less" if last is None else last)


def _no_end(folder: AnyPath, least: str, found: object) -> DamagedSourceError:
    return DamagedSourceError(
        "the 1.x server's log does not say where it ends",
        where=folder / META_FILE,
        expected=f"{META.size} bytes with an lsn of at least {least}",
        found=found,
        cure="If the log was copied before the catalog, stop the server and copy both again. " + RESTORE,
    )


def _read_meta(path: AnyPath) -> int | None:
    """The last lsn written: the third number if it equals the second, otherwise the first."""
    refuse_link(path)
    if not path.is_file() or path.stat().st_size < META.size:
        return None
    first, second, third = META.unpack(path.read_bytes()[: META.size])
    return int(third if third == second else first)


def _list_files(folder: AnyPath) -> list[tuple[int, AnyPath]]:
    """Number and path of each file, in order. Raises DamagedSourceError for a link."""
    files = [(int(path.stem), path) for path in folder.glob("*.wal") if NUMBER.fullmatch(path.stem)]
    for _, path in files:
        refuse_link(path)
        _require_file(path)
    return sorted(files)


def _require_file(path: AnyPath) -> None:
    """Refuse a pipe, which would block its reader for ever, and a folder. Raises DamagedSourceError."""
    if not path.is_file():
        raise DamagedSourceError(
            "a file of the 1.x server's log is not a regular file",
            where=path,
            expected="a regular file",
            found="a folder, a pipe or a device",
            cure=f"Remove or rename it. {RESTORE}",
        )


def _read_file(path: AnyPath, number: int) -> Iterator[LogRecord]:
    """The records of a file, up to the first one with an invalid head."""
    size, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start + RECORD.size <= size:
            file.seek(start)
            lsn, kind, name_length, tag_length, rows, data_bytes = RECORD.unpack(file.read(RECORD.size))
            ids_at, end = start + RECORD.size + name_length + tag_length, lsn & END_MASK
            least = ids_at + rows * ID_BYTES + data_bytes
            is_too_long = (end > least and kind in PLAIN) or (kind == FLUSH and end > ids_at)
            if lsn >> OFFSET_BITS != number or not least <= end <= size or is_too_long:
                return
            name, tag = file.read(name_length), file.read(tag_length)
            collection, partition = name.decode("utf-8", "replace"), tag.decode("utf-8", "replace")
            yield LogRecord(lsn, kind, collection, partition, rows, data_bytes, ids_at)
            start = end
