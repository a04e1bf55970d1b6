"""Ids that stand on several rows: Milvus 1.x never checked, Milvus 2.x takes an id for a primary key.

Only the ids of all rows are kept in memory, 8 bytes a row; of the rows that share one, their places and a digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.mask import Mask
from airflow_provider_milvusdm.model.rows import ranges
from airflow_provider_milvusdm.rows.live_rows import Ids, LiveRows
from airflow_provider_milvusdm.sources.base import Segment

DIGEST = np.dtype("V16")


@dataclass(frozen=True)
class SharedIds:
    """All rows whose id is on another row too, by id, then in the order of segments and rows; arrays of one length."""

    ids: Ids
    partitions: npt.NDArray[np.int32]
    """Number of the partition."""
    segments: npt.NDArray[np.int32]
    """Number of the segment."""
    offsets: Ids
    digests: npt.NDArray[np.void]
    """Of the vectors."""

    @property
    def firsts(self) -> Mask:
        """Which are the first of their id."""
        return np.append(True, self.ids[1:] != self.ids[:-1])[: len(self.ids)]

    @property
    def lasts(self) -> Mask:
        """Which are the last of their id."""
        return np.append(self.ids[1:] != self.ids[:-1], True)[: len(self.ids)]

    def different(self, kept: Mask) -> Mask:
        """Which have another vector than the row of their id that is kept, or are in another partition."""
        unequal: Mask = self.digests != self._kept(kept, self.digests)
        return unequal | self.elsewhere(kept)

    def elsewhere(self, kept: Mask) -> Mask:
        """Which are in another partition than the row of their id that is kept."""
        unequal: Mask = self.partitions != self._kept(kept, self.partitions)
        return unequal

    def _kept(self, kept: Mask, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """For each row the column's value of the row of its id that is kept."""
        values: npt.NDArray[Any] = column[kept][np.cumsum(self.firsts) - 1]
        return values

    def by_segment(self, chosen: Mask) -> Iterator[tuple[int, Ids]]:
        """Segments with the offsets of the rows chosen."""
        order = np.argsort(self.segments[chosen], kind="stable")
        numbers, starts = np.unique(self.segments[chosen][order], return_index=True)
        offsets = np.split(self.offsets[chosen][order], starts[1:])
        yield from zip(numbers.tolist(), offsets, strict=False)


def sorted_ids(rows: Iterable[LiveRows], most: int) -> Ids:
    """The ids of all rows, ``most`` of them at most: filled in place, for there may be 100 million."""
    ids, filled = np.empty(most, np.int64), 0
    for some in rows:
        for _, batch in some.batches():
            ids[filled : filled + len(batch)] = batch
            filled += len(batch)
    ids = ids[:filled]
    ids.sort()
    return ids


def repeated(ids: Ids) -> Ids:
    """Those of sorted ids that are there more than once, each once."""
    again: Ids = ids[1:][ids[1:] == ids[:-1]]
    first: Mask = np.append(True, again[1:] != again[:-1])[: len(again)]
    return again[first]


def find_shared_ids(rows: Sequence[LiveRows], shared: Ids) -> SharedIds:
    """The rows whose ids are among ``shared``, which are sorted."""
    found = [part for number, some in enumerate(rows) for part in _sharing(number, some, shared)]
    ids, segments, offsets, digests = (np.concatenate(column) for column in zip(*found, strict=True))
    numbers = {tag: number for number, tag in enumerate(dict.fromkeys(some.tag for some in rows))}
    partitions = np.array([numbers[some.tag] for some in rows], np.int32)[segments]
    order = np.argsort(ids, kind="stable")
    return SharedIds(ids[order], partitions[order], segments[order], offsets[order], digests[order])


def _sharing(number: int, rows: LiveRows, shared: Ids) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
    """Ids, number of the segment, offsets and digests of the rows whose id is among ``shared``."""
    for offsets, ids in rows.batches():
        chosen = among(shared, ids)
        if chosen.any():
            places = offsets[chosen]
            digests = digests_at(rows.segment, places, rows.batch_rows)
            yield ids[chosen], np.full(len(places), number, np.int32), places, digests


def among(some: Ids, ids: Ids) -> Mask:
    """Which of ``ids`` are among some, which are sorted, and one at least."""
    found: Mask = some[np.minimum(np.searchsorted(some, ids), len(some) - 1)] == ids
    return found


def digests_at(segment: Segment, offsets: Ids, batch_rows: int) -> npt.NDArray[np.void]:
    """Digests of the vectors of the live rows at ``offsets``, which are in order; so many rows are read at once."""
    digests = np.empty(len(offsets), DIGEST)
    for start, stop in ranges(int(offsets[0]), int(offsets[-1]) + 1, batch_rows):
        first, last = np.searchsorted(offsets, (start, stop))
        if first == last:
            continue
        live = np.flatnonzero(segment.live(start, stop)) + start
        vectors = segment.read(start, stop).vectors[np.searchsorted(live, offsets[first:last])]
        found = [hashlib.blake2b(vector.tobytes(), digest_size=DIGEST.itemsize).digest() for vector in vectors]
        digests[first:last] = np.frombuffer(b"".join(found), DIGEST)
    return digests
