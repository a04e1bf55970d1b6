"""Rows of a Faiss index by its kind, in an order that stays: the storage's, or list by list.

Only calls that do what they say are made: several of faiss's ``reconstruct`` give garbage or end the process on an
index that doesn't support them.
"""

from __future__ import annotations

from typing import Any, Protocol

import faiss
import numpy as np

from airflow_provider_milvusdm.exceptions import DamagedSourceError, UnsupportedSourceError
from airflow_provider_milvusdm.sources.faiss.file import CURE, CURE_NOT_READ, FaissFile
from airflow_provider_milvusdm.sources.faiss.storage import Labels, ListRows, StoredRows, Vectors
from airflow_provider_milvusdm.sources.faiss.transform import reverse

# These and no subclass, which may keep its rows in another manner: so do Panorama and Dedup.
STORED: tuple[Any, ...] = (
    faiss.IndexFlat,
    faiss.IndexFlatL2,
    faiss.IndexFlatIP,
    faiss.IndexFlat1D,
    faiss.IndexBinaryFlat,
)
CODES: tuple[Any, ...] = (
    faiss.IndexPQ,
    faiss.IndexScalarQuantizer,
    faiss.IndexResidualQuantizer,
    faiss.IndexLocalSearchQuantizer,
    faiss.IndexProductResidualQuantizer,
    faiss.IndexProductLocalSearchQuantizer,
)
LISTS: tuple[Any, ...] = (faiss.IndexIVFFlat, faiss.IndexBinaryIVF)
LISTS_OF_CODES: tuple[Any, ...] = (
    faiss.IndexIVFPQ,
    faiss.IndexIVFScalarQuantizer,
    faiss.IndexIVFResidualQuantizer,
    faiss.IndexIVFLocalSearchQuantizer,
    faiss.IndexIVFProductResidualQuantizer,
    faiss.IndexIVFProductLocalSearchQuantizer,
)
# Of these the rows are those of an index in them.
GRAPHS: tuple[Any, ...] = (faiss.IndexHNSW, faiss.IndexNSG, faiss.IndexNNDescent, faiss.IndexBinaryHNSW)
MAPS: tuple[Any, ...] = (faiss.IndexIDMap, faiss.IndexBinaryIDMap)


class Rows(Protocol):
    """``labels`` are ids of the index's own where ``has_ids``, else row numbers."""

    count: int
    dimension: int
    has_ids: bool
    notes: tuple[str, ...]
    losses: tuple[str, ...]
    """What the vectors are not; none where they are those that were added."""

    def labels(self, start: int, stop: int) -> Labels: ...

    def vectors(self, start: int, stop: int) -> Vectors:
        """float32, shape (rows, dimension), or uint8, shape (rows, dimension / 8)."""
        ...


def open_rows(file: FaissFile, index: Any) -> Rows:
    """The rows of an index or of a part of one; refused when its kind is not read."""
    rows = _open(file, index)
    if (rows.count, rows.dimension) != (index.ntotal, index.d) or rows.count < 0 or rows.dimension < 1:
        raise DamagedSourceError(
            f"parts of a Faiss index are at odds: {type(index).__name__}",
            where=file.path,
            expected=f"{index.ntotal} rows of dimension {index.d}",
            found=f"{rows.count} of dimension {rows.dimension}",
            cure=CURE,
        )
    return rows


