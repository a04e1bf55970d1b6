"""The rows of a Faiss index, depending on its type, in a stable order: as they are stored, or list by list.

Only safe calls are used: several ``reconstruct`` functions of faiss return garbage or crash if an index doesn't support
them.
"""

from __future__ import annotations

from typing import Any, Protocol

import faiss
import numpy as np

from airflow_provider_milvusdm.exceptions import DamagedSourceError, UnsupportedSourceError
from airflow_provider_milvusdm.sources.faiss.file import CURE, CURE_NOT_READ, FaissFile
from airflow_provider_milvusdm.sources.faiss.storage import Labels, ListRows, StoredRows, Vectors
from airflow_provider_milvusdm.sources.faiss.transform import invert_transform

# Exactly these types and no subclasses: those can store rows in another way, as Panorama and Dedup do.
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
# These have an index inside, which holds the rows.
GRAPHS: tuple[Any, ...] = (faiss.IndexHNSW, faiss.IndexNSG, faiss.IndexNNDescent, faiss.IndexBinaryHNSW)
MAPS: tuple[Any, ...] = (faiss.IndexIDMap, faiss.IndexBinaryIDMap)


class Rows(Protocol):
    """The rows of an index or of an index inside it."""

    count: int
    dimension: int
    has_ids: bool
    """Labels are ids of the index; otherwise they are row numbers."""
    notes: tuple[str, ...]
    losses: tuple[str, ...]
    """How the vectors differ from those that were added to the index; empty if they don't."""

    def labels(self, start: int, stop: int) -> Labels:
        """Labels of rows ``start`` to ``stop``: int64 of shape (stop - start,)."""
        ...

    def vectors(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``: float32 of shape (rows, dimension), or uint8 of shape (rows, dimension / 8)."""
        ...


def open_rows(file: FaissFile, index: Any) -> Rows:
    """The rows of an index or of an index inside it. Raises UnsupportedSourceError or DamagedSourceError."""
    rows = _open(file, index)
    if (rows.count, rows.dimension) != (index.ntotal, index.d) or rows.count < 0 or rows.dimension < 1:
        raise DamagedSourceError(
            f"parts of a Faiss index don't match: {type(index).__name__}",
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
        return open_rows(file, _require_inner(file, index, index.storage))
    if isinstance(index, faiss.IndexRefine):
        return open_rows(file, _require_inner(file, index, index.refine_index))
    if isinstance(index, MAPS):
        return MappedRows(file, index)
    if isinstance(index, faiss.IndexPreTransform):
        return TransformedRows(file, index)
    raise UnsupportedSourceError(
        "a Faiss index of a type that can't be read",
        where=file.path,
        expected="Flat, IVF-Flat, HNSW-Flat or another graph of flat vectors, IDMap, PreTransform or RefineFlat around "
        "them, binary Flat, IVF or HNSW; or, with allow_lossy, PQ, SQ or additive quantizers",
        found=type(index).__name__,
        cure=CURE_NOT_READ,
    )


def _require_inner(file: FaissFile, index: Any, inner: Any) -> Any:
    """The index inside another one. Raises UnsupportedSourceError if there is none."""
    if inner is None:
        raise UnsupportedSourceError(
            f"a {type(index).__name__} without its vectors",
            where=file.path,
            expected="the vectors stored in it",
            found="none",
            cure="Write the index with its storage.",
        )
    return faiss.downcast_IndexBinary(inner) if isinstance(inner, faiss.IndexBinary) else faiss.downcast_index(inner)


class MappedRows:
    """The rows of an IDMap: ``id_map[label]`` is the id, where ``label`` is the label in the index inside."""

    has_ids = True

    def __init__(self, file: FaissFile, index: Any) -> None:
        self._rows = open_rows(file, _require_inner(file, index, index.index))
        self._map = faiss.vector_to_array(index.id_map)
        self.count, self.dimension = self._rows.count, self._rows.dimension
        self.notes, self.losses = self._rows.notes, self._rows.losses
        if len(self._map) != self.count:
            raise DamagedSourceError(
                "ids and rows of a Faiss index don't match",
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
                "a Faiss index has rows without an id",
                where=self._path,
                expected=f"labels from 0, below {len(self._map)}",
                found=f"{outside.size} others, the first {outside[0]}",
                cure=CURE,
            )
        ids: Labels = self._map[labels]
        return ids

    def vectors(self, start: int, stop: int) -> Vectors:
        return self._rows.vectors(start, stop)


class TransformedRows:
    """The rows of an IndexPreTransform, as they were before its transforms."""

    def __init__(self, file: FaissFile, index: Any) -> None:
        self._rows = open_rows(file, _require_inner(file, index, index.index))
        transforms = [faiss.downcast_VectorTransform(index.chain.at(number)) for number in range(index.chain.size())]
        self._check_chain(file, index, transforms)
        self._inverses = [invert_transform(file.path, transform) for transform in transforms]
        self.count, self.dimension, self.has_ids = self._rows.count, index.d, self._rows.has_ids
        self.notes = (*self._rows.notes, *(inverse.note for inverse in self._inverses if inverse.note))
        self.losses = (*self._rows.losses, *(inverse.loss for inverse in self._inverses if inverse.loss))

    def labels(self, start: int, stop: int) -> Labels:
        return self._rows.labels(start, stop)

    def vectors(self, start: int, stop: int) -> Vectors:
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are found when vectors are checked
            rows = self._rows.vectors(start, stop).astype(np.float64)
            for inverse in reversed(self._inverses):
                rows = inverse.apply(rows)
            return np.ascontiguousarray(rows, np.float32)

    def _check_chain(self, file: FaissFile, index: Any, transforms: list[Any]) -> None:
        """Check that each transform has the output dimension that the next one, or the index, takes."""
        inner = (size for transform in transforms for size in (transform.d_in, transform.d_out))
        dimensions = [index.d, *inner, self._rows.dimension]
        if any(before != after for before, after in zip(dimensions[::2], dimensions[1::2], strict=True)):
            raise DamagedSourceError(
                "the transforms of a Faiss index don't fit together",
                where=file.path,
                expected="each output dimension equal to the next input dimension",
                found=f"dimensions {', '.join(map(str, dimensions))}",
                cure=CURE,
            )
