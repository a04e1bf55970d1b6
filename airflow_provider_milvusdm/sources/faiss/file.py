"""A Faiss index file, mapped into memory: what faiss reads of it are views of the mapping, where it can.

faiss believes the sizes that a file states, but for one bound on what a vector of bytes may take. Source:
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
"""The fourccs of all binary indexes begin so, and no other does."""
WITHOUT_LOOKUP = {b"IxM2": b"IxMp", b"IBM2": b"IBMp"}
"""Marks of an IDMap2 and of an IDMap: the same bytes follow, and of the first faiss makes a table of all ids."""
TABLES = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE | faiss.IO_FLAG_PQ_SKIP_SDC_TABLE
"""Made for searching alone."""
SPARE_BYTES = 32 << 20
SPARE_LISTS = SPARE_BYTES // 24
"""So many lists take so many bytes, and of empty ones a file need not say a word."""
NOT_READ = ("not recognized", "IndexLattice", "exceeds deserialization_loop_limit")
"""What faiss says of an unknown fourcc, of an index that it writes and never reads, and of too many lists."""
CURE_NOT_READ = "Write the original vectors to an HDF5 file and load that."
CURE = "Restore the file from a backup, or write the index again."


class FaissFile:
    """An index file and the index in it; the index lives as long as this object does.

    ``files``: the file, and that of its inverted lists where they have their own.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, [path]
        self.size = _size(path)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._bytes = np.frombuffer(self._map, np.uint8)
        with refuse_damage(path), _bounded(self.size):
            self.index = self._read()
        if self.index is None:
            raise UnsupportedSourceError("no index in the file", where=path, found="the marker of a missing one")

    def forget_pages(self) -> None:
        """Give back the memory of what was read, which the system keeps for the next reader if it can."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def _read(self) -> Any:
        marker = self._map[:4]
        self._map[:4] = WITHOUT_LOOKUP.get(marker, marker)  # in this process's copy of the page
        read = faiss.read_index_binary if marker.startswith(BINARY) else faiss.read_index
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(self._bytes), self.size)  # type: ignore[attr-defined]
        try:
            # Of lists in a file of their own, this combination says that it can't: and so opens no other file.
            index = read(reader, faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR | TABLES)
        except RuntimeError as error:
            if "IO_FLAG_ONDISK_SAME_DIR" not in str(error):
                raise
            # This one leaves the lists' file closed, too: OnDiskLists opens it.
            return read(str(self.path), faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_MMAP | TABLES)
        if reader.rp_ > self.size:  # it takes a part of an id at the end of a file for the whole
            raise _damaged(self.path, f"{reader.rp_} bytes", f"{self.size}")
        return index


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """faiss throws one kind of exception for all that it doesn't like, and runs out of memory over absurd sizes."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = str(error).rpartition("Error: ")[2].strip() or type(error).__name__
        if any(words in reason for words in NOT_READ):
            raise UnsupportedSourceError(
                "not a Faiss index, or of a kind that is not read",
                where=path,
                expected="what faiss can read",
                found=reason,
                cure=CURE_NOT_READ,
            ) from None
        raise _damaged(path, "what faiss can read", reason) from None


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """No vector of bytes in a file is larger than the file, and no list longer; but for lists that are empty."""
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
        raise _damaged(path, "a marker of 4 bytes at least", f"{size} bytes")
    return size


def _damaged(path: Path, expected: str, found: str) -> DamagedSourceError:
    return DamagedSourceError("a damaged Faiss index", where=path, expected=expected, found=found, cure=CURE)
