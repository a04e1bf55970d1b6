"""Sources: bytes on disk become rows. Nothing here knows Airflow or Milvus 2.x."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_milvusdm.vectors import Source, SourceRef

if TYPE_CHECKING:
    from collections.abc import Callable


def _milvus1x(path: str) -> Source:
    from airflow_provider_milvusdm.sources.milvus1x_segment import Milvus1xSource

    return Milvus1xSource(path)


SOURCES: dict[str, Callable[[str], Source]] = {"milvus1x": _milvus1x}


def open_source(ref: SourceRef) -> Source:
    """Open the source that a manifest names."""
    return SOURCES[ref.kind](ref.path)
