"""Ids on rows of several partitions of a collection: of the whole of it, Milvus 2.x returns one row of each id.

No resolve task sees all partitions, so this is looked for once all are resolved: where their ranges of ids overlap, the
ids are read again. A window of them is held at a time; of those that are shared, the vectors are read.
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
from airflow_provider_milvusdm.rows.duplicates import DIGEST, among, digests_at, repeated
from airflow_provider_milvusdm.rows.live_rows import Ids
from airflow_provider_milvusdm.rows.reader import segment_keys
from airflow_provider_milvusdm.sources.base import Segment
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.file_version import refuse_changed

WINDOW_IDS = 6 << 20
"""There is room for two windows: 100 MB, and as much again while the ids that are shared are sorted out."""
COMPARED_IDS = 2 << 20
DIGESTS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class IdsAcross:
    """Ids that stand on rows of several partitions, in their order."""

    ids: Ids
    different: Mask
    """Which of them stand on rows with different vectors."""


@dataclass(frozen=True)
class _Rows:
    """A slice, opened."""

    segment: Segment
    piece: Slice
    batch_rows: int

    def ids(self) -> Iterator[tuple[Ids, Ids]]:
        """Offsets in the slice, and ids."""
        return segment_keys(self.segment, self.piece)

    def digests(self, offsets: Ids) -> np.ndarray:
        """Digests of the vectors at these offsets."""
        refuse_changed(self.segment.files, self.piece)
        return digests_at(self.segment, offsets + self.piece.start, self.batch_rows)


def find_ids_across(units: Sequence[LoadUnit], partitions: Iterable[ResolvedPartition]) -> Iterator[IdsAcross]:
    """The ids that several of these partitions share, in their order, some millions at a time.

    ``units``: those that their rows are in. Nothing is read of a partition whose range of ids meets no other's.
    """
    id_ranges = {partition.tag: partition.id_range for partition in partitions if partition.id_range}
    bounds = shared_bounds(id_ranges.values())
    read = partial(_rows, units, {tag for tag, found in id_ranges.items() if _meets(bounds, *found)})
    for window in _windows(read, bounds, WINDOW_IDS) if len(bounds) else ():
        shared = repeated(window)
        for start, stop in ranges(0, len(shared), COMPARED_IDS):
            some = shared[start:stop]
            yield IdsAcross(some, _different(read(), some))


def partitions_with(units: Sequence[LoadUnit], partitions: Iterable[ResolvedPartition], row_id: int) -> list[str]:
    """Those of the partitions in which a row has this id."""
    tags = [some.tag for some in partitions if some.id_range and some.id_range[0] <= row_id <= some.id_range[1]]
    found = [rows.piece.partition for rows in _rows(units, tags) for _, ids in rows.ids() if row_id in ids]
    return list(dict.fromkeys(found))


def shared_bounds(id_ranges: Iterable[tuple[int, int]]) -> Ids:
    """Of the ids that are within several of these ranges: the first, the one behind the last, the first again …"""
    id_ranges = list(id_ranges)
    steps = sorted([(first, 1) for first, _ in id_ranges] + [(last + 1, -1) for _, last in id_ranges])
    bounds, depth = [], 0
    for bound, step in steps:
        if {depth, depth + step} == {1, 2}:
            bounds.append(bound)
        depth += step
    return np.array(bounds, np.int64)


def _meets(bounds: Ids, first: int, last: int) -> bool:
    """Whether a range has ids that are within several."""
    before, until = np.searchsorted(bounds, (first, last), "right")
    return bool(before % 2 or until > before)


def _windows(read: Callable[[], Iterable[_Rows]], bounds: Ids, most: int) -> Iterator[Ids]:
    """All ids within the bounds in their order, in arrays of about ``most`` to twice as many.

    Each is read for anew, and overwritten by the next. No id stands on ``most`` rows, no batch has more.
    """
    held = np.empty(2 * most, np.int64)
    low, end = int(bounds[0]), int(bounds[-1])
    while low < end:
        filled, high = 0, end
        for rows in read():
            for _, ids in rows.ids():
                ids = _within(ids, low, high, bounds)
                if filled + len(ids) > len(held):
                    filled, high = _keep_lowest(held[:filled], most)
                    ids = ids[ids < high]
                held[filled : filled + len(ids)] = ids
                filled += len(ids)
        held[:filled].sort()
        yield held[:filled]
        low = high


def _within(ids: Ids, low: int, high: int, bounds: Ids) -> Ids:
    """Those from ``low`` to below ``high`` that are within the bounds, too."""
    ids = ids[(ids >= low) & (ids < high)]
    return ids if len(bounds) == 2 else ids[np.searchsorted(bounds, ids, "right") % 2 == 1]


def _keep_lowest(ids: Ids, most: int) -> tuple[int, int]:
    """Bring the lowest ids, about ``most`` of them, to the front: how many those are, and the lowest of the others."""
    ids.partition(most)
    high = ids[most]
    lower = ids[:most][ids[:most] < high]
    ids[: len(lower)] = lower
    return len(lower), int(high)


def _rows(units: Iterable[LoadUnit], tags: Collection[str]) -> Iterator[_Rows]:
    for unit in units:
        source, batch_rows = open_source(unit.source), min(rows_within(unit.collection), DIGESTS_AT_ONCE)
        for piece in unit.slices:
            if piece.partition in tags:
                yield _Rows(source.segment(unit.collection, piece.segment), piece, batch_rows)


def _different(read: Iterable[_Rows], shared: Ids) -> Mask:
    """Which of ``shared`` have several vectors. No two rows of a partition share an id."""
    first, seen, different = np.empty(len(shared), DIGEST), np.zeros(len(shared), bool), np.zeros(len(shared), bool)
    for rows in read:
        for offsets, ids in rows.ids():
            chosen = among(shared, ids)
            if not chosen.any():
                continue
            places, digests = np.searchsorted(shared, ids[chosen]), rows.digests(offsets[chosen])
            again, new = seen[places], ~seen[places]
            different[places[again]] |= digests[again] != first[places[again]]
            first[places[new]], seen[places] = digests[new], True
    return different
