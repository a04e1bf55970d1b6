"""The table of sources. A new kind of source is a folder beside this file and a row in the table.

Each row imports its format only when it is called: a task that reads HDF5 files does not need Faiss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_provider_milvusdm.model.collections import Slice, SourcePosition, SourceRef
from airflow_provider_milvusdm.sources.base import Source


def _keep(ref: SourceRef, slices: Sequence[Slice]) -> SourceRef:
    return ref


def _never_seen(segment: str, position: SourcePosition) -> bool:
    return False


@dataclass(frozen=True)
class SourceKind:
    """What the steps after inspecting need to know of a kind of source."""

    open: Callable[[SourceRef], Source]
    narrow: Callable[[SourceRef, Sequence[Slice]], SourceRef] = _keep
    """The source with no more options than these slices need, which makes manifests small."""
    is_seen: Callable[[str, SourcePosition], bool] = _never_seen
    """Whether all rows of a segment were already there at a position."""


def _open_milvus1x(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.milvus1x.segment import Milvus1xSource

    return Milvus1xSource(ref.folder, ref.options)


def _narrow_milvus1x(ref: SourceRef, slices: Sequence[Slice]) -> SourceRef:
    from airflow_provider_milvusdm.sources.milvus1x.log_options import narrow_log

    return narrow_log(ref, slices)


def _is_seen_milvus1x(segment: str, position: SourcePosition) -> bool:
    from airflow_provider_milvusdm.sources.milvus1x.position import is_seen

    return is_seen(segment, position)


def _open_hdf5(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Source

    return Hdf5Source(ref.folder, ref.options)


def _open_faiss(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.faiss.segment import FaissSource

    return FaissSource(ref.folder, ref.options)


SOURCES = {
    "milvus1x": SourceKind(_open_milvus1x, _narrow_milvus1x, _is_seen_milvus1x),
    "hdf5": SourceKind(_open_hdf5),
    "faiss": SourceKind(_open_faiss),
}


def open_source(ref: SourceRef) -> Source:
    """Open the source that a manifest names."""
    return SOURCES[ref.kind].open(ref)


def narrow_source(ref: SourceRef, slices: Sequence[Slice]) -> SourceRef:
    """The source with no more options than these slices need."""
    return SOURCES[ref.kind].narrow(ref, slices)


def is_seen(ref: SourceRef, segment: str, position: SourcePosition) -> bool:
    """Whether all rows of a segment of the source were already there at a position; False if nobody can tell."""
    return SOURCES[ref.kind].is_seen(segment, position)
