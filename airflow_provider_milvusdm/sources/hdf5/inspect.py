"""Inspect HDF5 files: one collection, one partition, a segment a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from airflow_provider_milvusdm.exceptions import (
    ConfigurationError,
    DamagedSourceError,
    SourceError,
    SourceNotFoundError,
)
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import (
    DEFAULT_PARTITION,
    CollectionSpec,
    Metric,
    PartitionSpec,
    SegmentSpec,
    SourceRef,
)
from airflow_provider_milvusdm.model.units import unit_bytes_within
from airflow_provider_milvusdm.sources.hdf5.metric import choose_metric
from airflow_provider_milvusdm.sources.hdf5.probe import probe
from airflow_provider_milvusdm.sources.hdf5.segment import IDS_DATASET, IDS_IF_THERE, Hdf5Options, Hdf5Segment
from airflow_provider_milvusdm.sources.hdf5.vectors import VectorLayout, kind_of
from airflow_provider_milvusdm.sources.row_numbers import check_row_numbers
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath, common_folder, real_path

SUFFIXES = (".h5", ".hdf5")
EXAMPLES = 20


@refuse_unreadable()
def list_hdf5(data_dir: AnyPath) -> list[AnyPath]:
    """The HDF5 files of a folder, by name, in order; not those that a dot hides, such as macOS's ``._a.h5``."""
    if not data_dir.is_dir():
        raise SourceNotFoundError("no folder of HDF5 files", where=data_dir, expected="a folder", found="none")
    visible = (path for path in data_dir.iterdir() if not path.name.startswith("."))
    files = sorted(path for path in visible if path.suffix.lower() in SUFFIXES and _is_meant(path))
    if not files:
        raise SourceNotFoundError(
            "no HDF5 file in the folder", where=data_dir, expected=" or ".join(f"*{suffix}" for suffix in SUFFIXES)
        )
    return files


def _is_meant(path: AnyPath) -> bool:
    """A folder is not; a link to nothing is, which is refused when it is opened."""
    return not path.is_dir() if isinstance(path, Path) else path.is_file()


@refuse_unreadable()
def inspect_hdf5(
    paths: Sequence[AnyPath],
    *,
    name: str,
    partition: str = DEFAULT_PARTITION,
    dimension: int | None = None,
    metric: Metric | None = None,
    options: Hdf5Options | None = None,
    id_offset: int = 0,
    unit_bytes: int,
    max_tasks: int,
) -> list[PartitionGroup]:
    """The one group to resolve: collection ``name`` with all rows of the files, in their order.

    ``dimension`` and ``metric`` are checked against the data; without a metric, the files' attribute ``distance``
    proposes one. ``options.ids`` of the group's source is what the ids are: ``dataset``, ``row_number`` or ``auto``.
    """
    paths = [path.absolute() for path in paths]
    _check_paths(paths)
    options = options or Hdf5Options()
    files = _look_at_all(paths, options)
    first, rows = files[0], sum(file.rows for file in files)
    _check_alike(files)
    _check_dimension(first, dimension)
    if not first.has_ids:
        check_row_numbers(id_offset, rows)
    chosen, metric_note = choose_metric(metric, [file.distance for file in files], first.layout.is_binary)
    collection = CollectionSpec(name, first.layout.dimension, chosen)
    found = _decided(options, first.has_ids)
    folder = common_folder(paths)
    segments = tuple(_segments(files, str(folder), first.has_ids, id_offset))
    notes = [metric_note, *(file.layout.note for file in files), _ids_note(options, first.has_ids, id_offset)]
    return [
        PartitionGroup(
            name=name,
            source=SourceRef("hdf5", str(folder), found.as_manifest()),
            collection=collection,
            partitions=(PartitionSpec(partition, segments, first_key=id_offset),),
            unit_bytes=unit_bytes_within(rows * collection.vector_bytes, 1, max_tasks, unit_bytes),
            notes=tuple(note for note in dict.fromkeys(notes) if note),
        )
    ]


def _check_paths(paths: Sequence[AnyPath]) -> None:
    if not paths:
        raise ConfigurationError("no HDF5 file is named", expected="one at least")
    real = [real_path(path) for path in paths]
    twice = [str(path) for path in dict.fromkeys(real) if real.count(path) > 1]
    if twice:
        raise ConfigurationError(
            "a file is named twice", expected="each once", found=", ".join(twice), cure="Name it once."
        )


@dataclass(frozen=True)
class _File:
    """What inspecting finds of a file."""

    path: AnyPath
    rows: int
    layout: VectorLayout
    has_ids: bool
    distance: str

    @classmethod
    def look(cls, path: AnyPath, options: Hdf5Options) -> Self:
        segment = Hdf5Segment(path, options)
        with closing(segment):
            return cls(path, segment.stored_rows, segment.layout, segment.has_ids, segment.distance)


def _look_at_all(paths: Iterable[AnyPath], options: Hdf5Options) -> list[_File]:
    """Every file looked at; all that can't be read are told at once."""
    files, faults = [], []
    for path in paths:
        try:
            if isinstance(path, Path):
                probe(path, partial(_File.look, path, options))
            files.append(_File.look(path, options))
        except SourceError as fault:
            faults.append(fault)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        more = [f"- and {len(faults) - EXAMPLES} more"] if len(faults) > EXAMPLES else []
        listed = [f"- {fault}" for fault in faults[:EXAMPLES]]
        raise SourceError(f"{len(faults)} files can't be read:\n" + "\n".join(listed + more))
    return files


def _check_alike(files: Sequence[_File]) -> None:
    """All files have the same kind of vectors, and all have ids or none has."""
    first = files[0]
    for other in files[1:]:
        kinds = (kind_of(first.layout), kind_of(other.layout))
        ids = ("ids" if first.has_ids else "no ids", "ids" if other.has_ids else "no ids")
        for expected, found in (kinds, ids):
            if expected != found:
                raise DamagedSourceError(
                    "files that don't belong together",
                    where=other.path,
                    expected=f"{expected}, as in {first.path}",
                    found=found,
                    cure="Load them into collections of their own.",
                )


def _check_dimension(file: _File, dimension: int | None) -> None:
    if dimension not in (None, file.layout.dimension):
        raise ConfigurationError(
            "the dimension is not that of the vectors",
            where=file.path,
            expected=f"dimension {dimension}, as collection_parameter says",
            found=kind_of(file.layout),
            cure="Correct or leave out the dimension; that of binary vectors counts bits.",
        )


def _segments(files: Sequence[_File], folder: str, has_ids: bool, first_id: int) -> Iterator[SegmentSpec]:
    for file in files:
        name = str(file.path).removeprefix(folder).lstrip("/")
        yield SegmentSpec(name if has_ids else f"{name}@{first_id}", file.rows)
        first_id += file.rows


def _decided(options: Hdf5Options, has_ids: bool) -> Hdf5Options:
    """The options with what the ids are."""
    if not has_ids:
        return replace(options, ids_dataset=None)
    name = IDS_DATASET if options.ids_dataset == IDS_IF_THERE else options.ids_dataset
    return replace(options, ids="dataset", ids_dataset=name)


def _ids_note(options: Hdf5Options, has_ids: bool, id_offset: int) -> str:
    if has_ids:
        name = _decided(options, has_ids).ids_dataset
        return f"ids: those of dataset {name!r} (they are kept: auto is for rows without ids)" * (options.ids == "auto")
    missing = f"no dataset {IDS_DATASET!r}" if options.ids_dataset else "no ids dataset was asked for"
    made = "the target makes them" if options.ids == "auto" else f"rows are numbered from {id_offset}"
    return f"ids: {missing}: {made}"
