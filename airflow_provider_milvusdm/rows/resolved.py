"""What was resolved becomes manifests: partitions, and the load units that their rows are cut into."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from airflow_provider_milvusdm.manifests import PartitionGroup, ResolvedGroup, ResolvedPartition, ResolvedSlice
from airflow_provider_milvusdm.model.collections import CollectionSpec, PartitionSpec, Slice
from airflow_provider_milvusdm.model.mask import RowMask, to_text
from airflow_provider_milvusdm.model.units import LoadUnit, cut_units, unit_rows
from airflow_provider_milvusdm.rows.key_ranges import KeyRanges
from airflow_provider_milvusdm.rows.live_rows import NO_IDS


@dataclass
class PartitionRows:
    """All rows of a partition, once they are resolved."""

    spec: PartitionSpec
    segments: Sequence[ResolvedSlice]
    """All rows of each segment, in order."""
    excluded: Mapping[str, RowMask]
    """By segment, if any of its rows are."""
    key_ranges: KeyRanges
    id_range: tuple[int, int]
    """The lowest and the highest id, duplicates included."""
    notes: Sequence[str]
    unsaved: int = 0
    """Rows with invalid vectors that are in no file."""

    @property
    def deleted_rows(self) -> int:
        return sum(segment.deleted_rows for segment in self.segments)

    @property
    def live_rows(self) -> int:
        return sum(segment.row_slice.stored_rows for segment in self.segments) - self.deleted_rows

    def manifest(self, *, own_key_space: bool) -> ResolvedPartition:
        """``own_key_space``: its ids need not be unique in other partitions."""
        digest = hashlib.blake2b(self.spec.tag.encode(), digest_size=16)
        for segment in self.segments:
            row_slice = segment.row_slice
            mask = self.excluded.get(row_slice.segment)
            digest.update(bytes.fromhex(segment.fingerprint))
            digest.update(f"{mask.to_text() if mask else ''} {row_slice.first_key} {segment.checksum}".encode())
        return ResolvedPartition(
            self.spec.tag,
            self.live_rows,
            self.deleted_rows,
            digest.hexdigest(),
            excluded=sum(mask.count() for mask in self.excluded.values()),
            unsaved=self.unsaved,
            notes=(*self.notes, *self._list_log_notes()),
            id_range=self.id_range if own_key_space and self.id_range != NO_IDS else None,
            key_ranges=self.key_ranges.to_text(),
        )

    def _list_log_notes(self) -> Iterator[str]:
        inserted, deleted = self.spec.replayed_rows, sum(segment.replayed_deletes for segment in self.segments)
        if inserted or deleted:
            yield f"partition {self.spec.tag!r}: {inserted} rows inserted and {deleted} deleted by the server's log"


def resolved_group(
    group: PartitionGroup, collection: CollectionSpec, partitions: Sequence[PartitionRows], duplicate_ids: str
) -> ResolvedGroup:
    """The manifest of a group whose rows are all resolved, with its load units."""
    own_key_space = not group.one_key_space or len(partitions) == 1
    return ResolvedGroup(
        group.name,
        tuple(partition.manifest(own_key_space=own_key_space) for partition in partitions),
        tuple(_cut_units(group, collection, partitions)),
        duplicate_ids == "remap",
        duplicate_ids,
    )


def _cut_units(
    group: PartitionGroup, collection: CollectionSpec, partitions: Sequence[PartitionRows]
) -> Iterator[LoadUnit]:
    excluded = {name: mask for partition in partitions for name, mask in partition.excluded.items()}
    slices = [segment.row_slice for partition in partitions for segment in partition.segments]
    live_rows = sum(partition.live_rows for partition in partitions)
    stored_rows = sum(row_slice.stored_rows for row_slice in slices)
    capacity = unit_rows(group.unit_bytes, collection.vector_bytes, live_rows, stored_rows)
    for unit in cut_units(slices, capacity):
        slices_of_unit = tuple(_with_excluded(row_slice, excluded.get(row_slice.segment)) for row_slice in unit)
        yield LoadUnit(group.source, collection, slices_of_unit)


def _with_excluded(row_slice: Slice, mask: RowMask | None) -> Slice:
    if mask is None:
        return row_slice
    return replace(row_slice, excluded=to_text(mask.part(row_slice.start, row_slice.stop)))
