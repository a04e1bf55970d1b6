"""What a source holds, read without Airflow: collections, partitions and numbers of rows, but no vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from airflow_provider_milvusdm.exceptions import ConfigurationError, SourceError, SourceNotFoundError
from airflow_provider_milvusdm.hooks.object_storage import open_url
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import ALL_COLLECTIONS, PartitionSpec
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.paths import AnyPath, open_urls_with, source_path

ID_BYTES = 8
ALL_BYTES, ALL_TASKS = 1 << 62, 1 << 31
"""Larger than any source: no collection is divided into groups."""


@dataclass(frozen=True)
class PartitionContents:
    """Numbers of rows of a partition."""

    name: str
    live: int
    deleted: int
    """Rows that are stored and deleted, those included that the log deletes."""
    only_in_log: int
    """Rows that the log inserts; those of them that are live are also counted in ``live``."""
    bytes: int
    """Of the ids and vectors of the live rows."""


@dataclass(frozen=True)
class CollectionContents:
    """A collection; one that can't be read has faults."""

    name: str
    dimension: int | None = None
    metric: str = ""
    index: str = ""
    index_params: dict[str, int] = field(default_factory=dict)
    partitions: tuple[PartitionContents, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def read_contents(text: str, embeddings: str = "embeddings") -> list[CollectionContents]:
    """The collections of a Milvus 1.x directory, of an HDF5 file or a folder of them, or of a Faiss index.

    ``text``: a path or a URL. ``embeddings``: the dataset of the vectors in HDF5 files. A fault of one collection is in
    its ``faults``. Raises MilvusdmError if there is no source, or if it can't be read as a whole.
    """
    open_urls_with(open_url)
    path = source_path(text)
    if not path.is_dir():
        return [_read_only_file(path, embeddings)]
    if (path / "db").is_dir():
        return _read_milvus1x(path)
    return [_read_file(file, embeddings) for file in _list_hdf5(path)]


def _list_hdf5(folder: AnyPath) -> list[AnyPath]:
    """The HDF5 files of the folder. Raises SourceNotFoundError if it has none."""
    from airflow_provider_milvusdm.sources.hdf5.inspect import list_hdf5

    try:
        return list_hdf5(folder)
    except SourceNotFoundError:
        raise SourceNotFoundError(
            "no source in this folder",
            where=folder,
            expected="db/ and wal/ of a Milvus 1.x server, or HDF5 files",
            cure="Name the directory that has db/ and wal/, or the folder of the files. Subfolders are not searched.",
        ) from None


def _read_milvus1x(directory: AnyPath) -> list[CollectionContents]:
    from airflow_provider_milvusdm.sources.milvus1x.inspect import inspect_catalog
    from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog

    catalog = read_sqlite_catalog(directory / "db" / "meta.sqlite")
    groups = inspect_catalog(
        catalog,
        directory / "db" / "tables",
        directory / "wal",
        {ALL_COLLECTIONS: None},
        unit_bytes=ALL_BYTES,
        max_tasks=ALL_TASKS,
    )
    return [_read_groups(list(of_name)) for _, of_name in groupby(groups, lambda group: group.name)]


def _read_only_file(path: AnyPath, embeddings: str) -> CollectionContents:
    """Raises SourceNotFoundError if there is no such file."""
    if not path.is_file():
        raise SourceNotFoundError(
            "no such source",
            where=path,
            expected="a Milvus 1.x data directory, an HDF5 file or a Faiss index",
            cure="Correct the path.",
        )
    return _read_file(path, embeddings)


def _read_file(path: AnyPath, embeddings: str) -> CollectionContents:
    """A file, as the collection with its name; one that can't be read has a fault."""
    try:
        inspect = _inspect_hdf5 if _is_hdf5(path) else _inspect_faiss
        return _read_groups(inspect(path, embeddings))
    except SourceError as fault:
        return CollectionContents(path.stem, faults=(str(fault),))


def _is_hdf5(path: AnyPath) -> bool:
    import h5py

    from airflow_provider_milvusdm.sources.hdf5.inspect import SUFFIXES

    return path.suffix.lower() in SUFFIXES or (isinstance(path, Path) and bool(h5py.is_hdf5(path)))


def _inspect_hdf5(path: AnyPath, embeddings: str) -> list[PartitionGroup]:
    from airflow_provider_milvusdm.sources.hdf5.inspect import inspect_hdf5
    from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options

    return inspect_hdf5(
        [path], name=path.stem, options=Hdf5Options(embeddings), unit_bytes=ALL_BYTES, max_tasks=ALL_TASKS
    )


def _inspect_faiss(path: AnyPath, _: str) -> list[PartitionGroup]:
    if not isinstance(path, Path):
        raise ConfigurationError("a Faiss index is read from a local file only", where=path, cure="Copy the file.")
    if find_spec("faiss") is None:
        raise ConfigurationError(
            "not an HDF5 file, and Faiss is not installed",
            where=path,
            cure="If it is a Faiss index: pip install 'airflow-provider-milvusdm[faiss]'.",
        )
    from airflow_provider_milvusdm.sources.faiss.inspect import inspect_faiss
    from airflow_provider_milvusdm.sources.faiss.segment import FaissOptions

    return inspect_faiss(
        path, name=path.stem, options=FaissOptions(allow_lossy=True), unit_bytes=ALL_BYTES, max_tasks=ALL_TASKS
    )


def _read_groups(groups: Sequence[PartitionGroup]) -> CollectionContents:
    """The collection of these groups, with the numbers of its segments; a damaged segment is a fault."""
    first = groups[0]
    errors = tuple(dict.fromkeys(group.error for group in groups if group.error))
    if first.collection is None:
        return CollectionContents(first.name, faults=errors, notes=first.notes)
    partitions, faults = [], []
    for group in groups:
        for partition in group.partitions:
            try:
                partitions.append(_read_partition(group, partition))
            except SourceError as fault:
                faults.append(str(fault))
    return CollectionContents(
        first.name,
        first.collection.dimension,
        str(first.collection.metric),
        first.collection.index_type,
        dict(first.collection.index_params),
        tuple(partitions),
        first.notes,
        (*errors, *faults),
    )


def _read_partition(group: PartitionGroup, partition: PartitionSpec) -> PartitionContents:
    """Numbers of rows by the headers and the deletions of its segments; ids are only read if the log deletes any."""
    assert group.collection is not None  # noqa: S101 - the caller has checked it
    live = deleted = 0
    source = open_source(group.source)
    for spec in partition.segments:
        segment = source.segment(group.collection, spec.name)
        gone = segment.deleted_rows + segment.replayed_deletes
        live, deleted = live + segment.stored_rows - gone, deleted + gone
    row_bytes = ID_BYTES + group.collection.vector_bytes
    return PartitionContents(partition.tag, live, deleted, partition.replayed_rows, live * row_bytes)
