"""Rows that may not share a primary key, and the policy for those that do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from airflow_provider_milvusdm.exceptions import RefusedRowsError, SourceError
from airflow_provider_milvusdm.manifests import DuplicateCounts
from airflow_provider_milvusdm.model.mask import RowMask
from airflow_provider_milvusdm.model.rows import HIGHEST_ID, ranges
from airflow_provider_milvusdm.rows.duplicates import KeptRows, OtherRows, find_sharing_rows
from airflow_provider_milvusdm.rows.faults import EXAMPLES, list_ids
from airflow_provider_milvusdm.rows.id_windows import Ids, find_repeated, read_windows
from airflow_provider_milvusdm.rows.key_ranges import HIGHEST_KEY, LOWEST_KEY
from airflow_provider_milvusdm.rows.live_rows import LiveRows

UNREADABLE_ID = HIGHEST_ID + 1
ALL_IDS = LOWEST_KEY, HIGHEST_KEY
HELD_IDS = 16 << 20
"""Ids in memory: 128 MB, and about as much again while they are sorted and compared."""
SHARED_IDS = 2 << 20
"""Ids whose rows are compared at once; of each, a digest and a few numbers are in memory."""
CHOICES = (
    "Choose duplicate_ids: keep_first or keep_last (one row of each id is loaded) or remap (each row gets a new key, "
    "and its id goes to the field source_id), or delete all but one row of each id in the source."
)


class KeySpace:
    """The rows of one partition, or of all partitions that become one in the target. Each id may be there once.

    :param rows: by segment.
    :param tags: of the partitions.
    :param policy: ``duplicate_ids``.
    :param ids: the lowest and the highest id to look at.
    :param only_finite: pass over rows with NaN or infinity: they are excluded elsewhere.
    """

    def __init__(
        self,
        rows: Sequence[LiveRows],
        collection: str,
        tags: Sequence[str],
        policy: str,
        ids: tuple[int, int] = ALL_IDS,
        *,
        only_finite: bool = False,
    ) -> None:
        self._rows, self._collection, self._tags = rows, collection, tags
        self._policy, self._ids, self._only_finite = policy, ids, only_finite
        self._excluded_before = [rows.excluded.copy() if rows.excluded else None for rows in rows]
        self._remapped = self._different = self._elsewhere = self._same = 0
        self._refused, self._refused_ids = 0, np.empty(0, np.int64)
        self._has_unreadable = False

    def resolve(self) -> DuplicateCounts:
        """Apply the policy for duplicate ids: exclude rows."""
        for window in self._windows():
            shared = find_repeated(window)
            self._has_unreadable |= bool(window.size and window[-1] == UNREADABLE_ID)
            for start, stop in ranges(0, len(shared), SHARED_IDS):
                self._resolve_shared(shared[start:stop])
        return DuplicateCounts(self._remapped, self._different, self._elsewhere, self._same)

    def faults(self) -> Iterator[SourceError]:
        """What is wrong with the ids, after :meth:`resolve`."""
        if self._policy != "remap" and self._has_unreadable and (segments := self._segments_with(UNREADABLE_ID)):
            yield self._unreadable_fault(segments)
        if self._refused:
            yield self._duplicates_fault(self._segments_with(int(self._refused_ids[0])))

    def _windows(self) -> Iterator[Ids]:
        """All ids, sorted, in windows."""

        def read(first: int, last: int) -> Iterator[Ids]:
            for rows in self._rows:
                yield from rows.read_ids(first, last)

        return read_windows(read, *self._ids, min(sum(rows.row_slice.stored_rows for rows in self._rows), HELD_IDS))

    def _resolve_shared(self, shared: Ids) -> None:
        if self._policy == "remap":
            self._remapped += self._count_shared(shared) if self._only_finite else len(shared)
            return
        refused, backwards = np.zeros(len(shared), np.bool_), self._policy == "keep_last"
        kept = KeptRows(len(shared), [rows.tag for rows in self._rows], backwards=backwards)
        for found in find_sharing_rows(self._rows, shared, only_finite=self._only_finite, backwards=backwards):
            others = kept.others(found)
            if self._policy == "error":
                refused[others.places[others.different]] = True
            self._exclude(others)
        self._refused += int(np.count_nonzero(refused))
        self._refused_ids = np.append(self._refused_ids, shared[refused][:EXAMPLES])[:EXAMPLES]

    def _exclude(self, others: OtherRows) -> None:
        if not len(others.offsets):
            return
        others.rows.exclude(others.offsets)
        different = int(np.count_nonzero(others.different))
        self._different += different
        self._elsewhere += int(np.count_nonzero(others.elsewhere))
        self._same += len(others.offsets) - different

    def _count_shared(self, shared: Ids) -> int:
        """How many of the ids are on several rows that are loaded."""
        rows = np.zeros(len(shared), np.int64)
        for found in find_sharing_rows(self._rows, shared, only_finite=self._only_finite):
            np.add.at(rows, found.places, 1)
        return int(np.count_nonzero(rows > 1))

    @property
    def _name(self) -> str:
        partitions = f"partition {self._tags[0]!r}" if len(self._tags) == 1 else "the partitions"
        return f"{partitions} of collection {self._collection!r}"

    @property
    def _range(self) -> str:
        """Which ids were looked at, if not all."""
        first, last = self._ids
        if last == HIGHEST_KEY:
            return "" if first == LOWEST_KEY else f" (of ids from {first})"
        return f" (of ids up to {last})" if first == LOWEST_KEY else f" (of ids from {first} to {last})"

    def _duplicates_fault(self, segments: Sequence[str]) -> RefusedRowsError:
        differing = "vectors" if len(self._tags) == 1 else "tags or vectors"
        return RefusedRowsError(
            f"{self._refused} ids are on rows with different {differing} in {self._name}{self._range}",
            where=f"id {self._refused_ids[0]} in segments {', '.join(segments)}",
            expected="one row per id: it is the primary key in Milvus 2.x, which returns one row of each",
            found=f"ids {list_ids(self._refused_ids, self._refused)}",
            cure=CHOICES,
        )

    def _unreadable_fault(self, segments: Sequence[str]) -> RefusedRowsError:
        return RefusedRowsError(
            f"an id that Milvus 2.x can't return in {self._name}",
            where=f"segments {', '.join(segments)}",
            expected="ids up to 2^63 - 2: a Milvus 2.x server stores 2^63 - 1, but never returns it",
            found=f"id {UNREADABLE_ID}",
            cure="Give the row another id in the source, or all rows new keys: duplicate_ids: remap.",
        )

    def _segments_with(self, row_id: int) -> list[str]:
        """Names of the segments that had the id before the policy was applied, and how often."""
        counts: Counter[str] = Counter()
        with self._none_excluded():
            for found in find_sharing_rows(self._rows, np.array([row_id]), only_finite=self._only_finite):
                counts[found.rows.name] += len(found.offsets)
        return [f"{name} ({count} times)" if count > 1 else name for name, count in counts.items() if count]

    @contextmanager
    def _none_excluded(self) -> Iterator[None]:
        """For the block, no row is excluded because of its id."""
        excluded = [rows.excluded for rows in self._rows]
        self._set_excluded(self._excluded_before)
        try:
            yield
        finally:
            self._set_excluded(excluded)

    def _set_excluded(self, masks: Iterable[RowMask | None]) -> None:
        for rows, mask in zip(self._rows, masks, strict=True):
            rows.excluded = mask


def duplicate_notes(counts: DuplicateCounts, tags: Sequence[str], policy: str) -> Iterator[str]:
    """What the report says of rows that shared their ids, in the key space of these partitions."""
    place = f"partition {tags[0]!r}: " if len(tags) == 1 else ""
    if counts.remapped:
        yield f"{place}{counts.remapped} ids are on several rows: each row gets a new key"
    if counts.different:
        rows = f"{place}{counts.different} rows excluded: another row with their id was kept (duplicate_ids: {policy})"
        yield rows + (f", for {counts.elsewhere} of them under another tag" if counts.elsewhere else "")
    if counts.same:
        yield f"{place}{counts.same} rows excluded that have the same id and vector as another row"
