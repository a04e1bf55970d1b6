"""Rows that may not share a primary key, and what is done with those that do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import RefusedRowsError
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.rows.duplicates import SharedIds, find_shared_ids, repeated, sorted_ids
from airflow_provider_milvusdm.rows.partition import Partition, examples_of

UNREADABLE_ID = 2**63 - 1
"""A Milvus 2.x server stores and counts a row with this id and never returns it."""
CHOICES = (
    "Choose duplicate_ids: keep_first or keep_last (one row of each id is loaded) or remap (each row gets a key of its "
    "own, and its id goes to the field source_id), or delete all but one of each in the source."
)


class KeySpace:
    """Rows that may not share a primary key: a partition's, or those of all that become one."""

    def __init__(self, partitions: Sequence[Partition], collection: str, policies: RowPolicies) -> None:
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
            self._exclude(find_shared_ids(self.rows, shared))

    def _exclude(self, shared: SharedIds) -> None:
        kept = shared.lasts if self.policy == "keep_last" else shared.firsts
        different = shared.different(kept)
        if different.any() and self.policy == "error":
            self.partitions[0].faults.append(self._duplicates(np.unique(shared.ids[different])))
            return
        for number, offsets in shared.by_segment(~kept):
            self.rows[number].exclude(offsets)
        if dropped := int(np.count_nonzero(different)):
            elsewhere = int(np.count_nonzero(shared.elsewhere(kept)))
            where = f", for {elsewhere} of them under another tag" if elsewhere else ""
            self._note(
                f"{dropped} rows excluded: another row of their id was kept (duplicate_ids: {self.policy}){where}"
            )
        if same := int(np.count_nonzero(~kept & ~different)):
            self._note(f"{same} rows excluded that are the same as another, id and vector")

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
            found=f"ids {examples_of(ids, ids.size)}",
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
