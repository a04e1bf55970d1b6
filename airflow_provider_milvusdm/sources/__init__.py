"""Sources: bytes on disk become rows. Nothing here knows Airflow or Milvus 2.x."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.vectors import Slice, Source, SourceRef

if TYPE_CHECKING:
    from collections.abc import Callable


@contextmanager
def refuse_unreadable() -> Iterator[None]:
    """What the worker's user may not read, no retry mends."""
    try:
        yield
    except PermissionError as error:
        raise SourceError(
            "no permission to read the source",
            where=error.filename,
            found=error.strerror,
            cure="Let the user that this task runs as, or the URL's connection, read it; it is never written.",
        ) from None


def _milvus1x(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.milvus1x_segment import Milvus1xSource

    return Milvus1xSource(ref.path, ref.options)


def _hdf5(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.hdf5_segment import Hdf5Source

    return Hdf5Source(ref.path, ref.options)


def _faiss(ref: SourceRef) -> Source:
    from airflow_provider_milvusdm.sources.faiss_segment import FaissSource

    return FaissSource(ref.path, ref.options)


SOURCES: dict[str, Callable[[SourceRef], Source]] = {"milvus1x": _milvus1x, "hdf5": _hdf5, "faiss": _faiss}


def open_source(ref: SourceRef) -> Source:
    """Open the source that a manifest names."""
    return SOURCES[ref.kind](ref)


def source_of(ref: SourceRef, slices: Iterable[Slice]) -> SourceRef:
    """A source as far as these slices need it: what it says of each partition, only of theirs."""
    from airflow_provider_milvusdm.sources.milvus1x_log_segment import options_of

    if ref.kind != "milvus1x" or not ref.options:
        return ref
    return replace(ref, options=options_of(ref.options, slices))
