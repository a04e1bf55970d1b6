"""HDF5 files as a source: each file is a segment."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import ConfigurationError, DamagedSourceError
from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.sources.hdf5.file import has_name, open_hdf5, refuse_damage, require_dataset
from airflow_provider_milvusdm.sources.hdf5.ids import NUMBER_ROWS, check_ids, number_rows, read_ids
from airflow_provider_milvusdm.sources.hdf5.vectors import kind_of, place, vector_layout
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path

IDS_DATASET = "ids"
IDS_IF_THERE = "ids?"
"""As a name: the dataset ``ids`` where there is one."""


@dataclass(frozen=True)
class Hdf5Options:
    """Where an HDF5 file has its rows, and what their ids are.

    ``ids``: ``dataset`` takes them from ``ids_dataset``, which must be there. ``row_number`` and ``auto`` say what rows
    get that have none: their number, counted on over several files, or whatever the target makes.
    """

    embeddings: str = "embeddings"
    ids_dataset: str | None = IDS_IF_THERE
    """Any other name must be there; None: no dataset is looked for."""
    ids: Literal["dataset", "row_number", "auto"] = "row_number"

    def as_manifest(self) -> dict[str, Any]:
        return asdict(self)


class Hdf5Source:
    """A folder with HDF5 files below; ``options`` are those that inspecting found, with ``ids`` decided."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.folder = source_path(path)
        self.options = Hdf5Options(**options)

    def segment(self, collection: CollectionSpec, name: str) -> Hdf5Segment:
        """Open segment ``<file>`` or, where rows are numbered, ``<file>@<id of its first row>``."""
        first_id = 0
        if self.options.ids != "dataset":
            name, _, number = name.rpartition("@")
            first_id = int(number)
        segment = Hdf5Segment(self.folder / name, self.options, first_id)
        segment.require(collection)
        return segment


class Hdf5Segment:
    """Ids and vectors of one file; nothing is kept in memory but some unpacked chunks.

    The file stays open as long as this object lives: HDF5 unpacks whole chunks, and two batches share some.
    """

    deleted_rows = replayed_deletes = 0

    def __init__(self, path: AnyPath, options: Hdf5Options, first_id: int = 0) -> None:
        self.path, self.first_id = path, first_id
        with ExitStack() as opened, refuse_damage(path):
            file = opened.enter_context(open_hdf5(path))
            self._vectors = require_dataset(file, options.embeddings)
            self.layout = vector_layout(self._vectors)
            self.distance = _distance(file)
            self._ids = _find_ids(file, options, self.stored_rows)
            self.close = weakref.finalize(self, opened.pop_all().close)

    @property
    def files(self) -> tuple[AnyPath, ...]:
        return (self.path,)

    @property
    def stored_rows(self) -> int:
        return int(self._vectors.shape[0])

    @property
    def has_ids(self) -> bool:
        return self._ids is not None

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        return np.ones(stop - start, np.bool_)

    def read(self, start: int, stop: int) -> VectorBatch:
        with refuse_damage(self.path):
            return VectorBatch(self.ids(start, stop), self.layout.read(self._vectors, start, stop))

    def fingerprint(self) -> bytes:
        """Digest of the file's size, the datasets' shapes and types, and the ids."""
        described = (self.path.stat().st_size, self._vectors.shape, self._vectors.dtype.str, self.has_ids)
        digest = hashlib.blake2b(repr(described).encode(), digest_size=16)
        for start, stop in ranges(0, self.stored_rows, IDS_A_BATCH):
            digest.update(self.ids(start, stop).data)
        return digest.digest()

    def require(self, collection: CollectionSpec) -> None:
        """The vectors are of the kind that inspecting found."""
        if (self.layout.dimension, self.layout.is_binary) != (collection.dimension, collection.metric.is_binary):
            raise DamagedSourceError(
                "a file is not what it was when it was inspected",
                where=place(self._vectors),
                expected=f"{collection.metric} vectors of dimension {collection.dimension}",
                found=kind_of(self.layout),
                cure="Start a new run.",
            )

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        if self._ids is None:
            return number_rows(self.first_id, start, stop)
        with refuse_damage(self.path):
            return read_ids(self._ids, start, stop)


def _find_ids(file: h5py.File, options: Hdf5Options, rows: int) -> h5py.Dataset | None:
    """The ids dataset. One that was named, or that ``ids: dataset`` asks for, must be there."""
    name, wanted = options.ids_dataset, options.ids == "dataset"
    if wanted and not name:
        raise ConfigurationError(
            "ids: dataset without an ids dataset", expected="its name", cure="Set ids_dataset, or ids: row_number."
        )
    if name == IDS_IF_THERE:
        name = IDS_DATASET if wanted or has_name(file, IDS_DATASET) else None
    if not name:
        return None
    dataset = require_dataset(file, name, cure=f"Name the ids dataset that is meant, {NUMBER_ROWS}")
    check_ids(dataset, rows)
    return dataset


def _distance(file: h5py.File) -> str:
    """The attribute ``distance``, which ann-benchmarks' files have; what it is where it is no text."""
    try:
        value = file.attrs.get("distance", "")
    except TypeError as error:  # a type that NumPy has none for
        return f"no text ({error})"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.encode(errors="replace").decode() if isinstance(value, str) else f"no text ({type(value).__name__})"
