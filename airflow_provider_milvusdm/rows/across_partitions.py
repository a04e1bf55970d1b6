"""Ids that are in several partitions of a collection: Milvus 2.x returns only one row per id from a whole collection.

No resolve task sees all partitions, so these ids are searched for after all partitions are resolved. Where the id
ranges of partitions overlap, the ids are read again, one window of ids at a time; of shared ids, the vectors are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from airflow_provider_milvusdm.manifests import ResolvedPartition
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.mask import Mask
from airflow_provider_milvusdm.model.rows import ranges, rows_within
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.duplicates import DIGEST, among, digests_at, find_repeated
from airflow_provider_milvusdm.rows.live_rows import Ids
from airflow_provider_milvusdm.rows.reader import segment_keys
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
    read = partial(_open_slices, units, {tag for tag, id_range in id_ranges.items() if _overlaps(bounds, *id_range)})
    for window in _read_windows(read, bounds, WINDOW_IDS) if len(bounds) else ():
        shared = find_repeated(window)
        for start, stop in ranges(0, len(shared), COMPARED_IDS):
            ids = shared[start:stop]
            yield IdsAcross(ids, _find_different(read(), ids))


def partitions_with(units: Sequence[LoadUnit], partitions: Iterable[ResolvedPartition], row_id: int) -> list[str]:
    """Tags of the partitions that have a row with this id."""
    tags = [
        partition.tag
        for partition in partitions
        if partition.id_range and partition.id_range[0] <= row_id <= partition.id_range[1]
    ]
    found = [rows.row_slice.partition for rows in _open_slices(units, tags) for _, ids in rows.ids() if row_id in ids]
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


def _read_windows(read: Callable[[], Iterable[_SliceRows]], bounds: Ids, window_ids: int) -> Iterator[Ids]:
    """All ids in overlaps, sorted, in windows of about ``window_ids`` to twice as many: int64 of shape (ids,).

    All rows are read again for each window, and a window is overwritten by the next one. No id may be on as many as
    ``window_ids`` rows, and no batch may have more rows.
    """
    held = np.empty(2 * window_ids, np.int64)
    low, end = int(bounds[0]), int(bounds[-1])
    while low < end:
        filled, high = 0, end
        for rows in read():
            for _, ids in rows.ids():
                ids = _within(ids, low, high, bounds)
                if filled + len(ids) > len(held):
                    filled, high = _keep_lowest(held[:filled], window_ids)
                    ids = ids[ids < high]
                held[filled : filled + len(ids)] = ids
                filled += len(ids)
        held[:filled].sort()
        yield held[:filled]
        low = high


def _within(ids: Ids, low: int, high: int, bounds: Ids) -> Ids:
    """The ids in overlaps from ``low`` to below ``high``: shape (n,)."""
    ids = ids[(ids >= low) & (ids < high)]
    return ids if len(bounds) == 2 else ids[np.searchsorted(bounds, ids, "right") % 2 == 1]


def _keep_lowest(ids: Ids, count: int) -> tuple[int, int]:
    """Move the lowest ids, about ``count``, to the front; returns their number, and the lowest of the other ids."""
    ids.partition(count)
    high = ids[count]
    lower = ids[:count][ids[:count] < high]
    ids[: len(lower)] = lower
    return len(lower), int(high)


def _open_slices(units: Iterable[LoadUnit], tags: Collection[str]) -> Iterator[_SliceRows]:
    """The slices of these partitions, opened one after another."""
    for unit in units:
        source, batch_rows = open_source(unit.source), min(rows_within(unit.collection), DIGESTS_AT_ONCE)
        for row_slice in unit.slices:
            if row_slice.partition in tags:
                yield _SliceRows(source.segment(unit.collection, row_slice.segment), row_slice, batch_rows)


def _find_different(slices: Iterable[_SliceRows], shared: Ids) -> Mask:
    """Which of the sorted ids in ``shared`` have different vectors: bool of shape (ids,).

    Inside a partition, each id is on one row only.
    """
    first, seen, different = np.empty(len(shared), DIGEST), np.zeros(len(shared), bool), np.zeros(len(shared), bool)
    for rows in slices:
        for offsets, ids in rows.ids():
            is_shared = among(shared, ids)
            if not is_shared.any():
                continue
            places, digests = np.searchsorted(shared, ids[is_shared]), rows.digests(offsets[is_shared])
            again, new = seen[places], ~seen[places]
            different[places[again]] |= digests[again] != first[places[again]]
            first[places[new]], seen[places] = digests[new], True
    return different