def _open(file: FaissFile, index: Any) -> Rows:
    kind = type(index)
    if kind in (*STORED, *CODES):
        return StoredRows(file, index, lossy=kind in CODES)
    if kind in (*LISTS, *LISTS_OF_CODES):
        return ListRows(file, index, lossy=kind in LISTS_OF_CODES)
    if isinstance(index, GRAPHS):
        return open_rows(file, _part(file, index, index.storage))
    if isinstance(index, faiss.IndexRefine):
        return open_rows(file, _part(file, index, index.refine_index))
    if isinstance(index, MAPS):
        return MappedRows(file, index)
    if isinstance(index, faiss.IndexPreTransform):
        return ReversedRows(file, index)
    raise UnsupportedSourceError(
        "a Faiss index of a kind that is not read",
        where=file.path,
        expected="Flat, IVF-Flat, HNSW-Flat or another graph of flat vectors, IDMap, PreTransform or RefineFlat around "
        "them, binary Flat, IVF or HNSW; or, with allow_lossy, PQ, SQ or additive quantizers",
        found=type(index).__name__,
        cure=CURE_NOT_READ,
    )


def _part(file: FaissFile, index: Any, part: Any) -> Any:
    if part is None:
        raise UnsupportedSourceError(
            f"a {type(index).__name__} without its vectors",
            where=file.path,
            expected="the vectors stored in it",
            found="none",
            cure="Write the index with its storage.",
        )
    return faiss.downcast_IndexBinary(part) if isinstance(part, faiss.IndexBinary) else faiss.downcast_index(part)


class MappedRows:
    """Rows with ids of their own: id_map[label] is the id."""

    has_ids = True

    def __init__(self, file: FaissFile, index: Any) -> None:
        self._rows = open_rows(file, _part(file, index, index.index))
        self._map = faiss.vector_to_array(index.id_map)
        self.count, self.dimension = self._rows.count, self._rows.dimension
        self.notes, self.losses = self._rows.notes, self._rows.losses
        if len(self._map) != self.count:
            raise DamagedSourceError(
                "ids and rows of a Faiss index are at odds",
                where=file.path,
                expected=f"{self.count} ids",
                found=f"{len(self._map)}",
                cure=CURE,
            )
        self._path = file.path

    def labels(self, start: int, stop: int) -> Labels:
        labels = self._rows.labels(start, stop)
        outside = labels[(labels < 0) | (labels >= len(self._map))]
        if outside.size:
            raise DamagedSourceError(
                "a Faiss index has rows that its ids don't count",
                where=self._path,
                expected=f"labels from 0, below {len(self._map)}",
                found=f"{outside.size} others, the first {outside[0]}",
                cure=CURE,
            )
        ids: Labels = self._map[labels]
        return ids

    def vectors(self, start: int, stop: int) -> Vectors:
        return self._rows.vectors(start, stop)


class ReversedRows:
    """Rows as they were before the steps in front of their index."""

    def __init__(self, file: FaissFile, index: Any) -> None:
        self._rows = open_rows(file, _part(file, index, index.index))
        steps = [faiss.downcast_VectorTransform(index.chain.at(number)) for number in range(index.chain.size())]
        self._check_chain(file, index, steps)
        self._reversals = [reverse(file.path, step) for step in steps]
        self.count, self.dimension, self.has_ids = self._rows.count, index.d, self._rows.has_ids
        self.notes = (*self._rows.notes, *(one.note for one in self._reversals if one.note))
        self.losses = (*self._rows.losses, *(one.loss for one in self._reversals if one.loss))

    def labels(self, start: int, stop: int) -> Labels:
        return self._rows.labels(start, stop)

    def vectors(self, start: int, stop: int) -> Vectors:
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are found by whoever looks for them
            rows = self._rows.vectors(start, stop).astype(np.float64)
            for reversal in reversed(self._reversals):
                rows = reversal.turn_back(rows)
            return np.ascontiguousarray(rows, np.float32)

    def _check_chain(self, file: FaissFile, index: Any, steps: list[Any]) -> None:
        found = [index.d, *(size for step in steps for size in (step.d_in, step.d_out)), self._rows.dimension]
        if any(before != after for before, after in zip(found[::2], found[1::2], strict=True)):
            raise DamagedSourceError(
                "steps of a Faiss index don't fit each other",
                where=file.path,
                expected="each to give what the next one takes",
                found=f"dimensions {', '.join(map(str, found))}",
                cure=CURE,
            )
