"""What every source offers: segments, whose rows are read by their position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import VectorBatch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Segment(Protocol):
    """An opened segment of any source. Its rows have the numbers 0 to ``stored_rows``, deleted rows included."""

    @property
    def stored_rows(self) -> int: ...

    @property
    def deleted_rows(self) -> int:
        """Number of deleted rows, as the source's catalog counts them."""
        ...

    @property
    def replayed_deletes(self) -> int:
        """Number of further rows that a log deletes."""
        ...

    @property
    def files(self) -> tuple[Any, ...]:
        """Paths of the files that hold the rows: as long as these don't change, the rows don't."""
        ...

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of the stored rows ``start`` to ``stop`` are live: bool of shape (stop - start,)."""
        ...

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Ids of the live rows among the stored rows ``start`` to ``stop``: int64 of shape (live rows,)."""
        ...

    def read(self, start: int, stop: int) -> VectorBatch:
        """The live rows among the stored rows ``start`` to ``stop``."""
        ...

    def fingerprint(self) -> bytes:
        """Digest of what identifies the rows."""
        ...


class Source(Protocol):
    """An opened source of any kind."""

    def segment(self, collection: CollectionSpec, name: str) -> Segment:
        """Open the segment with this name.

        Raises a SourceError if it is missing, damaged, or not what it was when the source was inspected.
        """
        ...
