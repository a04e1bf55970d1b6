"""HDF5 files as a source: each file is one segment."""

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
from airflow_provider_milvusdm.sources.hdf5.vectors import describe_dataset, describe_layout, vector_layout
from airflow_provider_milvusdm.sources.row_numbers import parse_numbered_segment
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path

IDS_DATASET = "ids"
IDS_IF_THERE = "ids?"
"""As the name of a dataset: ``ids``, if the file has it."""


@dataclass(frozen=True)
class Hdf5Options:
    """Which datasets of an HDF5 file to read."""

    embeddings: str = "embeddings"
    """Name of the dataset with the vectors."""
    ids_dataset: str | None = IDS_IF_THERE
    """Name of the dataset with the ids; any other name than the default must exist. None: no dataset is read."""
    ids: Literal["dataset", "row_number", "auto"] = "row_number"
    """``dataset``: the ids are in ``ids_dataset``, which must exist. The others say which ids rows without ids get:
    ``row_number`` their number, which counts on over all files, ``auto`` what the target generates."""

    def as_manifest(self) -> dict[str, Any]:
        return asdict(self)


class Hdf5Source:
    """A folder that HDF5 files are below.

    ``options``: :class:`Hdf5Options` as inspecting decided them: ``ids`` is ``dataset`` if the files have ids.
    """

    def __init__(self, folder: str, options: Mapping[str, Any]) -> None:
        self.folder = source_path(folder)
        self.options = Hdf5Options(**options)

    def segment(self, collection: CollectionSpec, name: str) -> Hdf5Segment:
        """Open a file: ``name`` is its path below the folder, or a numbered segment if the file has no ids.

        Raises SourceNotFoundError, DamagedSourceError or UnsupportedSourceError.
        """
        has_ids = self.options.ids == "dataset"
        file, first_id = (name, 0) if has_ids else parse_numbered_segment(name)
        segment = Hdf5Segment(self.folder / file, self.options, first_id)
        segment.require(collection)
        return segment


class Hdf5Segment:
    """Ids and vectors of one file, a ``Segment``; only a few unpacked chunks are kept in memory.

    The file stays open as long as this object lives: HDF5 unpacks whole chunks, and neighbouring batches share chunks.
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
        """Check that the vectors fit the collection. Raises DamagedSourceError if not."""
        if (self.layout.dimension, self.layout.is_binary) != (collection.dimension, collection.metric.is_binary):
            raise DamagedSourceError(
                "a file changed since it was inspected",
                where=describe_dataset(self._vectors),
                expected=f"{collection.metric} vectors of dimension {collection.dimension}",
                found=describe_layout(self.layout),
                cure="Start a new run.",
            )

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        if self._ids is None:
            return number_rows(self.first_id, start, stop)
        with refuse_damage(self.path):
            return read_ids(self._ids, start, stop)


def _find_ids(file: h5py.File, options: Hdf5Options, rows: int) -> h5py.Dataset | None:
    """The ids dataset, which must exist if it is named or if ``ids: dataset`` asks for it; None: there is none."""
    name, required = options.ids_dataset, options.ids == "dataset"
    if required and not name:
        raise ConfigurationError(
            "ids: dataset without an ids dataset", expected="its name", cure="Set ids_dataset, or ids: row_number."
        )
    if name == IDS_IF_THERE:
        name = IDS_DATASET if required or has_name(file, IDS_DATASET) else None
    if not name:
        return None
    dataset = require_dataset(file, name, cure=f"Name the right ids dataset, {NUMBER_ROWS}")
    check_ids(dataset, rows)
    return dataset


def _distance(file: h5py.File) -> str:
    """The attribute ``distance``, as in the files of ann-benchmarks; or a note that it is not text."""
    try:
        value = file.attrs.get("distance", "")
    except TypeError as error:  # a type that NumPy doesn't have
        return f"no text ({error})"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.encode(errors="replace").decode() if isinstance(value, str) else f"no text ({type(value).__name__})"
