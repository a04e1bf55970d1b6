"""Resolve a share of a large partition: the vectors of some of its rows, and the duplicates of a range of ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from airflow_provider_milvusdm.exceptions import ChangedSourceError
from airflow_provider_milvusdm.manifests import DuplicateCounts, PartitionGroup, ResolvedGroup, ResolvedShare
from airflow_provider_milvusdm.model.collections import CollectionSpec, Slice
from airflow_provider_milvusdm.model.mask import RowMask
from airflow_provider_milvusdm.model.rows import RowPolicies, rows_within
from airflow_provider_milvusdm.model.shares import Share
from airflow_provider_milvusdm.rows.faults import join_faults
from airflow_provider_milvusdm.rows.key_ranges import KeyRanges
from airflow_provider_milvusdm.rows.key_space import KeySpace
from airflow_provider_milvusdm.rows.live_rows import LiveRows, join_ranges
from airflow_provider_milvusdm.rows.partition import Partition, resolved_slice
from airflow_provider_milvusdm.sources.base import Segment
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.file_version import refuse_changed


def resolve_share(
    group: PartitionGroup, collection: CollectionSpec, share: Share, policies: RowPolicies
) -> ResolvedGroup:
    """Resolve the share of a group. Raises one SourceError that names every fault of the share.

    Raises ChangedSourceError if a segment changed since the partition was divided into shares.
    """
    own_keys = policies.duplicate_ids == "remap"
    segments = _Segments(group, collection, own_keys=own_keys)
    empty_ranges = share.new_key_ranges if own_keys else share.key_ranges
    searched = [segments.open_whole(row_slice) for row_slice in share.searched]
    partitions = {spec.tag: Partition(collection, spec, policies) for spec in group.partitions}
    for tag, text in empty_ranges.items():
        partitions[tag].key_ranges = KeyRanges.from_text(text)
    for rows in searched:
        rows.key_ranges = partitions[rows.tag].key_ranges
    for row_slice in share.slices:
        partitions[row_slice.partition].rows.append(segments.open(row_slice))
    for partition in partitions.values():
        partition.check_vectors(share.number)
    faults = [fault for partition in partitions.values() for fault in partition.faults]
    duplicates = DuplicateCounts()
    if share.ids and not faults:
        key_space = _key_space(group, collection, share.ids, searched, policies)
        duplicates = key_space.resolve()
        faults += key_space.faults()
    segments.refuse_changed()
    if faults:
        raise join_faults(group.name, faults)
    resolved = _resolved(share, list(partitions.values()), searched, duplicates, policies.invalid_vectors)
    return ResolvedGroup(group.name, (), (), own_keys, policies.duplicate_ids, resolved)


class _Segments:
    """The segments that a share reads; each is opened once."""

    def __init__(self, group: PartitionGroup, collection: CollectionSpec, *, own_keys: bool) -> None:
        self._source, self._collection, self._own_keys = open_source(group.source), collection, own_keys
        self._opened: dict[str, tuple[Segment, Slice]] = {}

    def open(self, row_slice: Slice) -> LiveRows:
        """The rows of a slice. Raises ChangedSourceError if the segment is not the one that the slice was made of."""
        if row_slice.segment not in self._opened:
            segment = self._source.segment(self._collection, row_slice.segment)
            refuse_changed(segment.files, row_slice)
            self._opened[row_slice.segment] = segment, row_slice
        segment, _ = self._opened[row_slice.segment]
        if not self._own_keys:
            row_slice = replace(row_slice, first_key=None)
        return LiveRows(row_slice, segment, rows_within(self._collection))

    def open_whole(self, row_slice: Slice) -> LiveRows:
        """As :meth:`open`, for a slice of all rows; the files of a log have no version, but it only grows."""
        rows = self.open(row_slice)
        if rows.segment.stored_rows != row_slice.stop:
            raise ChangedSourceError(
                "a segment has another number of rows than when its partition was divided",
                where=f"collection {self._collection.name!r}, segment {row_slice.segment}",
                expected=f"{row_slice.stop} rows",
                found=rows.segment.stored_rows,
                cure="Stop what writes to the source (a 1.x server, if it still runs), and start a new run.",
            )
        return rows

    def refuse_changed(self) -> None:
        """Raises ChangedSourceError if a segment changed while it was read."""
        for segment, row_slice in self._opened.values():
            refuse_changed(segment.files, row_slice)


def _key_space(
    group: PartitionGroup,
    collection: CollectionSpec,
    ids: tuple[int, int],
    rows: Sequence[LiveRows],
    policies: RowPolicies,
) -> KeySpace:
    tags = [partition.tag for partition in group.partitions]
    only_finite = policies.invalid_vectors == "skip" and not collection.metric.is_binary
    return KeySpace(rows, group.name, tags, policies.duplicate_ids, ids, only_finite=only_finite)


def _resolved(
    share: Share,
    partitions: Sequence[Partition],
    searched: Sequence[LiveRows],
    duplicates: DuplicateCounts,
    invalid_vectors: str,
) -> ResolvedShare:
    own = [rows for partition in partitions for rows in partition.rows]
    return ResolvedShare(
        partition=partitions[0].spec.tag,
        number=share.number,
        count=share.count,
        slices=tuple(resolved_slice(rows) for rows in own),
        excluded={name: mask.to_text() for name, mask in _excluded([*own, *searched]).items()},
        key_ranges={
            partition.spec.tag: partition.key_ranges.to_text()
            for partition in partitions
            if partition.key_ranges.has_changed
        },
        id_range=join_ranges(partition.id_range for partition in partitions),
        duplicates=duplicates,
        skipped=tuple(partition.skipped for partition in partitions if partition.skipped),
        invalid_vectors=invalid_vectors,
    )


def _excluded(rows_by_segment: Iterable[LiveRows]) -> dict[str, RowMask]:
    """By segment: the rows that are excluded."""
    masks: dict[str, RowMask] = {}
    for rows in rows_by_segment:
        if rows.excluded and rows.name in masks:
            masks[rows.name].join(rows.excluded)
        elif rows.excluded:
            masks[rows.name] = rows.excluded
    return masks
