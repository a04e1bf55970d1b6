"""The log of a Milvus 1.x server (``wal/<n>.wal``, ``mxlog.meta``): operations that may be in no segment yet.

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
"""An lsn is the file's number, shifted by this, with the offset of the record's end in it."""
END_MASK = (1 << OFFSET_BITS) - 1
INSERTS, DELETE, FLUSH = frozenset({1, 2}), 3, 5
"""1 inserts binary vectors, 2 float vectors."""
PLAIN = INSERTS | {DELETE, FLUSH}
"""Records of nothing but ids and vectors."""
ID_BYTES = 8
NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
RESTORE = "Restore the log from a backup, or leave its rows behind: unflushed_log: ignore."


@dataclass(frozen=True, slots=True)
class LogRecord:
    """The head of a record: what it does to which partition, to how many rows."""

    lsn: int
    kind: int
    collection: str
    tag: str
    """Empty: ``_default``; for a deletion, all partitions."""
    rows: int
    data_bytes: int
    """Of the vectors."""
    ids_at: int
    """Where the ids start in the file; the vectors are behind them."""

    @property
    def file_number(self) -> int:
        return self.lsn >> OFFSET_BITS

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.lsn & END_MASK

    @property
    def partition(self) -> str:
        """The partition that an insertion goes to."""
        return self.tag or DEFAULT_PARTITION


@dataclass(frozen=True)
class LogGap:
    """Records that are missing, or can't be read."""

    end: int
    """None behind this lsn is among them."""
    fault: SourceError


class Log:
    """The log in a folder, up to its last lsn; none where there are no files.

    A server reads it from the lsn ``start``. ``known``: lsns of records, by the catalog.
    """

    def __init__(self, folder: AnyPath, start: int, last: int, known: Iterable[int] = ()) -> None:
        self.folder, self.start, self.last = folder, start, last
        self._known = {lsn for lsn in known if lsn & END_MASK}
        self._ends = {lsn >> OFFSET_BITS: lsn for lsn in sorted(self._known)}
        """By file: the lsn that it goes up to at least."""
        self.gap: LogGap | None = None
        """Once the records have been read: what of them is missing."""

    def records(self) -> Iterator[LogRecord]:
        """Heads of all records, in order; a torn one behind the last was never acknowledged."""
        awaited, final = self.start >> OFFSET_BITS, self.last >> OFFSET_BITS
        for number, path in _list_files(self.folder):
            if number > final:
                break
            self._refuse_missing(awaited, number)
            yield from self._records_of(number, path)
            awaited = max(awaited, number + 1)
        self._refuse_missing(awaited, final + 1)

    def count_rows_behind(self) -> int:
        """Rows inserted by records behind the last lsn, which nobody was told are stored.

        Raises DamagedSourceError where that lsn is 0, and there are several: a server that is killed leaves one.
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
        self._refuse_another(number, path, read)
        self._refuse_cut(number, path, read)

    def _refuse_another(self, number: int, path: AnyPath, read: int) -> None:
        """A file whose records were read, and don't end where the catalog says that some did."""
        unmet = [lsn for lsn in self._known if number << OFFSET_BITS < lsn < read]
        if unmet:
            raise DamagedSourceError(
                "the 1.x server's log is not that of its catalog",
                where=path,
                expected=f"a record that ends at lsn {min(unmet)}, up to which something was flushed by the catalog",
                found="one that goes on",
                cure=f"Name the log of the same server, copied with its catalog: wal_path. {RESTORE}",
            )

    def _refuse_cut(self, number: int, path: AnyPath, read: int) -> None:
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

    def _refuse_missing(self, awaited: int, number: int) -> None:
        """Files ``awaited`` to before ``number`` aren't there."""
        if awaited < number:
            self._add_gap(
                number - 1,
                "files of the 1.x server's log are missing",
                where=self.folder,
                expected=f"{awaited}.wal" + (f" to {number - 1}.wal" if number - awaited > 1 else ""),
                found="none",
            )

    def _add_gap(self, number: int, what: str, **facts: object) -> None:
        """Up to the end of file ``number``, wherever that was; a server reads nothing before ``start``."""
        end = min(number << OFFSET_BITS | END_MASK, self.last)
        if self.start < end:
            reads = f"The server reads it from lsn {self.start} to {self.last}, and does not start otherwise."
            self.gap = LogGap(end, DamagedSourceError(what, **facts, cure=f"{reads} {RESTORE}"))


def last_lsn(folder: AnyPath, flushed: int) -> int | None:
    """The last lsn that the log in ``folder`` says it has; None where there is no log.

    ``flushed``: the last lsn that the catalog names. Raises DamagedSourceError where ``mxlog.meta`` can't be right.
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
        expected=f"{META.size} bytes, and in them an lsn not below {least}",
        found=found,
        cure=f"Where the log was copied before the catalog, copy both again, from a server that is stopped. {RESTORE}",
    )


def _read_meta(path: AnyPath) -> int | None:
    """The last lsn written: the third of three where it equals the second, else the first."""
    refuse_link(path)
    if not path.is_file() or path.stat().st_size < META.size:
        return None
    first, second, third = META.unpack(path.read_bytes()[: META.size])
    return int(third if third == second else first)


def _list_files(folder: AnyPath) -> list[tuple[int, AnyPath]]:
    """Numbers and paths, in order."""
    files = [(int(path.stem), path) for path in folder.glob("*.wal") if NUMBER.fullmatch(path.stem)]
    for _, path in files:
        refuse_link(path)
        _refuse_no_file(path)
    return sorted(files)


def _refuse_no_file(path: AnyPath) -> None:
    """A pipe keeps its reader waiting for ever."""
    if not path.is_file():
        raise DamagedSourceError(
            "what is called as a file of the 1.x server's log is none",
            where=path,
            expected="a file",
            found="a folder, a pipe or a device",
            cure=f"Remove or rename it. {RESTORE}",
        )


def _read_file(path: AnyPath, number: int) -> Iterator[LogRecord]:
    """Records up to the first whose head is not that of one."""
    size, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start + RECORD.size <= size:
            file.seek(start)
            lsn, kind, name_length, tag_length, rows, data_bytes = RECORD.unpack(file.read(RECORD.size))
            ids_at, end = start + RECORD.size + name_length + tag_length, lsn & END_MASK
            least = ids_at + rows * ID_BYTES + data_bytes
            is_odd = (end > least and kind in PLAIN) or (kind == FLUSH and end > ids_at)
            if lsn >> OFFSET_BITS != number or not least <= end <= size or is_odd:
                return
            name, tag = file.read(name_length), file.read(tag_length)
            collection, partition = name.decode("utf-8", "replace"), tag.decode("utf-8", "replace")
            yield LogRecord(lsn, kind, collection, partition, rows, data_bytes, ids_at)
            start = end
