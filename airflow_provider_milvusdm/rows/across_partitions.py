"""Ids that are in several partitions of a collection: Milvus 2.x returns only one row per id from a whole collection.

No resolve task sees all partitions, so these ids are searched for after all partitions are resolved. Where the id
ranges of partitions overlap, the ids are read again, one window of ids at a time; of shared ids, the vectors are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from airflow_provider_milvusdm.manifests import ResolvedPartition
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.mask import Mask, is_among
from airflow_provider_milvusdm.model.rows import ranges, rows_within
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.id_windows import Ids, find_repeated, read_windows
from airflow_provider_milvusdm.rows.live_rows import NO_IDS, join_ranges, range_of
from airflow_provider_milvusdm.rows.reader import segment_keys
from airflow_provider_milvusdm.rows.rows_at import DIGEST, digests_at
from airflow_provider_milvusdm.sources.base import Segment
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.file_version import refuse_changed

WINDOW_IDS = 6 << 20
"""Ids in a window. Memory holds two windows, 100 MB, and as much again while shared ids are found."""
COMPARED_IDS = 2 << 20
DIGESTS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class IdsAcross:
    """Ids that are on rows of several partitions, sorted."""

    ids: Ids
    """Shape (ids,)."""
    different: Mask
    """Which of them are on rows with different vectors: shape (ids,)."""


@dataclass(frozen=True)
class _SliceRows:
    """The rows of a slice whose segment is opened."""

    segment: Segment
    row_slice: Slice
    batch_rows: int

    def ids(self) -> Iterator[tuple[Ids, Ids]]:
        """Offsets in the slice, and ids, in batches: int64 of shape (rows,) each."""
        return segment_keys(self.segment, self.row_slice)

    def digests(self, offsets: Ids) -> np.ndarray:
        """Digests of the vectors at these offsets in the slice, which are sorted: void of shape (rows,)."""
        refuse_changed(self.segment.files, self.row_slice)
        return digests_at(self.segment, offsets + self.row_slice.start, self.batch_rows)


def find_ids_across(units: Sequence[LoadUnit], partitions: Iterable[ResolvedPartition]) -> Iterator[IdsAcross]:
    """The ids that are in several of these partitions, sorted, in batches of up to ``COMPARED_IDS``.

    ``units``: units with all rows of the partitions. A partition whose id range overlaps no other one is not read.
    Raises ChangedSourceError.
    """
    id_ranges = {partition.tag: partition.id_range for partition in partitions if partition.id_range}
    bounds = shared_bounds(id_ranges.values())
    if not len(bounds):
        return
    rows = _Rows(units, {tag for tag, id_range in id_ranges.items() if _overlaps(bounds, *id_range)})

    def read(first: int, last: int) -> Iterator[Ids]:
        return (_within_overlaps(ids, bounds) for ids in rows.read_ids(first, last))

    for window in read_windows(read, int(bounds[0]), int(bounds[-1]) - 1, 2 * WINDOW_IDS):
        shared = find_repeated(window)
        for start, stop in ranges(0, len(shared), COMPARED_IDS):
            ids = shared[start:stop]
            yield IdsAcross(ids, _find_different(rows.open(int(ids[0]), int(ids[-1])), ids))


def partitions_with(units: Sequence[LoadUnit], partitions: Iterable[ResolvedPartition], row_id: int) -> list[str]:
    """Tags of the partitions that have a row with this id."""
    tags = [
        partition.tag
        for partition in partitions
        if partition.id_range and partition.id_range[0] <= row_id <= partition.id_range[1]
    ]
    slices = _Rows(units, tags).open(row_id, row_id)
    found = [rows.row_slice.partition for rows in slices for _, ids in rows.ids() if row_id in ids]
    return list(dict.fromkeys(found))


def shared_bounds(id_ranges: Iterable[tuple[int, int]]) -> Ids:
    """Where the given ranges (first, last) overlap: int64 of shape (2 n,).

    The values alternate: the first id of an overlap, the id after its last one, the first id of the next overlap, …
    """
    id_ranges = list(id_ranges)
    steps = sorted([(first, 1) for first, _ in id_ranges] + [(last + 1, -1) for _, last in id_ranges])
    bounds, depth = [], 0
    for bound, step in steps:
        if {depth, depth + step} == {1, 2}:
            bounds.append(bound)
        depth += step
    return np.array(bounds, np.int64)


def _overlaps(bounds: Ids, first: int, last: int) -> bool:
    """Whether a range of ids has ids in an overlap."""
    before, until = np.searchsorted(bounds, (first, last), "right")
    return bool(before % 2 or until > before)


def _within_overlaps(ids: Ids, bounds: Ids) -> Ids:
    """The ids that are in overlaps: shape (n,)."""
    return ids if len(bounds) == 2 else ids[np.searchsorted(bounds, ids, "right") % 2 == 1]


class _Rows:
    """The rows of these partitions. A slice is not opened again for ids that it was found not to have."""

    def __init__(self, units: Iterable[LoadUnit], tags: Collection[str]) -> None:
        self._slices = [(unit, row_slice) for unit in units for row_slice in unit.slices if row_slice.partition in tags]
        self._id_ranges: list[tuple[int, int] | None] = [None] * len(self._slices)

    def open(self, first: int, last: int) -> Iterator[_SliceRows]:
        """The slices that may have ids from ``first`` to ``last``, opened one after another."""
        return (rows for _, rows in self._open(first, last))

    def read_ids(self, first: int, last: int) -> Iterator[Ids]:
        """The ids from ``first`` to ``last``, in batches: shape (rows,)."""
        for number, rows in self._open(first, last):
            found = NO_IDS
            for _, ids in rows.ids():
                found = join_ranges([found, range_of(ids)])
                yield ids[(first <= ids) & (ids <= last)]
            self._id_ranges[number] = found

    def _open(self, first: int, last: int) -> Iterator[tuple[int, _SliceRows]]:
        for number, (unit, row_slice) in enumerate(self._slices):
            lowest, highest = self._id_ranges[number] or (first, last)
            if lowest <= last and first <= highest:
                batch_rows = min(rows_within(unit.collection), DIGESTS_AT_ONCE)
                segment = open_source(unit.source).segment(unit.collection, row_slice.segment)
                yield number, _SliceRows(segment, row_slice, batch_rows)


def _find_different(slices: Iterable[_SliceRows], shared: Ids) -> Mask:
    """Which of the sorted ids in ``shared`` have different vectors: bool of shape (ids,).

    Inside a partition, each id is on one row only.
    """
    first, seen, different = np.empty(len(shared), DIGEST), np.zeros(len(shared), bool), np.zeros(len(shared), bool)
    for rows in slices:
        for offsets, ids in rows.ids():
            is_shared = is_among(ids, shared)
            if not is_shared.any():
                continue
            places, digests = np.searchsorted(shared, ids[is_shared]), rows.digests(offsets[is_shared])
            again, new = seen[places], ~seen[places]
            different[places[again]] |= digests[again] != first[places[again]]
            first[places[new]], seen[places] = digests[new], True
    return different
