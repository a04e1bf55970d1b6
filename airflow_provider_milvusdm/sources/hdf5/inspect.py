"""Inspect HDF5 files: together they are one collection with one partition, and each file is a segment."""

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
    UnsupportedSourceError,
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
from airflow_provider_milvusdm.sources.hdf5.vectors import VectorLayout, describe_layout
from airflow_provider_milvusdm.sources.row_numbers import check_row_numbers, numbered_segment
from airflow_provider_milvusdm.storage.file_version import version_of
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath, common_folder, real_path

SUFFIXES = (".h5", ".hdf5")
EXAMPLES = 20


@refuse_unreadable()
def list_hdf5(folder: AnyPath) -> list[AnyPath]:
    """The HDF5 files of a folder, sorted by name, without hidden files such as macOS's ``._a.h5``.

    Raises SourceNotFoundError if there is none.
    """
    if not folder.is_dir():
        raise SourceNotFoundError("no folder of HDF5 files", where=folder, expected="a folder", found="none")
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = sorted(path for path in visible if path.suffix.lower() in SUFFIXES and _is_no_folder(path))
    if not files:
        raise SourceNotFoundError(
            "no HDF5 file in the folder", where=folder, expected=" or ".join(f"*{suffix}" for suffix in SUFFIXES)
        )
    return files


def _is_no_folder(path: AnyPath) -> bool:
    """True also for a broken link, which is refused when it is opened."""
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
    """One group to resolve: collection ``name`` with all rows of the files, in the order of ``paths``.

    ``dimension`` and ``metric`` are checked against the data. Without a metric, the attribute ``distance`` of the files
    proposes one. ``id_offset`` is the id of the first row if the files have no ids. The options in the group's source
    say where the ids come from. Raises SourceError or ConfigurationError.
    """
    paths = [path.absolute() for path in paths]
    _check_paths(paths)
    options = options or Hdf5Options()
    files = _inspect_files(paths, options)
    first, rows = files[0], sum(file.rows for file in files)
    _check_alike(files)
    _check_dimension(first, dimension)
    if not first.has_ids:
        check_row_numbers(id_offset, rows)
    chosen, metric_note = choose_metric(metric, [file.distance for file in files], first.layout.is_binary)
    collection = CollectionSpec(name, first.layout.dimension, chosen)
    decided = _decide_ids(options, first.has_ids)
    folder = common_folder(paths)
    segments = tuple(_segments(files, str(folder), first.has_ids, id_offset))
    notes = [metric_note, *(file.layout.note for file in files), _ids_note(options, first.has_ids, id_offset)]
    return [
        PartitionGroup(
            name=name,
            source=SourceRef("hdf5", str(folder), decided.as_manifest()),
            collection=collection,
            partitions=(PartitionSpec(partition, segments, first_key=id_offset),),
            unit_bytes=unit_bytes_within(rows * collection.vector_bytes, 1, max_tasks, unit_bytes),
            notes=tuple(note for note in dict.fromkeys(notes) if note),
        )
    ]


def _check_paths(paths: Sequence[AnyPath]) -> None:
    if not paths:
        raise ConfigurationError("no HDF5 file is named", expected="at least one")
    for path in paths:
        _refuse_undecodable(str(path))
    real = [real_path(path) for path in paths]
    twice = [str(path) for path in dict.fromkeys(real) if real.count(path) > 1]
    if twice:
        raise ConfigurationError(
            "a file is named twice", expected="each once", found=", ".join(twice), cure="Name it once."
        )


def _refuse_undecodable(path: str) -> None:
    """Refuse a path that manifests and reports, which are JSON in UTF-8, can't hold."""
    shown = path.encode(errors="backslashreplace").decode()
    if shown != path:
        raise UnsupportedSourceError(
            "the name of an HDF5 file is not UTF-8", where=shown, expected="UTF-8", cure="Rename the file."
        )


@dataclass(frozen=True)
class _File:
    """What inspecting finds in a file."""

    path: AnyPath
    version: str
    rows: int
    layout: VectorLayout
    has_ids: bool
    distance: str

    @classmethod
    def inspect(cls, path: AnyPath, options: Hdf5Options) -> Self:
        segment = Hdf5Segment(path, options)
        with closing(segment):
            version = version_of(segment.files)
            return cls(path, version, segment.stored_rows, segment.layout, segment.has_ids, segment.distance)


def _inspect_files(paths: Iterable[AnyPath], options: Hdf5Options) -> list[_File]:
    """Inspect every file. Raises one SourceError that names all files that can't be read."""
    files, faults = [], []
    for path in paths:
        try:
            if isinstance(path, Path):
                probe(path, partial(_File.inspect, path, options))
            files.append(_File.inspect(path, options))
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
    """Check that all files have the same kind of vectors, and that all have ids or none has."""
    first = files[0]
    for other in files[1:]:
        layouts = (describe_layout(first.layout), describe_layout(other.layout))
        ids = ("ids" if first.has_ids else "no ids", "ids" if other.has_ids else "no ids")
        for expected, found in (layouts, ids):
            if expected != found:
                raise DamagedSourceError(
                    "files that don't belong together",
                    where=other.path,
                    expected=f"{expected}, as in {first.path}",
                    found=found,
                    cure="Load them into different collections.",
                )


def _check_dimension(file: _File, dimension: int | None) -> None:
    if dimension not in (None, file.layout.dimension):
        raise ConfigurationError(
            "the dimension is not that of the vectors",
            where=file.path,
            expected=f"dimension {dimension}, as collection_parameter says",
            found=describe_layout(file.layout),
            cure="Correct or remove the dimension; the dimension of binary vectors is their number of bits.",
        )


def _segments(files: Sequence[_File], folder: str, has_ids: bool, first_id: int) -> Iterator[SegmentSpec]:
    for file in files:
        name = str(file.path).removeprefix(folder).lstrip("/")
        yield SegmentSpec(name if has_ids else numbered_segment(name, first_id), file.rows, file.version)
        first_id += file.rows


def _decide_ids(options: Hdf5Options, has_ids: bool) -> Hdf5Options:
    """The options with the decision where the ids come from."""
    if not has_ids:
        return replace(options, ids_dataset=None)
    name = IDS_DATASET if options.ids_dataset == IDS_IF_THERE else options.ids_dataset
    return replace(options, ids="dataset", ids_dataset=name)


def _ids_note(options: Hdf5Options, has_ids: bool, id_offset: int) -> str:
    if has_ids:
        name = _decide_ids(options, has_ids).ids_dataset
        return f"ids: from dataset {name!r} (they are kept: auto is for rows without ids)" * (options.ids == "auto")
    missing = f"no dataset {IDS_DATASET!r}" if options.ids_dataset else "no ids dataset was asked for"
    origin = "the target generates them" if options.ids == "auto" else f"rows are numbered from {id_offset}"
    return f"ids: {missing}: {origin}"
