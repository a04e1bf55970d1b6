"""Rows: batches of them, the size of a batch, the ids that Milvus 2.x can hold, and policies for rows it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.model.collections import CollectionSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from airflow_provider_milvusdm.model.mask import Mask

LOWEST_ID, HIGHEST_ID = -(2**63), 2**63 - 2
"""A Milvus 2.x server stores and counts a row with the next id, 2^63 - 1, and never returns it."""
CHECKED_BYTES = 8 << 20
"""Bytes of vectors that are checked at once."""
IDS_A_BATCH = CHECKED_BYTES // 8


@dataclass(frozen=True)
class VectorBatch:
    """A batch of live rows.

    ``ids``: int64 of shape (rows,). ``vectors``: float32 of shape (rows, dimension), or uint8 of shape
    (rows, dimension / 8) for binary vectors. ``columns``: further scalar fields by name, each int64 of shape (rows,),
    or one text for all rows.
    """

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    columns: Mapping[str, npt.NDArray[np.int64] | str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> VectorBatch:
        """Rows ``start`` to ``stop`` of this batch."""
        return self._each(lambda values: values[start:stop])

    def copied(self) -> VectorBatch:
        """The same rows in memory of their own."""
        return self._each(lambda values: values.copy())

    def where(self, chosen: Mask) -> VectorBatch:
        """Its rows that are ``chosen``, a mask of shape (n,)."""
        return self._each(lambda values: values[chosen])

    def _each(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> VectorBatch:
        """The batch with each of its arrays changed."""
        columns = {name: values if isinstance(values, str) else change(values) for name, values in self.columns.items()}
        return VectorBatch(change(self.ids), change(self.vectors), columns)


@dataclass(frozen=True)
class RowPolicies:
    """What to do with rows that Milvus 1.x accepted and Milvus 2.x refuses."""

    duplicate_ids: str = "error"
    """``error``, ``keep_first``, ``keep_last``, or ``remap``: new keys, and the ids go to the field ``source_id``."""
    invalid_vectors: str = "error"
    """``error``, or ``skip``: rows with NaN or infinity are saved to a file and excluded."""
    skipped_rows_dir: str = ""
    """Folder of these files; empty: rows are only counted, as in a dry run."""


def ranges(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Split ``start`` to ``stop`` into ranges of at most ``rows``, in order."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


def rows_within(collection: CollectionSpec, batch_bytes: int = CHECKED_BYTES) -> int:
    """Number of vectors in a batch of ``batch_bytes``, at least one."""
    return max(batch_bytes // collection.vector_bytes, 1)
