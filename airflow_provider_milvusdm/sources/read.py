"""Read the live rows of slices, in order, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_provider_milvusdm.sources import open_source
from airflow_provider_milvusdm.vectors import CollectionSpec, Slice, SourceRef, VectorBatch, ranges

CHECKED_BYTES = 8 << 20


def rows_within(collection: CollectionSpec, batch_bytes: int = CHECKED_BYTES) -> int:
    """How many vectors make a batch of so many bytes, at least one."""
    return max(batch_bytes // collection.vector_bytes, 1)


def read_slices(
    ref: SourceRef, collection: CollectionSpec, slices: Iterable[Slice], rows: int, done: int = 0
) -> Iterator[tuple[int, str, VectorBatch]]:
    """The partition and the live rows of each batch, with the number of stored rows up to its end.

    A batch is read from at most ``rows`` stored rows; the first ``done`` of all slices are passed over.
    """
    source = open_source(ref)
    position = 0
    for piece in slices:
        start = piece.start + min(max(done - position, 0), piece.stored_rows)
        position += piece.stored_rows
        if start == piece.stop:
            continue
        segment = source.segment(collection, piece.segment)
        for first, stop in ranges(start, piece.stop, rows):
            yield position - (piece.stop - stop), piece.partition, segment.read(first, stop)
