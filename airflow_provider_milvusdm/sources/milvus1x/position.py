"""How far a collection of a Milvus 1.x server had come: which segments there were, and what of the log was in them.

A segment is named by the time at which it was begun, in nanoseconds; no row comes into it once it is finished. A merge
or a compaction makes a new one, with rows of older ones. So a vector that differs from the one seen under its id stands
in a younger segment, or in one that was not finished then, or in the log. Source: the server's code,
``SafeIDGenerator`` in ``core/src/db/IDGenerator.cpp``, ``CreateCollectionFile`` in ``core/src/db/meta``,
``MemTableFile.cpp`` in ``core/src/db/insert``, and ``CompactFile`` in ``core/src/db/DBImpl.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from airflow_provider_milvusdm.model.collections import SourcePosition
from airflow_provider_milvusdm.sources.milvus1x.catalog import FILE_TYPES_WITH_ROWS, Catalog
from airflow_provider_milvusdm.sources.milvus1x.log_segment import is_in_log

TIME = re.compile(r"[0-9]{1,19}")
NEW = 0
"""``file_type`` of a segment that rows still come into."""


def find_position(catalog: Catalog, collection: str) -> SourcePosition:
    """That of a collection that the catalog knows, without what only the log holds."""
    numbers = list(_numbers(catalog, collection))
    finished = max((number for number, file_type in numbers if file_type in FILE_TYPES_WITH_ROWS), default=0)
    begun = min((number for number, file_type in numbers if file_type == NEW), default=finished + 1)
    created = catalog.collections[collection]["created_on"]
    return SourcePosition(
        f"{collection} {created}", min(finished, begun - 1), max(catalog.flushed_lsns(collection).values())
    )


def with_log(position: SourcePosition, last_lsn: int) -> SourcePosition:
    """The position with the log taken in up to ``last_lsn``."""
    return replace(position, lsn=max(position.lsn, last_lsn))


def is_seen(segment: str, position: SourcePosition) -> bool:
    """Whether all rows of a segment were there at that position; never those of the log."""
    number = segment.rpartition("/")[2]
    return not is_in_log(segment) and _is_time(number) and int(number) <= position.segment


def _numbers(catalog: Catalog, collection: str) -> Iterator[tuple[int, int]]:
    """Number and ``file_type`` of each segment of a collection and its partitions."""
    for table_id in [collection, *(row["table_id"] for row in catalog.partitions.get(collection, []))]:
        for row in catalog.files.get(table_id, []):
            if _is_time(row["segment_id"]):
                yield int(row["segment_id"]), row["file_type"]


def _is_time(name: object) -> bool:
    """Whether a name is one that a server made; a damaged catalog may hold anything."""
    return isinstance(name, str) and bool(TIME.fullmatch(name))
