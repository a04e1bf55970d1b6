"""Inspect a Faiss index: it is one collection with one partition and one segment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from airflow_provider_milvusdm.exceptions import ConfigurationError
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
from airflow_provider_milvusdm.sources.faiss.index_type import choose_metric, index_type
from airflow_provider_milvusdm.sources.faiss.segment import FaissOptions, FaissSegment
from airflow_provider_milvusdm.sources.row_numbers import check_row_numbers, numbered_segment
from airflow_provider_milvusdm.storage.file_version import version_of
from airflow_provider_milvusdm.storage.files import refuse_unreadable


@refuse_unreadable()
def inspect_faiss(
    path: Path,
    *,
    name: str,
    partition: str = DEFAULT_PARTITION,
    dimension: int | None = None,
    metric: Metric | None = None,
    options: FaissOptions | None = None,
    id_offset: int = 0,
    unit_bytes: int,
    max_tasks: int,
) -> list[PartitionGroup]:
    """One group to resolve: collection ``name`` with all rows of the index.

    ``dimension`` is checked against the index. Without a ``metric``, the index's metric is used. ``id_offset`` is the
    id of the first row if the index has no ids. The options in the group's source say where the ids come from. Raises
    SourceError or ConfigurationError.
    """
    path, options = path.absolute(), options or FaissOptions()
    segment = FaissSegment(path, options)
    has_ids, rows = segment.rows.has_ids, segment.stored_rows
    _check_dimension(segment, dimension)
    chosen, metric_note = choose_metric(segment.file.index, metric)
    collection = CollectionSpec(name, segment.rows.dimension, chosen, *index_type(segment.file.index))
    decided = replace(options, ids="index") if has_ids else options
    if not has_ids:
        check_row_numbers(id_offset, rows)
    segment_name = path.name if has_ids else numbered_segment(path.name, id_offset)
    file = SegmentSpec(segment_name, rows, version_of(segment.files))
    notes = (metric_note, *segment.rows.notes, *segment.rows.losses, _ids_note(options, has_ids, id_offset))
    return [
        PartitionGroup(
            name=name,
            source=SourceRef("faiss", str(path.parent), decided.as_manifest()),
            collection=collection,
            partitions=(PartitionSpec(partition, (file,), first_key=id_offset),),
            unit_bytes=unit_bytes_within(rows * collection.vector_bytes, 1, max_tasks, unit_bytes),
            notes=tuple(note for note in notes if note),
        )
    ]


def _check_dimension(segment: FaissSegment, dimension: int | None) -> None:
    if dimension not in (None, segment.rows.dimension):
        raise ConfigurationError(
            "the dimension is not that of the index",
            where=segment.file.path,
            expected=f"dimension {dimension}, as collection_parameter says",
            found=segment.rows.dimension,
            cure="Correct or remove the dimension; the dimension of binary vectors is their number of bits.",
        )


def _ids_note(options: FaissOptions, has_ids: bool, id_offset: int) -> str:
    if not has_ids:
        origin = "the target generates them" if options.ids == "auto" else f"rows are numbered from {id_offset}"
        return f"ids: the index has none: {origin}"
    ignored = [name for name, given in (("auto", options.ids == "auto"), ("id_offset", id_offset)) if given]
    return f"ids: the ids in the index are kept ({' and '.join(ignored)} is for rows without ids)" if ignored else ""
