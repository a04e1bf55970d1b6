"""What every source offers: segments, opened and read row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import VectorBatch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Segment(Protocol):
    """An opened segment of any source."""

    @property
    def stored_rows(self) -> int: ...

    @property
    def deleted_rows(self) -> int:
        """Rows that are not live, as the source's catalog counts them."""
        ...

    @property
    def replayed_deletes(self) -> int:
        """Further rows that are not live: those that a log deletes beyond what the catalog counts."""
        ...

    @property
    def files(self) -> tuple[Any, ...]:
        """Paths of the files that must stay as they are for its rows to stay the same."""
        ...

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of the stored rows ``start`` to ``stop`` are live."""
        ...

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Ids of the live rows among the stored rows ``start`` to ``stop``."""
        ...

    def read(self, start: int, stop: int) -> VectorBatch:
        """Live rows among the stored rows ``start`` to ``stop``."""
        ...

    def fingerprint(self) -> bytes:
        """Digest of what identifies the rows."""
        ...


class Source(Protocol):
    """An opened source of any kind."""

    def segment(self, collection: CollectionSpec, name: str) -> Segment: ...
