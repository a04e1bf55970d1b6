"""The position of a Milvus 1.x collection: which segments were finished, and how much of the log was included.

A segment has the time at which it was begun as its number. Once it is finished, no row is added to it: a merge or a
compaction makes a new segment from rows of older ones. So if the vector of an id changes, the new one is in a younger
segment, in a segment that was not finished, or in the log. Source: the server's code, ``CreateCollectionFile`` in
``core/src/db/meta``, ``MemTableFile.cpp`` in ``core/src/db/insert``, and ``CompactFile`` in ``core/src/db/DBImpl.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from airflow_provider_milvusdm.model.collections import SourcePosition
from airflow_provider_milvusdm.sources.milvus1x.catalog import FILE_TYPE_NEW, FILE_TYPES_WITH_ROWS, Catalog
from airflow_provider_milvusdm.sources.milvus1x.segment_name import SegmentFolder, parse_segment_name


def find_position(catalog: Catalog, collection: str) -> SourcePosition:
    """The position of a collection in the catalog, without what only the log holds. Raises DamagedSourceError."""
    segments = list(_list_segments(catalog, collection))
    finished = max((begun for begun, file_type in segments if file_type in FILE_TYPES_WITH_ROWS), default=0)
    unfinished = min((begun for begun, file_type in segments if file_type == FILE_TYPE_NEW), default=finished + 1)
    history = f"{collection} {catalog.collections[collection]['created_on']}"
    return SourcePosition(history, min(finished, unfinished - 1), max(catalog.flushed_lsns(collection).values()))


def with_log(position: SourcePosition, last_lsn: int) -> SourcePosition:
    """The position if the log is included up to ``last_lsn``."""
    return replace(position, lsn=max(position.lsn, last_lsn))


def is_seen(segment: str, position: SourcePosition) -> bool:
    """Whether all rows of a segment were there at that position; False for segments in the log."""
    name = parse_segment_name(segment)
    return isinstance(name, SegmentFolder) and name.begun is not None and name.begun <= position.segment


def _list_segments(catalog: Catalog, collection: str) -> Iterator[tuple[int, int]]:
    """When it was begun and ``file_type``, for each file of the collection and its partitions."""
    for table_id in [collection, *(row["table_id"] for row in catalog.partitions.get(collection, []))]:
        for row in catalog.files.get(table_id, []):
            begun = SegmentFolder(table_id, str(row["segment_id"])).begun
            if begun is not None:
                yield begun, row["file_type"]
