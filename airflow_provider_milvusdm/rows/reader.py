"""Read the rows of slices, in order, in batches."""

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

Piece: TypeAlias = tuple[int, str, VectorBatch]


def read_slices(
    ref: SourceRef, collection: CollectionSpec, slices: Iterable[Slice], rows: int, done: int = 0
) -> Iterator[Piece]:
    """The partition and the rows of each batch, with the number of stored rows up to its end.

    Deleted rows are not among them, nor those that a policy leaves out. A batch is read from at most ``rows`` stored
    rows, of several segments where these are small; the first ``done`` of all slices are passed over. Raises
    ChangedSourceError where a segment's files are not, before or after they were read, what they were when the slices
    were made.
    """
    return map(_joined, _runs(_read_pieces(ref, collection, slices, rows, done), rows, done))


def _runs(pieces: Iterable[Piece], rows: int, done: int) -> Iterator[list[Piece]]:
    """Pieces of one partition that take at most ``rows`` stored rows together; a full one waits for no other."""
    run: list[Piece] = []
    start = done
    for piece in pieces:
        end, partition, _ = piece
        if run and (partition != run[0][1] or end - start > rows):
            yield run
            start, run = run[-1][0], []
        run.append(piece)
        if end - start == rows:
            yield run
            start, run = end, []
    if run:
        yield run


def _joined(pieces: Sequence[Piece]) -> Piece:
    """A run as one piece."""
    if len(pieces) == 1:
        return pieces[0]
    end, partition, last = pieces[-1]
    batches = [batch for _, _, batch in pieces]
    ids, vectors = np.concatenate([one.ids for one in batches]), np.concatenate([one.vectors for one in batches])
    columns = {name: np.concatenate([one.columns[name] for one in batches]) for name in last.columns}
    return end, partition, VectorBatch(ids, vectors, columns)


def _read_pieces(
    ref: SourceRef, collection: CollectionSpec, slices: Iterable[Slice], rows: int, done: int
) -> Iterator[Piece]:
    """What :func:`read_slices` yields, each of one segment."""
    source = open_source(ref)
    position = 0
    for piece in slices:
        start = piece.start + min(max(done - position, 0), piece.stored_rows)
        position += piece.stored_rows
        if start == piece.stop:
            continue
        for stop, batch in _read_ranges(source, collection, piece, ranges(start, piece.stop, rows)):
            yield position - (piece.stop - stop), piece.partition, batch


def read_windows(
    ref: SourceRef, collection: CollectionSpec, piece: Slice, starts: Iterable[int], rows: int
) -> Iterator[VectorBatch]:
    """Of each window of ``rows`` stored rows of a slice, the rows to load; its segment is opened once.

    ``starts``: offsets of the windows in the slice.
    """
    firsts = [piece.start + start for start in starts]
    windows = [(first, min(first + rows, piece.stop)) for first in firsts]
    for _, batch in _read_ranges(open_source(ref), collection, piece, windows):
        yield batch


def _read_ranges(
    source: Source, collection: CollectionSpec, piece: Slice, wanted: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, VectorBatch]]:
    """The end of each range of a slice's stored rows, and the rows to load among them."""
    segment = source.segment(collection, piece.segment)
    refuse_changed(segment.files, piece)
    excluded = from_text(piece.excluded, piece.stored_rows) if piece.excluded else None
    for first, stop in wanted:
        yield stop, _read(segment, piece, excluded, first, stop)
    refuse_changed(segment.files, piece)


def read_keys(
    ref: SourceRef, collection: CollectionSpec, piece: Slice
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Offsets in the slice and primary keys of its rows, in order, in batches; no vector is read."""
    return segment_keys(open_source(ref).segment(collection, piece.segment), piece)


def segment_keys(segment: Segment, piece: Slice) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The same of a slice of an opened segment."""
    excluded = from_text(piece.excluded, piece.stored_rows) if piece.excluded else None
    for start, stop in ranges(piece.start, piece.stop, IDS_A_BATCH):
        offsets, ids = _live_offsets(segment, piece, start, stop), segment.ids(start, stop)
        if excluded is not None:
            kept = ~excluded[offsets]
            offsets, ids = offsets[kept], ids[kept]
        yield offsets, ids if piece.first_key is None else offsets + piece.first_key


def empty_batch(collection: CollectionSpec, piece: Slice) -> VectorBatch:
    """A batch as those of a slice, without rows: what columns there are, and of what types."""
    dtype = np.dtype(np.uint8 if collection.metric.is_binary else np.float32)
    ids, vectors = np.empty(0, np.int64), np.empty((0, collection.vector_bytes // dtype.itemsize), dtype)
    return VectorBatch(ids, vectors, {} if piece.first_key is None else {SOURCE_ID: ids})


def _live_offsets(segment: Segment, piece: Slice, start: int, stop: int) -> npt.NDArray[np.int64]:
    """Where in the slice the live ones of the stored rows ``start`` to ``stop`` are."""
    return np.flatnonzero(segment.live(start, stop)) + (start - piece.start)


def _read(segment: Segment, piece: Slice, excluded: Mask | None, start: int, stop: int) -> VectorBatch:
    batch = segment.read(start, stop)
    if excluded is None and piece.first_key is None:
        return batch
    offsets = _live_offsets(segment, piece, start, stop)
    if excluded is not None:
        kept = ~excluded[offsets]
        batch, offsets = VectorBatch(batch.ids[kept], batch.vectors[kept]), offsets[kept]
    if piece.first_key is None:
        return batch
    return VectorBatch(offsets + piece.first_key, batch.vectors, {SOURCE_ID: batch.ids})
