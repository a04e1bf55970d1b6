"""Rows that may not share a primary key, and the policy for those that do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import RefusedRowsError
from airflow_provider_milvusdm.model.rows import HIGHEST_ID, RowPolicies
from airflow_provider_milvusdm.rows.duplicates import SharedIds, find_repeated, find_shared_ids, sorted_ids
from airflow_provider_milvusdm.rows.faults import list_ids
from airflow_provider_milvusdm.rows.partition import Partition

UNREADABLE_ID = HIGHEST_ID + 1
CHOICES = (
    "Choose duplicate_ids: keep_first or keep_last (one row of each id is loaded) or remap (each row gets a new key, "
    "and its id goes to the field source_id), or delete all but one row of each id in the source."
)


class KeySpace:
    """The rows of one partition, or of all partitions that become one in the target. Each id may be there once."""

    def __init__(self, partitions: Sequence[Partition], collection: str, policies: RowPolicies) -> None:
        self._partitions, self._collection, self._policy = partitions, collection, policies.duplicate_ids
        self._rows = [rows for partition in partitions for rows in partition.rows]

    def resolve(self) -> None:
        """Apply the policy for duplicate ids: exclude rows, or add faults and notes to the first partition."""
        ids = sorted_ids(self._rows, sum(partition.live_rows for partition in self._partitions))
        if self._policy != "remap" and ids.size and ids[-1] == UNREADABLE_ID:
            self._partitions[0].faults.append(self._unreadable_fault())
        if ids.size and len(self._partitions) == 1:
            self._partitions[0].id_range = int(ids[0]), int(ids[-1])
        shared = find_repeated(ids)
        del ids  # 8 bytes per row
        if shared.size and self._policy == "remap":
            self._note(f"{shared.size} ids are on several rows: each row gets a new key")
        elif shared.size:
            self._exclude_duplicates(find_shared_ids(self._rows, shared))

    def _exclude_duplicates(self, shared: SharedIds) -> None:
        kept = shared.lasts if self._policy == "keep_last" else shared.firsts
        different = shared.different(kept)
        if different.any() and self._policy == "error":
            self._partitions[0].faults.append(self._duplicates_fault(np.unique(shared.ids[different])))
            return
        for number, offsets in shared.by_segment(~kept):
            self._rows[number].exclude(offsets)
        if excluded := int(np.count_nonzero(different)):
            elsewhere = int(np.count_nonzero(shared.elsewhere(kept)))
            where = f", for {elsewhere} of them under another tag" if elsewhere else ""
            self._note(
                f"{excluded} rows excluded: another row with their id was kept (duplicate_ids: {self._policy}){where}"
            )
        if identical := int(np.count_nonzero(~kept & ~different)):
            self._note(f"{identical} rows excluded that have the same id and vector as another row")

    def _note(self, text: str) -> None:
        partition = self._partitions[0]
        partition.notes.append(text if len(self._partitions) > 1 else f"partition {partition.spec.tag!r}: {text}")

    @property
    def _name(self) -> str:
        partition = f"partition {self._partitions[0].spec.tag!r}" if len(self._partitions) == 1 else "the partitions"
        return f"{partition} of collection {self._collection!r}"

    def _duplicates_fault(self, ids: npt.NDArray[np.int64]) -> RefusedRowsError:
        differing = "vectors" if len(self._partitions) == 1 else "tags or vectors"
        return RefusedRowsError(
            f"{ids.size} ids are on rows with different {differing} in {self._name}",
            where=f"id {ids[0]} in segments {', '.join(self._segments_with(ids[0]))}",
            expected="one row per id: it is the primary key in Milvus 2.x, which returns one row of each",
            found=f"ids {list_ids(ids, ids.size)}",
            cure=CHOICES,
        )

    def _unreadable_fault(self) -> RefusedRowsError:
        return RefusedRowsError(
            f"an id that Milvus 2.x can't return in {self._name}",
            where=f"segments {', '.join(self._segments_with(np.int64(UNREADABLE_ID)))}",
            expected="ids up to 2^63 - 2: a Milvus 2.x server stores 2^63 - 1, but never returns it",
            found=f"id {UNREADABLE_ID}",
            cure="Give the row another id in the source, or all rows new keys: duplicate_ids: remap.",
        )

    def _segments_with(self, row_id: np.int64) -> list[str]:
        """Names of the segments that have the id, and how often."""
        counts: Counter[str] = Counter()
        for rows in self._rows:
            counts[rows.name] += sum(int((ids == row_id).sum()) for _, ids in rows.batches())
        return [f"{name} ({count} times)" if count > 1 else name for name, count in counts.items() if count]
