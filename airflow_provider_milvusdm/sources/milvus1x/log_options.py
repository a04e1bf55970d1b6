"""What a manifest says of the log of a Milvus 1.x server that is to be replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from airflow_provider_milvusdm.model.collections import PartitionSpec, Slice, SourceRef
from airflow_provider_milvusdm.sources.milvus1x.segment_name import LogSegmentName, SegmentFolder, parse_segment_name
from airflow_provider_milvusdm.sources.milvus1x.unflushed import Unflushed
from airflow_provider_milvusdm.storage.paths import AnyPath


@dataclass(frozen=True)
class LogOptions:
    """The part of the log that belongs to some partitions of one collection."""

    log_folder: str
    last_lsn: int
    """Of the collection's last record that is to be replayed."""
    flushed: Mapping[str, int]
    """By tag: the last lsn whose operations are in the partition's segment folders."""
    tags: Mapping[str, str]
    """By ``table_id``: the tag of the partition whose segment folders these are."""

    @classmethod
    def of(
        cls,
        log_folder: AnyPath,
        unflushed: Unflushed,
        flushed: Mapping[str, int],
        partitions: Iterable[PartitionSpec],
    ) -> Self:
        """The options for these partitions of a collection; ``flushed``: lsns by tag."""
        partitions = list(partitions)
        tags = {
            name.table_id: partition.tag
            for partition in partitions
            for segment in partition.segments
            if isinstance(name := parse_segment_name(segment.name), SegmentFolder)
        }
        lsns = {partition.tag: max(flushed[partition.tag], unflushed.start) for partition in partitions}
        return cls(str(log_folder), unflushed.last_lsn, lsns, tags)

    def as_manifest(self) -> dict[str, Any]:
        return asdict(self)

    def narrowed(self, segments: Iterable[str]) -> Self:
        """The options that reading these segments needs."""
        names = [parse_segment_name(segment) for segment in dict.fromkeys(segments)]
        table_ids = {name.table_id for name in names if isinstance(name, SegmentFolder)}
        tags = {table_id: tag for table_id, tag in self.tags.items() if table_id in table_ids}
        read = {*tags.values(), *(name.tag for name in names if isinstance(name, LogSegmentName))}
        flushed = {tag: lsn for tag, lsn in self.flushed.items() if tag in read}
        return replace(self, flushed=flushed, tags=tags)


def narrow_log(ref: SourceRef, slices: Iterable[Slice]) -> SourceRef:
    """A Milvus 1.x source with the log options that reading these slices needs."""
    if not ref.options:
        return ref
    options = LogOptions(**ref.options).narrowed(row_slice.segment for row_slice in slices)
    return replace(ref, options=options.as_manifest())
