"""The log of a Milvus 1.x server (``wal/<n>.wal``, ``mxlog.meta``): operations that may be in no segment yet.

Source: the server's code, ``core/src/db/wal/WalBuffer.cpp`` and ``WalMetaHandler.cpp``. A record, packed:

    lsn u64 | type u8 | name_len u16 | tag_len u16 | rows u32 | data_bytes u32 | name | tag | rows x i64 | data
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_provider_milvusdm.exceptions import DamagedSourceError
from airflow_provider_milvusdm.sources.files import AnyPath, refuse_link
from airflow_provider_milvusdm.vectors import DEFAULT_PARTITION

RECORD = struct.Struct("<QBHHII")
META = struct.Struct("<3Q")
OFFSET_BITS = 32
"""An lsn is the file's number, shifted by this, with the offset of the record's end in it."""
END_MASK = (1 << OFFSET_BITS) - 1
INSERTS, DELETE, FLUSH = frozenset({1, 2}), 3, 5
"""1 inserts binary vectors, 2 float vectors."""


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


def read_log(folder: AnyPath) -> Iterator[LogRecord]:
    """Heads of the records in ``folder``, in order, up to the last one written; none where there is no log.

    It stops at a torn record: the server that wrote it never acknowledged it. Raises DamagedSourceError when it did.
    """
    last = _last_lsn(folder / "mxlog.meta")
    numbered = ((int(path.stem), path) for path in folder.glob("*.wal") if path.stem.isdecimal())
    for number, path in sorted(numbered):
        read = number << OFFSET_BITS
        for record in _read_file(path, number):
            if last is not None and record.lsn > last:
                return
            yield record
            read = record.lsn
        if last is not None and read < last and number == last >> OFFSET_BITS:
            raise DamagedSourceError(
                "the 1.x server's log is cut or overwritten",
                where=path,
                expected=f"records up to lsn {last}, which mxlog.meta names as the last",
                found=f"records up to lsn {read}",
                cure="Restore the log from a backup, or leave it out: wal_path: an empty folder.",
            )


def _last_lsn(path: AnyPath) -> int | None:
    """The last lsn written: the third of three where it equals the second, else the first."""
    refuse_link(path)
    if not path.is_file() or path.stat().st_size < META.size:
        return None
    first, second, third = META.unpack(path.read_bytes()[: META.size])
    return int(third if third == second else first)


def _read_file(path: AnyPath, number: int) -> Iterator[LogRecord]:
    refuse_link(path)
    size, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start + RECORD.size <= size:
            file.seek(start)
            lsn, kind, name_length, tag_length, rows, data_bytes = RECORD.unpack(file.read(RECORD.size))
            end = lsn & END_MASK
            if lsn >> OFFSET_BITS != number or not start + RECORD.size + name_length + tag_length <= end <= size:
                return
            name, tag = file.read(name_length), file.read(tag_length)
            collection, partition = name.decode("utf-8", "replace"), tag.decode("utf-8", "replace")
            yield LogRecord(lsn, kind, collection, partition, rows, data_bytes, file.tell())
            start = end
