"""Ids that are on several rows: Milvus 1.x never checked them, in Milvus 2.x they are primary keys.

In memory are the ids of all rows, 8 bytes each, and for rows that share an id their places and a digest of the vector.
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
    """The rows whose id is also on another row, sorted by id, then by segment and row; arrays have shape (rows,)."""

    ids: Ids
    partitions: npt.NDArray[np.int32]
    """Numbers of the partitions."""
    segments: npt.NDArray[np.int32]
    """Numbers of the segments."""
    offsets: Ids
    """Numbers of the rows in their segments."""
    digests: npt.NDArray[np.void]
    """Digests of the vectors."""

    @property
    def firsts(self) -> Mask:
        """Which rows are the first with their id."""
        return np.append(True, self.ids[1:] != self.ids[:-1])[: len(self.ids)]

    @property
    def lasts(self) -> Mask:
        """Which rows are the last with their id."""
        return np.append(self.ids[1:] != self.ids[:-1], True)[: len(self.ids)]

    def different(self, kept: Mask) -> Mask:
        """Which rows have another vector, or are in another partition, than the kept row with their id.

        ``kept``: bool of shape (rows,), set for one row of each id.
        """
        unequal: Mask = self.digests != self._values_kept(kept, self.digests)
        return unequal | self.elsewhere(kept)

    def elsewhere(self, kept: Mask) -> Mask:
        """Which rows are in another partition than the kept row with their id."""
        unequal: Mask = self.partitions != self._values_kept(kept, self.partitions)
        return unequal

    def _values_kept(self, kept: Mask, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """For each row, the value that the kept row with the same id has in a column: shape (rows,)."""
        values: npt.NDArray[Any] = column[kept][np.cumsum(self.firsts) - 1]
        return values

    def by_segment(self, mask: Mask) -> Iterator[tuple[int, Ids]]:
        """Number of each segment, and the numbers of its rows that are set in the mask: int64 of shape (n,)."""
        order = np.argsort(self.segments[mask], kind="stable")
        numbers, starts = np.unique(self.segments[mask][order], return_index=True)
        offsets = np.split(self.offsets[mask][order], starts[1:])
        yield from zip(numbers.tolist(), offsets, strict=False)


def sorted_ids(rows_by_segment: Iterable[LiveRows], max_rows: int) -> Ids:
    """The ids of all rows, at most ``max_rows``: int64 of shape (rows,), sorted.

    One array is allocated and filled, because there can be 100 million ids.
    """
    ids, filled = np.empty(max_rows, np.int64), 0
    for rows in rows_by_segment:
        for _, batch in rows.batches():
            ids[filled : filled + len(batch)] = batch
            filled += len(batch)
    ids = ids[:filled]
    ids.sort()
    return ids


def find_repeated(ids: Ids) -> Ids:
    """Which of the sorted ids, shape (rows,), are there more than once: int64 of shape (n,), each once, sorted."""
    again: Ids = ids[1:][ids[1:] == ids[:-1]]
    first: Mask = np.append(True, again[1:] != again[:-1])[: len(again)]
    return again[first]


def find_shared_ids(rows_by_segment: Sequence[LiveRows], shared: Ids) -> SharedIds:
    """The rows with one of the ids in ``shared``, int64 of shape (n,), sorted."""
    batches = [
        batch for number, rows in enumerate(rows_by_segment) for batch in _find_sharing_rows(number, rows, shared)
    ]
    ids, segments, offsets, digests = (np.concatenate(column) for column in zip(*batches, strict=True))
    tags = [rows.tag for rows in rows_by_segment]
    numbers = {tag: number for number, tag in enumerate(dict.fromkeys(tags))}
    partitions = np.array([numbers[tag] for tag in tags], np.int32)[segments]
    order = np.argsort(ids, kind="stable")
    return SharedIds(ids[order], partitions[order], segments[order], offsets[order], digests[order])


def _find_sharing_rows(number: int, rows: LiveRows, shared: Ids) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
    """Ids, number of the segment, numbers of the rows and digests, in batches, for rows with an id in ``shared``."""
    for offsets, ids in rows.batches():
        is_shared = among(shared, ids)
        if is_shared.any():
            places = offsets[is_shared]
            digests = digests_at(rows.segment, places, rows.batch_rows)
            yield ids[is_shared], np.full(len(places), number, np.int32), places, digests


def among(known_ids: Ids, ids: Ids) -> Mask:
    """Which of ``ids`` are in ``known_ids``, which is sorted and not empty: bool of the shape of ``ids``."""
    found: Mask = known_ids[np.minimum(np.searchsorted(known_ids, ids), len(known_ids) - 1)] == ids
    return found


def digests_at(segment: Segment, offsets: Ids, batch_rows: int) -> npt.NDArray[np.void]:
    """Digests of the vectors of live rows, given the rows' numbers, sorted: void of shape (rows,).

    ``batch_rows``: stored rows that are read at once.
    """
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
