"""Resolve: open every segment, check it, read the ids, look for rows that Milvus 2.x can't hold.

Whatever is wrong with the rows of a source is found here, before the target is touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, SourceError
from airflow_provider_milvusdm.sources import open_source, refuse_unreadable
from airflow_provider_milvusdm.sources.units import cut_units, unit_rows
from airflow_provider_milvusdm.vectors import (
    CollectionSpec,
    LoadUnit,
    PartitionGroup,
    PartitionSpec,
    ResolvedGroup,
    ResolvedPartition,
    Segment,
    SegmentSpec,
    Slice,
    Source,
    ranges,
)

CHECKED_BYTES = 8 << 20
EXAMPLES = 20
UNREADABLE_ID = 2**63 - 1
"""A Milvus 2.x server stores and counts a row with this id and never returns it."""


@refuse_unreadable()
def resolve_group(group: PartitionGroup) -> ResolvedGroup:
    """Resolve all partitions of a group, or raise one error that names every fault found."""
    if group.collection is None:
        raise SourceError(group.error)
    source = open_source(group.source)
    partitions = [_Partition(source, group.collection, spec) for spec in group.partitions]
    resolved = tuple(partition.resolve() for partition in partitions)
    faults = [fault for partition in partitions for fault in partition.faults]
    if faults:
        raise _joined(group.name, faults)
    slices = [piece for partition in partitions for piece in partition.slices]
    live, stored = sum(one.live_rows for one in resolved), sum(piece.stored_rows for piece in slices)
    capacity = unit_rows(group.unit_bytes, group.collection.vector_bytes, live, stored)
    units = (LoadUnit(group.source, group.collection, unit) for unit in cut_units(slices, capacity))
    return ResolvedGroup(group.name, resolved, tuple(units))


def _joined(name: str, faults: Sequence[SourceError]) -> SourceError:
    if len(faults) == 1:
        return faults[0]
    listed = [f"- {fault}" for fault in faults[:EXAMPLES]]
    if len(faults) > EXAMPLES:
        listed.append(f"- and {len(faults) - EXAMPLES} more")
    return SourceError(f"{len(faults)} faults in collection {name!r}:\n" + "\n".join(listed))


class _Partition:
    """One partition being resolved."""

    def __init__(self, source: Source, collection: CollectionSpec, spec: PartitionSpec) -> None:
        self.source, self.collection, self.spec = source, collection, spec
        self.slices: list[Slice] = []
        self.faults: list[SourceError] = []
        self.deleted_rows = 0
        self.digest = hashlib.blake2b(spec.tag.encode(), digest_size=16)

    def resolve(self) -> ResolvedPartition:
        """The partition; worth nothing where there are ``faults`` afterwards."""
        for spec in self.spec.segments:
            try:
                self._resolve_segment(spec)
            except SourceError as fault:
                self.faults.append(fault)
        if not self.faults:
            self.faults += self._id_faults()
        return ResolvedPartition(self.spec.tag, self.spec.live_rows, self.deleted_rows, self.digest.hexdigest())

    def _resolve_segment(self, spec: SegmentSpec) -> None:
        segment = self.source.segment(self.collection, spec.name)
        self._check(spec, segment)
        self.slices.append(Slice(self.spec.tag, spec.name, 0, segment.stored_rows))
        self.deleted_rows += segment.deleted_rows
        self.digest.update(segment.fingerprint())

    def _segments(self) -> Iterator[tuple[SegmentSpec, Segment]]:
        for spec in self.spec.segments:
            yield spec, self.source.segment(self.collection, spec.name)

    def _check(self, spec: SegmentSpec, segment: Segment) -> None:
        live = segment.stored_rows - segment.deleted_rows
        if live != spec.live_rows:
            raise DamagedSourceError(
                "a segment does not hold the rows that it was said to",
                where=f"collection {self.collection.name!r}, segment {spec.name}",
                expected=f"row_count {spec.live_rows}",
                found=f"{segment.stored_rows} ids, {segment.deleted_rows} deleted: {live} live rows",
                cure="The server may have been writing while the directory was copied: stop it and copy again, "
                "or restore a backup.",
            )
        if not self.collection.metric.is_binary:
            self._check_finite(spec, segment)

    def _check_finite(self, spec: SegmentSpec, segment: Segment) -> None:
        rows = max(CHECKED_BYTES // self.collection.vector_bytes, 1)
        bad, count = np.empty(0, np.int64), 0
        for start, stop in ranges(0, segment.stored_rows, rows):
            batch = segment.read(start, stop)
            if not np.isfinite(batch.vectors).all():
                found = batch.ids[~np.isfinite(batch.vectors).all(axis=1)]
                bad, count = np.append(bad, found)[:EXAMPLES], count + len(found)
        if count:
            raise RefusedRowsError(
                f"{count} vectors of collection {self.collection.name!r} hold NaN or infinity",
                where=f"partition {self.spec.tag!r}, segment {spec.name}",
                expected="finite float32 numbers: Milvus 2.x refuses others",
                found=f"ids {_examples(bad, count)}",
                cure="Delete these rows in the source, or leave their partition or file out.",
            )

    def _id_faults(self) -> Iterator[SourceError]:
        ids = self._ids()
        ids.sort()
        repeated = np.unique(ids[1:][ids[1:] == ids[:-1]])
        if repeated.size:
            yield RefusedRowsError(
                f"{repeated.size} ids stand on more than one row in partition {self.spec.tag!r} "
                f"of collection {self.collection.name!r}",
                where=f"id {repeated[0]} in segments {', '.join(self._segments_with(repeated[0]))}",
                expected="one row an id: it is the primary key in Milvus 2.x, which serves one row of each",
                found=f"ids {_examples(repeated, repeated.size)}",
                cure="Delete all rows but one of each in the source. (duplicate_ids: error)",
            )
        if ids.size and ids[-1] == UNREADABLE_ID:
            yield RefusedRowsError(
                f"an id that Milvus 2.x can't return in partition {self.spec.tag!r} "
                f"of collection {self.collection.name!r}",
                where=f"segments {', '.join(self._segments_with(ids[-1]))}",
                expected="ids up to 2^63 - 2: a Milvus 2.x server stores the last one and never returns it",
                found=f"id {UNREADABLE_ID}",
                cure="Give the row another id in the source.",
            )

    def _ids(self) -> npt.NDArray[np.int64]:
        """All live ids, 8 bytes a row: filled in place, for a partition may have 100 million."""
        ids = np.empty(self.spec.live_rows, np.int64)
        filled = 0
        for spec, segment in self._segments():
            ids[filled : filled + spec.live_rows] = segment.ids()
            filled += spec.live_rows
        return ids

    def _segments_with(self, row_id: np.int64) -> list[str]:
        found = ((spec.name, int((segment.ids() == row_id).sum())) for spec, segment in self._segments())
        return [f"{name} ({count} times)" if count > 1 else name for name, count in found if count]


def _examples(ids: npt.NDArray[np.int64], count: int) -> str:
    more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
    return ", ".join(map(str, ids[:EXAMPLES].tolist())) + more
