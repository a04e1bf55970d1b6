"""Rows that share an id: Milvus 1.x never checked ids, in Milvus 2.x they are primary keys.

One row of each id is kept, the first or the last, and the others are compared with it: their rows are read one batch
after another, and only of the kept rows the vectors' digests are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.mask import Mask, is_among
from airflow_provider_milvusdm.rows.live_rows import Ids, LiveRows
from airflow_provider_milvusdm.rows.rows_at import DIGEST, digests_of, read_rows_at


@dataclass(frozen=True)
class SharingRows:
    """Rows of one segment with ids that other rows have, too; arrays have shape (rows,)."""

    rows: LiveRows
    offsets: Ids
    """Numbers of the rows, ascending."""
    places: npt.NDArray[np.intp]
    """Where their ids are among the shared ids."""
    digests: npt.NDArray[np.void]
    """Of their vectors."""


@dataclass(frozen=True)
class OtherRows:
    """Rows of one segment that are not the kept rows of their ids; arrays have shape (rows,)."""

    rows: LiveRows
    offsets: Ids
    """Numbers of the rows, ascending."""
    places: npt.NDArray[np.intp]
    """Where their ids are among the shared ids."""
    elsewhere: Mask
    """Which are in another partition than the kept row."""
    different: Mask
    """Which are in another partition, or have another vector."""


def find_sharing_rows(
    rows_by_segment: Sequence[LiveRows], shared: Ids, *, only_finite: bool, backwards: bool = False
) -> Iterator[SharingRows]:
    """The rows with one of the ids in ``shared``, int64 of shape (n,), sorted; in order, or the last batches first.

    :param only_finite: pass over rows whose vectors hold NaN or infinity.
    """
    first, last = int(shared[0]), int(shared[-1])
    for rows in reversed(rows_by_segment) if backwards else rows_by_segment:
        if not rows.may_hold(first, last):
            continue
        for offsets, ids in rows.batches(backwards=backwards):
            is_shared = is_among(ids, shared)
            if is_shared.any():
                yield _read_digests(rows, offsets[is_shared], np.searchsorted(shared, ids[is_shared]), only_finite)


def _read_digests(rows: LiveRows, offsets: Ids, places: npt.NDArray[np.intp], only_finite: bool) -> SharingRows:
    digests, valid = np.empty(len(offsets), DIGEST), np.ones(len(offsets), np.bool_)
    for first, last, batch in read_rows_at(rows.segment, offsets, rows.batch_rows):
        digests[first:last] = digests_of(batch)
        if only_finite:
            valid[first:last] = np.isfinite(batch.vectors).all(axis=1)
    return SharingRows(rows, offsets[valid], places[valid], digests[valid])


class KeptRows:
    """Of each shared id, the row that comes first in the order in which rows are added.

    :param count: number of shared ids.
    :param backwards: the rows are added in reverse, so that the last ones are kept.
    """

    def __init__(self, count: int, tags: Sequence[str], *, backwards: bool) -> None:
        self._numbers = {tag: number for number, tag in enumerate(dict.fromkeys(tags))}
        self._digests, self._partitions = np.empty(count, DIGEST), np.full(count, -1, np.int32)
        self._backwards = backwards

    def others(self, found: SharingRows) -> OtherRows:
        """Those of the rows that are not kept."""
        partition, kept = self._numbers[found.rows.tag], self._keep(found)
        offsets, places, digests = found.offsets[~kept], found.places[~kept], found.digests[~kept]
        elsewhere = self._partitions[places] != partition
        return OtherRows(found.rows, offsets, places, elsewhere, elsewhere | (digests != self._digests[places]))

    def _keep(self, found: SharingRows) -> Mask:
        """Keep the rows whose ids have no row yet: which they are, shape (rows,)."""
        order = slice(None, None, -1 if self._backwards else 1)
        _, firsts = np.unique(found.places[order], return_index=True)
        is_first = np.zeros(len(found.places), np.bool_)
        is_first[order][firsts] = True
        kept = is_first & (self._partitions[found.places] < 0)
        self._digests[found.places[kept]] = found.digests[kept]
        self._partitions[found.places[kept]] = self._numbers[found.rows.tag]
        return kept
