"""The table of sources: a kind's name, and how it is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.model.collections import Slice, SourceRef
from airflow_provider_milvusdm.sources.base import Source

if TYPE_CHECKING:
    from collections.abc import Callable


def _milvus1x(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.milvus1x.segment import Milvus1xSource

    return Milvus1xSource(ref.path, ref.options)


def _hdf5(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Source

    return Hdf5Source(ref.path, ref.options)


def _faiss(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.faiss.segment import FaissSource

    return FaissSource(ref.path, ref.options)


SOURCES: dict[str, Callable[[SourceRef], Source]] = {"milvus1x": _milvus1x, "hdf5": _hdf5, "faiss": _faiss}


def open_source(ref: SourceRef) -> Source:
    """Open the source that a manifest names."""
    return SOURCES[ref.kind](ref)


def source_of(ref: SourceRef, slices: Iterable[Slice]) -> SourceRef:
    """A source as far as these slices need it: what it says of each partition, only of theirs."""
    from airflow_provider_milvusdm.sources.milvus1x.log_segment import options_of

    if ref.kind != "milvus1x" or not ref.options:
        return ref
    return replace(ref, options=options_of(ref.options, slices))
