"""Read the rows of slices, in order and in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import SOURCE_ID, CollectionSpec, Slice, SourceRef
from airflow_provider_milvusdm.model.mask import Mask, from_text
from airflow_provider_milvusdm.model.rows import IDS_A_BATCH, VectorBatch, ranges
from airflow_provider_milvusdm.sources.base import Segment, Source
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.file_version import refuse_changed

Ids: TypeAlias = npt.NDArray[np.int64]
SliceBatch: TypeAlias = tuple[int, str, VectorBatch]
"""Number of stored rows of all slices up to the end of the batch, its partition, and its rows."""


def read_slices(
    ref: SourceRef, collection: CollectionSpec, slices: Iterable[Slice], rows: int, done: int = 0
) -> Iterator[SliceBatch]:
    """The rows of the slices in batches, without deleted and excluded rows.

    A batch is read from at most ``rows`` stored rows, of several segments if these are small, but of one partition. The
    first ``done`` stored rows of all slices are skipped. Raises ChangedSourceError if a segment's files changed since
    the slices were made; that is checked before and after they are read.
    """
    return map(_join, _group(_read_each(ref, collection, slices, rows, done), rows, done))


def read_windows(
    ref: SourceRef, collection: CollectionSpec, row_slice: Slice, starts: Iterable[int], rows: int
) -> Iterator[VectorBatch]:
    """The rows to load in each window of ``rows`` stored rows of a slice; its segment is opened once.

    ``starts``: offsets of the windows in the slice. Raises ChangedSourceError as :func:`read_slices` does.
    """
    firsts = [row_slice.start + start for start in starts]
    windows = [(first, min(first + rows, row_slice.stop)) for first in firsts]
    for _, batch in _read_ranges(open_source(ref), collection, row_slice, windows):
        yield batch


def read_keys(ref: SourceRef, collection: CollectionSpec, row_slice: Slice) -> Iterator[tuple[Ids, Ids]]:
    """Offsets in the slice and primary keys of its rows to load, in order and in batches: int64 of shape (rows,) each.

    No vector is read.
    """
    return segment_keys(open_source(ref).segment(collection, row_slice.segment), row_slice)


def segment_keys(segment: Segment, row_slice: Slice) -> Iterator[tuple[Ids, Ids]]:
    """As :func:`read_keys`, for a segment that is opened already."""
    excluded = _excluded_rows(row_slice)
    for start, stop in ranges(row_slice.start, row_slice.stop, IDS_A_BATCH):
        offsets, ids = _live_offsets(segment, row_slice, start, stop), segment.ids(start, stop)
        if excluded is not None:
            kept = ~excluded[offsets]
            offsets, ids = offsets[kept], ids[kept]
        yield offsets, ids if row_slice.first_key is None else offsets + row_slice.first_key


def refuse_changed_segments(ref: SourceRef, collection: CollectionSpec, slices: Iterable[Slice]) -> None:
    """Check that the segments of the slices are as they were when the slices were made; no row is read.

    Raises ChangedSourceError, or another SourceError if a segment is gone or damaged.
    """
    source = open_source(ref)
    for name, row_slice in {row_slice.segment: row_slice for row_slice in slices}.items():
        refuse_changed(source.segment(collection, name).files, row_slice)


def empty_batch(collection: CollectionSpec, row_slice: Slice) -> VectorBatch:
    """A batch without rows, with the columns and types that the batches of the slice have."""
    dtype = np.dtype(np.uint8 if collection.metric.is_binary else np.float32)
    ids, vectors = np.empty(0, np.int64), np.empty((0, collection.vector_bytes // dtype.itemsize), dtype)
    return VectorBatch(ids, vectors, {} if row_slice.first_key is None else {SOURCE_ID: ids})


def _group(batches: Iterable[SliceBatch], rows: int, done: int) -> Iterator[list[SliceBatch]]:
    """Group batches of one partition that take at most ``rows`` stored rows; a full group doesn't wait for the next."""
    group: list[SliceBatch] = []
    start = done
    for batch in batches:
        end, partition, _ = batch
        if group and (partition != group[0][1] or end - start > rows):
            yield group
            start, group = group[-1][0], []
        group.append(batch)
        if end - start == rows:
            yield group
            start, group = end, []
    if group:
        yield group


def _join(group: Sequence[SliceBatch]) -> SliceBatch:
    """The batches of a group as one."""
    if len(group) == 1:
        return group[0]
    end, partition, _ = group[-1]
    return end, partition, join_batches([batch for _, _, batch in group])


def join_batches(batches: Sequence[VectorBatch]) -> VectorBatch:
    """The rows of all batches, at least one, in their order; their columns are arrays."""
    ids = np.concatenate([batch.ids for batch in batches])
    vectors = np.concatenate([batch.vectors for batch in batches])
    columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns}
    return VectorBatch(ids, vectors, columns)


def _read_each(
    ref: SourceRef, collection: CollectionSpec, slices: Iterable[Slice], rows: int, done: int
) -> Iterator[SliceBatch]:
    """As :func:`read_slices`, with each batch from one segment only."""
    source = open_source(ref)
    position = 0
    for row_slice in slices:
        start = row_slice.start + min(max(done - position, 0), row_slice.stored_rows)
        position += row_slice.stored_rows
        if start == row_slice.stop:
            continue
        for stop, batch in _read_ranges(source, collection, row_slice, ranges(start, row_slice.stop, rows)):
            yield position - (row_slice.stop - stop), row_slice.partition, batch


def _read_ranges(
    source: Source, collection: CollectionSpec, row_slice: Slice, row_ranges: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, VectorBatch]]:
    """The end of each range of stored rows, and its rows to load."""
    segment = source.segment(collection, row_slice.segment)
    refuse_changed(segment.files, row_slice)
    excluded = _excluded_rows(row_slice)
    for start, stop in row_ranges:
        yield stop, _read(segment, row_slice, excluded, start, stop)
    refuse_changed(segment.files, row_slice)


def _read(segment: Segment, row_slice: Slice, excluded: Mask | None, start: int, stop: int) -> VectorBatch:
    """The rows to load among the stored rows ``start`` to ``stop``."""
    batch = segment.read(start, stop)
    if excluded is None and row_slice.first_key is None:
        return batch
    offsets = _live_offsets(segment, row_slice, start, stop)
    if excluded is not None:
        kept = ~excluded[offsets]
        batch, offsets = VectorBatch(batch.ids[kept], batch.vectors[kept]), offsets[kept]
    if row_slice.first_key is None:
        return batch
    return VectorBatch(offsets + row_slice.first_key, batch.vectors, {SOURCE_ID: batch.ids})


def _excluded_rows(row_slice: Slice) -> Mask | None:
    """Which rows of the slice are excluded: bool of shape (stored rows,); None: none."""
    return from_text(row_slice.excluded, row_slice.stored_rows) if row_slice.excluded else None


def _live_offsets(segment: Segment, row_slice: Slice, start: int, stop: int) -> Ids:
    """Offsets in the slice of the live rows among the stored rows ``start`` to ``stop``: int64 of shape (rows,)."""
    return np.flatnonzero(segment.live(start, stop)) + (start - row_slice.start)
