"""Resolve: open every segment, check it, read it once, look for rows that Milvus 2.x can't hold.

Whatever is wrong with the rows of a source is found here, before the target is touched, or a policy leaves it out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, SourceError
from airflow_provider_milvusdm.sources import open_source, refuse_unreadable
from airflow_provider_milvusdm.sources.duplicates import SharedIds, find_shared_ids, repeated, sorted_ids
from airflow_provider_milvusdm.sources.invalid_vectors import find_invalid, skipped_rows
from airflow_provider_milvusdm.sources.live_rows import LiveRows
from airflow_provider_milvusdm.sources.read import rows_within
from airflow_provider_milvusdm.sources.units import cut_units, unit_rows
from airflow_provider_milvusdm.vectors import (
    CollectionSpec,
    LoadUnit,
    PartitionGroup,
    PartitionSpec,
    ResolvedGroup,
    ResolvedPartition,
    RowPolicies,
    Segment,
    SegmentSpec,
    Slice,
    Source,
)

EXAMPLES = 20
UNREADABLE_ID = 2**63 - 1
"""A Milvus 2.x server stores and counts a row with this id and never returns it."""
CHOICES = (
    "Choose duplicate_ids: keep_first or keep_last (one row of each id is loaded) or remap (each row gets a key of its "
    "own, and its id goes to the field source_id), or delete all but one of each in the source."
)


@refuse_unreadable()
def resolve_group(group: PartitionGroup, policies: RowPolicies | None = None) -> ResolvedGroup:
    """Resolve all partitions of a group, or raise one error that names every fault found."""
    if group.collection is None:
        raise SourceError(group.error)
    policies, source = policies or RowPolicies(), open_source(group.source)
    partitions = [_Partition(source, group.collection, spec, policies) for spec in group.partitions]
    for partition in partitions:
        partition.open()
    for space in [partitions] if group.one_key_space else [[partition] for partition in partitions]:
        if not any(partition.faults for partition in space):
            _KeySpace(space, group.collection.name, policies).resolve()
    faults = [fault for partition in partitions for fault in partition.faults]
    if faults:
        raise _joined(group.name, faults)
    resolved, units = tuple(one.resolved() for one in partitions), tuple(_units(group, partitions))
    own_keys = policies.duplicate_ids == "remap"
    return ResolvedGroup(group.name, resolved, units, own_keys, policies.duplicate_ids)


def _units(group: PartitionGroup, partitions: Sequence[_Partition]) -> Iterator[LoadUnit]:
    collection = group.collection
    if collection is None:
        return
    rows = {some.name: some for partition in partitions for some in partition.rows}
    slices = [piece for partition in partitions for piece in partition.slices()]
    live, stored = sum(one.live_rows for one in partitions), sum(piece.stored_rows for piece in slices)
    capacity = unit_rows(group.unit_bytes, collection.vector_bytes, live, stored)
    for unit in cut_units(slices, capacity):
        pieces = tuple(replace(piece, left_out=rows[piece.segment].left_out(piece)) for piece in unit)
        yield LoadUnit(group.source, collection, pieces)


def _joined(name: str, faults: Sequence[SourceError]) -> SourceError:
    if len(faults) == 1:
        return faults[0]
    listed = [f"- {fault}" for fault in faults[:EXAMPLES]]
    if len(faults) > EXAMPLES:
        listed.append(f"- and {len(faults) - EXAMPLES} more")
    return SourceError(f"{len(faults)} faults in collection {name!r}:\n" + "\n".join(listed))


class _Partition:
    """One partition being resolved; worth nothing where there are ``faults`` afterwards."""

    def __init__(self, source: Source, collection: CollectionSpec, spec: PartitionSpec, policies: RowPolicies) -> None:
        self.source, self.collection, self.spec, self.policies = source, collection, spec, policies
        self.rows: list[LiveRows] = []
        self.faults: list[SourceError] = []
        self.notes: list[str] = []
        self.id_range: tuple[int, int] | None = None

    @property
    def live_rows(self) -> int:
        return sum(some.segment.stored_rows for some in self.rows) - self.deleted_rows

    @property
    def deleted_rows(self) -> int:
        return sum(some.segment.deleted_rows + some.segment.replayed_deletes for some in self.rows)

    def open(self) -> None:
        """Open and check all segments; leave out invalid vectors, if that is the policy."""
        for spec in self.spec.segments:
            try:
                self._open_segment(spec)
            except SourceError as fault:
                self.faults.append(fault)
        if self.policies.invalid_vectors == "skip" and not self.faults:
            self._skip_invalid()

    def _open_segment(self, spec: SegmentSpec) -> None:
        segment = self.source.segment(self.collection, spec.name)
        rows = LiveRows(spec.name, self.spec.tag, segment, rows_within(self.collection))
        self._check_count(spec, segment)
        if self.policies.invalid_vectors == "error":
            self._refuse_invalid(rows)
        self.rows.append(rows)

    def _check_count(self, spec: SegmentSpec, segment: Segment) -> None:
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

    def _refuse_invalid(self, rows: LiveRows) -> None:
        bad, count = np.empty(0, np.int64), 0
        for _, batch in find_invalid(rows):
            bad, count = np.append(bad, batch.ids)[:EXAMPLES], count + len(batch)
        if count:
            raise RefusedRowsError(
                f"{count} vectors of collection {self.collection.name!r} hold NaN or infinity",
                where=f"partition {self.spec.tag!r}, segment {rows.name}",
                expected="finite float32 numbers: Milvus 2.x refuses others",
                found=f"ids {_examples(bad, count)}",
                cure="Delete these rows in the source, or leave them out: invalid_vectors: skip saves them to a file.",
            )

    def _skip_invalid(self) -> None:
        with skipped_rows(self.policies.skipped_rows_dir, self.collection, self.spec.tag) as file:
            for some in self.rows:
                for offsets, batch in find_invalid(some):
                    some.leave_out(offsets)
                    file.add(some.name, offsets, batch)
        if file.rows:
            self.notes.append(f"partition {self.spec.tag!r}: {file.rows} rows with NaN or infinity are in {file.path}")

    def slices(self) -> Iterator[Slice]:
        """All stored rows of the partition, with keys of their own where that is the policy."""
        key = self.spec.first_key if self.policies.duplicate_ids == "remap" else None
        for some in self.rows:
            yield Slice(self.spec.tag, some.name, 0, some.segment.stored_rows, stamp=some.stamp, first_key=key)
            key = None if key is None else key + some.segment.stored_rows

    def _replayed(self) -> Iterator[str]:
        """What a log adds and takes away."""
        inserted, deleted = self.spec.replayed_rows, sum(some.segment.replayed_deletes for some in self.rows)
        if inserted or deleted:
            yield f"partition {self.spec.tag!r}: {inserted} rows inserted and {deleted} deleted by the server's log"

    def resolved(self) -> ResolvedPartition:
        digest = hashlib.blake2b(self.spec.tag.encode(), digest_size=16)
        for some, piece in zip(self.rows, self.slices(), strict=True):
            digest.update(some.segment.fingerprint())
            digest.update(f"{some.left_out(piece)} {piece.first_key} {some.checksum}".encode())
        return ResolvedPartition(
            self.spec.tag,
            self.live_rows,
            self.deleted_rows,
            digest.hexdigest(),
            left_out=sum(some.left_out_rows for some in self.rows),
            notes=(*self.notes, *self._replayed()),
            id_range=self.id_range,
        )


class _KeySpace:
    """Rows that may not share a primary key: a partition's, or those of all that become one."""

    def __init__(self, partitions: Sequence[_Partition], collection: str, policies: RowPolicies) -> None:
        self.partitions, self.collection, self.policy = partitions, collection, policies.duplicate_ids
        self.rows = [some for partition in partitions for some in partition.rows]

    def resolve(self) -> None:
        """Leave rows out, or leave faults with the first partition."""
        ids = sorted_ids(self.rows, sum(partition.live_rows for partition in self.partitions))
        if self.policy != "remap" and ids.size and ids[-1] == UNREADABLE_ID:
            self.partitions[0].faults.append(self._unreadable())
        if ids.size and len(self.partitions) == 1:
            self.partitions[0].id_range = int(ids[0]), int(ids[-1])
        shared = repeated(ids)
        del ids
        if shared.size and self.policy == "remap":
            self._note(f"{shared.size} ids stand on several rows: each row has a key of its own")
        elif shared.size:
            self._leave_out(find_shared_ids(self.rows, shared))

    def _leave_out(self, shared: SharedIds) -> None:
        kept = shared.lasts if self.policy == "keep_last" else shared.firsts
        different = shared.different(kept)
        if different.any() and self.policy == "error":
            self.partitions[0].faults.append(self._duplicates(np.unique(shared.ids[different])))
            return
        for number, offsets in shared.by_segment(~kept):
            self.rows[number].leave_out(offsets)
        if dropped := int(np.count_nonzero(different)):
            elsewhere = int(np.count_nonzero(shared.elsewhere(kept)))
            where = f", for {elsewhere} of them under another tag" if elsewhere else ""
            self._note(
                f"{dropped} rows left out: another row of their id was kept (duplicate_ids: {self.policy}){where}"
            )
        if same := int(np.count_nonzero(~kept & ~different)):
            self._note(f"{same} rows left out that are the same as another, id and vector")

    def _note(self, text: str) -> None:
        partition = self.partitions[0]
        partition.notes.append(text if len(self.partitions) > 1 else f"partition {partition.spec.tag!r}: {text}")

    @property
    def _place(self) -> str:
        partition = f"partition {self.partitions[0].spec.tag!r}" if len(self.partitions) == 1 else "the partitions"
        return f"{partition} of collection {self.collection!r}"

    def _duplicates(self, ids: npt.NDArray[np.int64]) -> RefusedRowsError:
        differing = "vectors" if len(self.partitions) == 1 else "tags or vectors"
        return RefusedRowsError(
            f"{ids.size} ids stand on rows with different {differing} in {self._place}",
            where=f"id {ids[0]} in segments {', '.join(self._segments_with(ids[0]))}",
            expected="one row an id: it is the primary key in Milvus 2.x, which serves one row of each",
            found=f"ids {_examples(ids, ids.size)}",
            cure=CHOICES,
        )

    def _unreadable(self) -> RefusedRowsError:
        return RefusedRowsError(
            f"an id that Milvus 2.x can't return in {self._place}",
            where=f"segments {', '.join(self._segments_with(np.int64(UNREADABLE_ID)))}",
            expected="ids up to 2^63 - 2: a Milvus 2.x server stores the last one and never returns it",
            found=f"id {UNREADABLE_ID}",
            cure="Give the row another id in the source, or all rows keys of their own: duplicate_ids: remap.",
        )

    def _segments_with(self, row_id: np.int64) -> list[str]:
        counts: Counter[str] = Counter()
        for some in self.rows:
            counts[some.name] += sum(int((ids == row_id).sum()) for _, ids in some.batches())
        return [f"{name} ({count} times)" if count > 1 else name for name, count in counts.items() if count]


def _examples(ids: npt.NDArray[np.int64], count: int) -> str:
    more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
    return ", ".join(map(str, ids[:EXAMPLES].tolist())) + more
