"""A Faiss index as a source: the index file is the only segment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import ConfigurationError, DamagedSourceError, UnsupportedSourceError
from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.sources.faiss.file import FaissFile, refuse_damage
from airflow_provider_milvusdm.sources.faiss.rows import Rows, open_rows
from airflow_provider_milvusdm.sources.row_numbers import parse_numbered_segment


@dataclass(frozen=True)
class FaissOptions:
    """How a Faiss index is read."""

    ids: Literal["index", "row_number", "auto"] = "row_number"
    """``index``: the ids are in the index, which must have them. The others say which ids rows without ids get:
    ``row_number`` their number, ``auto`` what the target generates."""
    allow_lossy: bool = False
    """Also read vectors that the index stores only as codes, or not completely."""

    def as_manifest(self) -> dict[str, Any]:
        return asdict(self)


class FaissSource:
    """The folder of an index file.

    ``options``: :class:`FaissOptions` as inspecting decided them: ``ids`` is ``index`` if the index has ids.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.options = FaissOptions(**options)

    def segment(self, collection: CollectionSpec, name: str) -> FaissSegment:
        """Open the index: ``name`` is the file's name, or a numbered segment if the index has no ids.

        Raises SourceNotFoundError, DamagedSourceError or UnsupportedSourceError.
        """
        has_ids = self.options.ids == "index"
        file, first_id = (name, 0) if has_ids else parse_numbered_segment(name)
        segment = FaissSegment(self.folder / file, self.options, first_id)
        segment.require(collection)
        return segment


class FaissSegment:
    """Ids and vectors of an index, a ``Segment``; the file is mapped, and its pages are released after each batch."""

    deleted_rows = replayed_deletes = 0

    def __init__(self, path: Path, options: FaissOptions, first_id: int = 0) -> None:
        self.file = FaissFile(path)
        self.first_id = first_id
        with refuse_damage(path):
            self.rows = open_rows(self.file, self.file.index)
        _refuse_loss(path, self.rows, options)
        _refuse_missing_ids(path, self.rows, options)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self.file.files)

    @property
    def stored_rows(self) -> int:
        return self.rows.count

    @property
    def is_binary(self) -> bool:
        return isinstance(self.file.index, faiss.IndexBinary)

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        return np.ones(stop - start, np.bool_)

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        ids = self._ids(start, stop)
        self.file.forget_pages()
        return ids

    def read(self, start: int, stop: int) -> VectorBatch:
        with refuse_damage(self.file.path):
            batch = VectorBatch(self._ids(start, stop), self.rows.vectors(start, stop))
        self.file.forget_pages()
        return batch

    def fingerprint(self) -> bytes:
        """Digest of the file's size, the index's type and shape, and the ids."""
        described = (type(self.file.index).__name__, self.rows.dimension, self.stored_rows, self.rows.has_ids)
        digest = hashlib.blake2b(repr((self.file.size, *described)).encode(), digest_size=16)
        for start, stop in ranges(0, self.stored_rows, IDS_A_BATCH):
            digest.update(self.ids(start, stop).data)
        return digest.digest()

    def require(self, collection: CollectionSpec) -> None:
        """Check that the vectors fit the collection. Raises DamagedSourceError if not."""
        if (self.rows.dimension, self.is_binary) != (collection.dimension, collection.metric.is_binary):
            raise DamagedSourceError(
                "an index changed since it was inspected",
                where=self.file.path,
                expected=f"{collection.metric} vectors of dimension {collection.dimension}",
                found=f"{'binary' if self.is_binary else 'float'} vectors of dimension {self.rows.dimension}",
                cure="Start a new run.",
            )

    def _ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        labels = self.rows.labels(start, stop)
        return labels if self.rows.has_ids else labels + self.first_id


def _refuse_loss(path: Path, rows: Rows, options: FaissOptions) -> None:
    if rows.losses and not options.allow_lossy:
        raise UnsupportedSourceError(
            "a Faiss index that does not store the original vectors",
            where=path,
            expected="the vectors that were added to it",
            found="; ".join(rows.losses),
            cure="Load the original vectors from an HDF5 file, or accept the loss: allow_lossy: true.",
        )


def _refuse_missing_ids(path: Path, rows: Rows, options: FaissOptions) -> None:
    if options.ids == "index" and not rows.has_ids:
        raise ConfigurationError(
            "a Faiss index without ids",
            where=path,
            expected="an IVF or an IDMap index, as ids: index says",
            found="rows in the order in which they were added",
            cure="Use ids: row_number, or auto.",
        )
