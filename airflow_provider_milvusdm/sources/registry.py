"""The table of sources. A new kind of source is a folder beside this file and a row in the table.

Each row imports its format only when it is called: a task that reads HDF5 files does not need Faiss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_provider_milvusdm.model.collections import Slice, SourceRef
from airflow_provider_milvusdm.sources.base import Source


def _keep(ref: SourceRef, slices: Sequence[Slice]) -> SourceRef:
    return ref


@dataclass(frozen=True)
class SourceKind:
    """What the steps after inspecting need to know of a kind of source."""

    open: Callable[[SourceRef], Source]
    narrow: Callable[[SourceRef, Sequence[Slice]], SourceRef] = _keep
    """The source with no more options than these slices need, which makes manifests small."""


def _open_milvus1x(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.milvus1x.segment import Milvus1xSource

    return Milvus1xSource(ref.folder, ref.options)


def _narrow_milvus1x(ref: SourceRef, slices: Sequence[Slice]) -> SourceRef:
    from airflow_provider_milvusdm.sources.milvus1x.log_options import narrow_log

    return narrow_log(ref, slices)


def _open_hdf5(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Source

    return Hdf5Source(ref.folder, ref.options)


def _open_faiss(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.faiss.segment import FaissSource

    return FaissSource(ref.folder, ref.options)


SOURCES = {
    "milvus1x": SourceKind(_open_milvus1x, _narrow_milvus1x),
    "hdf5": SourceKind(_open_hdf5),
    "faiss": SourceKind(_open_faiss),
}


def open_source(ref: SourceRef) -> Source:
    """Open the source that a manifest names."""
    return SOURCES[ref.kind].open(ref)


def narrow_source(ref: SourceRef, slices: Sequence[Slice]) -> SourceRef:
    """The source with no more options than these slices need."""
    return SOURCES[ref.kind].narrow(ref, slices)
