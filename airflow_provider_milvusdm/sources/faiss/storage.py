"""What a Faiss index stores: vectors, or codes of vectors, one after another or in inverted lists.

faiss writes decoded vectors into memory that its caller allocated, and doesn't check that the parts of an index agree
on the dimension; so that is checked here. Source: ``faiss/IndexFlatCodes.cpp``, ``IndexIVF.h``.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError
from airflow_provider_milvusdm.sources.faiss.file import CURE, FaissFile
from airflow_provider_milvusdm.sources.faiss.lists import OnDiskLists, open_lists, split_rows

Labels = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32] | npt.NDArray[np.uint8]

QUANTIZERS = ("pq", "sq", "aq")
"""Members of an index that encode vectors."""


class StoredRows:
    """Vectors or codes that are stored one after another; the label of a row is its number."""

    has_ids = False
    notes: tuple[str, ...] = ()

    def __init__(self, file: FaissFile, index: Any, *, lossy: bool = False) -> None:
        self._index = index
        self.count, self.dimension = index.ntotal, index.d
        self.losses = _losses(file, index, lossy)
        stored: Any = getattr(index, "xb" if isinstance(index, faiss.IndexBinary) else "codes")
        _require(file, index, "bytes", index.ntotal * index.code_size, stored.size())

    def labels(self, start: int, stop: int) -> Labels:
        return np.arange(start, stop, dtype=np.int64)

    def vectors(self, start: int, stop: int) -> Vectors:
        rows: Vectors = self._index.reconstruct_n(start, stop - start)
        return rows


class ListRows:
    """The rows of an IVF index, list by list."""

    has_ids = True
    notes: tuple[str, ...] = ()

    def __init__(self, file: FaissFile, index: Any, *, lossy: bool = False) -> None:
        self._index, self._lists = index, open_lists(file.path, index)
        if isinstance(self._lists, OnDiskLists):
            file.files.append(self._lists.path)
        self.count, self.dimension = int(self._lists.sizes.sum()), index.d
        self.losses = _losses(file, index, lossy)
        if lossy:
            _require(file, index, "dimensions of a list's centroid", index.d, index.quantizer.d)
            _require(file, index, "centroids of lists", index.nlist, index.quantizer.ntotal)

    def labels(self, start: int, stop: int) -> Labels:
        parts = [self._lists.ids(*rows) for rows in split_rows(self._lists.sizes, start, stop)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def vectors(self, start: int, stop: int) -> Vectors:
        rows = list(split_rows(self._lists.sizes, start, stop))
        parts = [self._lists.codes(*list_rows) for list_rows in rows]
        codes = np.concatenate(parts) if parts else np.empty((0, self._index.code_size), np.uint8)
        if isinstance(self._index, faiss.IndexBinary):
            return codes
        if not self.losses:
            return codes.view(np.float32)
        return self._decode(codes, np.repeat([number for number, _, _ in rows], [len(part) for part in parts]))

    def _decode(self, codes: npt.NDArray[np.uint8], numbers: npt.NDArray[np.int_]) -> npt.NDArray[np.float32]:
        """The vectors of codes, given the number of each code's list."""
        vectors = np.empty((len(codes), self.dimension), np.float32)
        lists = numbers.astype(np.int64)
        pointers = [faiss.swig_ptr(array) for array in (codes, lists, vectors)]
        self._index.decode_vectors(len(codes), *pointers)
        return vectors


def _losses(file: FaissFile, index: Any, lossy: bool) -> tuple[str, ...]:
    """What the codes lose; also checks that a row has the right number of bytes."""
    if not lossy:
        expected = index.d // 8 if isinstance(index, faiss.IndexBinary) else index.d * 4
        _require(file, index, "bytes per row", expected, index.code_size)
        return ()
    quantizer = next(getattr(index, name) for name in QUANTIZERS if hasattr(index, name))
    _require(file, index, "dimensions of its codes", index.d, quantizer.d)
    _require(file, index, "bytes of a code", index.code_size, quantizer.code_size)
    name, width = type(index).__name__, index.code_size
    return (f"{name} keeps a code of {width} bytes per row: vectors are reconstructed from it, near the originals",)


def _require(file: FaissFile, index: Any, what: str, expected: int, found: int) -> None:
    """Raise DamagedSourceError if two numbers in the index that must be equal are not."""
    if expected != found:
        raise DamagedSourceError(
            f"a damaged Faiss index: its {type(index).__name__} contradicts itself",
            where=file.path,
            expected=f"{expected} {what}",
            found=found,
            cure=CURE,
        )
