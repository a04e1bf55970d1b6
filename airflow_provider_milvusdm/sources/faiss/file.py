"""Open a Faiss index file: it is mapped into memory, and faiss works on the mapping without copies where it can.

faiss trusts the sizes in a file, except for limits on the length of a vector and of a loop, which are set here. Source:
``faiss/impl/index_read.cpp``, ``zerocopy_io.h`` and ``invlists/OnDiskInvertedLists.cpp``.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceNotFoundError, UnsupportedSourceError

BINARY = b"IB"
"""The first two bytes of the fourcc of every binary index, and of no other one."""
WITHOUT_LOOKUP = {b"IxM2": b"IxMp", b"IBM2": b"IBMp"}
"""Fourcc of an IDMap2, and of the IDMap with the same content: for an IDMap2, faiss would make a table of all ids."""
SKIP_TABLES = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE | faiss.IO_FLAG_PQ_SKIP_SDC_TABLE
"""Tables that only searches need."""
SPARE_BYTES = 32 << 20
SPARE_LISTS = SPARE_BYTES // 24
"""Empty lists take no bytes in a file, but about 24 bytes each in memory."""
NOT_READ = ("not recognized", "IndexLattice", "exceeds deserialization_loop_limit")
"""What faiss says of an unknown fourcc, of an index that it can write but not read, and of too many lists."""
CURE_NOT_READ = "Write the original vectors to an HDF5 file and load that file."
CURE = "Restore the file from a backup, or write the index again."


class FaissFile:
    """An index file and the index in it. The index can be used as long as this object lives.

    Raises SourceNotFoundError, UnsupportedSourceError or DamagedSourceError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = [path]
        """The index file, and the file of its inverted lists if they are in another one."""
        self.size = _size(path)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._bytes = np.frombuffer(self._map, np.uint8)
        with refuse_damage(path), _bounded(self.size):
            self.index = self._read()
        if self.index is None:
            raise UnsupportedSourceError("no index in the file", where=path, found="the fourcc of a missing index")

    def forget_pages(self) -> None:
        """Release the memory of the pages that were read; the system's file cache may keep them."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def _read(self) -> Any:
        fourcc = self._map[:4]
        self._map[:4] = WITHOUT_LOOKUP.get(fourcc, fourcc)  # only in this process's copy of the page
        read = faiss.read_index_binary if fourcc.startswith(BINARY) else faiss.read_index
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(self._bytes), self.size)  # type: ignore[attr-defined]
        try:
            # With these flags, faiss refuses lists in another file, and so doesn't open any other file.
            index = read(reader, faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR | SKIP_TABLES)
        except RuntimeError as error:
            if "IO_FLAG_ONDISK_SAME_DIR" not in str(error):
                raise
            # With these flags, it doesn't open the file of the lists either: OnDiskLists does.
            return read(str(self.path), faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_MMAP | SKIP_TABLES)
        if reader.rp_ > self.size:  # the file ends inside an id, which faiss doesn't notice
            raise _damaged(self.path, f"{reader.rp_} bytes", f"{self.size}")
        return index


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Turn errors of faiss into SourceErrors: it raises RuntimeError for everything, MemoryError for absurd sizes."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = str(error).rpartition("Error: ")[2].strip() or type(error).__name__
        if any(words in reason for words in NOT_READ):
            raise UnsupportedSourceError(
                "not a Faiss index, or of a type that can't be read",
                where=path,
                expected="what faiss can read",
                found=reason,
                cure=CURE_NOT_READ,
            ) from None
        raise _damaged(path, "what faiss can read", reason) from None


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """Limit the lengths that faiss accepts by the size of the file, with some room for empty lists."""
    before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    faiss.set_deserialization_vector_byte_limit(size + SPARE_BYTES)
    faiss.set_deserialization_loop_limit(size + SPARE_LISTS)
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before[0])
        faiss.set_deserialization_loop_limit(before[1])


def _size(path: Path) -> int:
    if not path.is_file():
        raise SourceNotFoundError("no Faiss index file", where=path, expected="a file", found="none")
    size = path.stat().st_size
    if size < 4:
        raise _damaged(path, "at least a fourcc of 4 bytes", f"{size} bytes")
    return size


def _damaged(path: Path, expected: str, found: str) -> DamagedSourceError:
    return DamagedSourceError("a damaged Faiss index", where=path, expected=expected, found=found, cure=CURE)
