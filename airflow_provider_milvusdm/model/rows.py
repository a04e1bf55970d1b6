"""Rows: batches of them, how many make a batch, and what to do with those that Milvus 2.x refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.model.collections import CollectionSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from airflow_provider_milvusdm.model.mask import Mask


@dataclass(frozen=True)
class VectorBatch:
    """Some live rows.

    ``ids``: int64, shape (n,). ``vectors``: float32, shape (n, dimension), or for binary vectors uint8,
    shape (n, dimension / 8). ``columns``: scalar fields beside them by name, int64 of shape (n,), or one text for all.
    """

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    columns: Mapping[str, npt.NDArray[np.int64] | str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> VectorBatch:
        """Rows ``start`` to ``stop`` of it."""
        columns = {name: some if isinstance(some, str) else some[start:stop] for name, some in self.columns.items()}
        return VectorBatch(self.ids[start:stop], self.vectors[start:stop], columns)

    def where(self, chosen: Mask) -> VectorBatch:
        """Its rows that are ``chosen``, a mask of shape (n,)."""
        columns = {name: some if isinstance(some, str) else some[chosen] for name, some in self.columns.items()}
        return VectorBatch(self.ids[chosen], self.vectors[chosen], columns)


@dataclass(frozen=True)
class RowPolicies:
    """What to do with rows that Milvus 1.x took and Milvus 2.x refuses."""

    duplicate_ids: str = "error"
    """``error``, ``keep_first``, ``keep_last``, or ``remap``: keys of their own, the ids in a field ``source_id``."""
    invalid_vectors: str = "error"
    """``error``, or ``skip``: rows with NaN or infinity are saved to a file and left out."""
    skipped_rows_dir: str = ""
    """Folder of these files; empty: they are counted and not saved, as by a dry run."""


def ranges(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """``start`` to ``stop`` in steps of ``rows``."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


CHECKED_BYTES = 8 << 20
IDS_A_BATCH = CHECKED_BYTES // 8


def rows_within(collection: CollectionSpec, batch_bytes: int = CHECKED_BYTES) -> int:
    """How many vectors make a batch of so many bytes, at least one."""
    return max(batch_bytes // collection.vector_bytes, 1)
