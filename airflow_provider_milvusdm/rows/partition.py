"""One partition, or the part of it that a share takes, while it is resolved: its rows are opened and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, SourceError
from airflow_provider_milvusdm.manifests import ResolvedSlice, SkippedCount
from airflow_provider_milvusdm.model.collections import CollectionSpec, PartitionSpec, SegmentSpec, Slice
from airflow_provider_milvusdm.model.rows import RowPolicies, rows_within
from airflow_provider_milvusdm.rows.faults import EXAMPLES, list_ids
from airflow_provider_milvusdm.rows.invalid_vectors import find_invalid, skipped_rows
from airflow_provider_milvusdm.rows.key_ranges import KeySample, one_range
from airflow_provider_milvusdm.rows.live_rows import NO_IDS, LiveRows, join_ranges
from airflow_provider_milvusdm.rows.resolved import PartitionRows
from airflow_provider_milvusdm.sources.base import Segment, Source
from airflow_provider_milvusdm.storage.file_version import refuse_changed, version_of

Item = TypeVar("Item")


class Partition:
    """A partition that is being resolved. What it becomes is valid only if it has no faults."""

    def __init__(self, collection: CollectionSpec, spec: PartitionSpec, policies: RowPolicies) -> None:
        self.spec = spec
        self.rows: list[LiveRows] = []
        """By segment."""
        self.faults: list[SourceError] = []
        self.notes: list[str] = []
        """On its ids, for the report."""
        self.skipped: SkippedCount | None = None
        self.key_ranges = one_range()
        self._collection, self._policies = collection, policies

    @property
    def live_rows(self) -> int:
        return sum(rows.segment.stored_rows - deleted_rows(rows.segment) for rows in self.rows)

    @property
    def id_range(self) -> tuple[int, int]:
        """Lowest and highest id of the rows whose vectors are valid."""
        return join_ranges(rows.id_range or NO_IDS for rows in self.rows)

    def open(self, source: Source) -> None:
        """Open all segments and check their numbers of rows. Errors become ``faults``."""
        self._try_each(self.spec.segments, lambda spec: self._open_segment(source, spec))

    def divide_keys(self) -> None:
        """Make ranges to count the rows in, from a sample of their keys. The sample is the same each time."""
        sample = KeySample(self.live_rows, self._collection.vector_bytes)
        if sample.is_needed:
            for rows in self.rows:
                for keys in rows.read_keys():
                    sample.add(keys)
        self.key_ranges = sample.key_ranges()

    def check_vectors(self, share: int | None = None) -> None:
        """Count all rows, and apply the policy for invalid vectors. Errors become ``faults``.

        :param share: the number of the share, if the partition has several.
        """
        for rows in self.rows:
            rows.key_ranges = self.key_ranges
        if self._policies.invalid_vectors == "error":
            self._try_each(self.rows, self._refuse_invalid)
        elif self.rows and not self.faults:
            self._skip_invalid(share)

    def resolved(self) -> PartitionRows:
        """What it becomes, if no share has other rows of it."""
        segments = [resolved_slice(rows) for rows in self.rows]
        excluded = {rows.name: rows.excluded for rows in self.rows if rows.excluded}
        skipped = [self.skipped] if self.skipped else []
        notes = [*skipped_notes(self.spec.tag, skipped), *self.notes]
        unsaved = count_unsaved(self.spec.tag, skipped)
        return PartitionRows(self.spec, segments, excluded, self.key_ranges, self.id_range, notes, unsaved)

    def _try_each(self, items: Iterable[Item], check: Callable[[Item], None]) -> None:
        for item in items:
            try:
                check(item)
            except SourceError as fault:
                self.faults.append(fault)

    def _open_segment(self, source: Source, spec: SegmentSpec) -> None:
        segment = source.segment(self._collection, spec.name)
        key = self.spec.first_key if self._policies.duplicate_ids == "remap" else None
        if key is not None:
            key += sum(rows.segment.stored_rows for rows in self.rows)
        version = spec.file_version or version_of(segment.files)
        row_slice = Slice(self.spec.tag, spec.name, 0, segment.stored_rows, file_version=version, first_key=key)
        if spec.file_version:
            refuse_changed(segment.files, row_slice)
        self._check_count(spec, segment)
        self.rows.append(LiveRows(row_slice, segment, rows_within(self._collection)))

    def _check_count(self, spec: SegmentSpec, segment: Segment) -> None:
        live_rows = segment.stored_rows - segment.deleted_rows
        if live_rows != spec.live_rows:
            raise DamagedSourceError(
                "the number of rows in a segment is not that in the catalog",
                where=f"collection {self._collection.name!r}, segment {spec.name}",
                expected=f"row_count {spec.live_rows}",
                found=f"{segment.stored_rows} ids, {segment.deleted_rows} deleted: {live_rows} live rows",
                cure="The server may have been writing while the directory was copied: stop it and copy again, "
                "or restore a backup.",
            )

    def _refuse_invalid(self, rows: LiveRows) -> None:
        ids, count = np.empty(0, np.int64), 0
        for _, batch in find_invalid(rows):
            ids, count = np.append(ids, batch.ids)[:EXAMPLES], count + len(batch)
        if count:
            raise RefusedRowsError(
                f"{count} vectors of collection {self._collection.name!r} hold NaN or infinity",
                where=f"partition {self.spec.tag!r}, segment {rows.name}",
                expected="finite float32 numbers: Milvus 2.x refuses others",
                found=f"ids {list_ids(ids, count)}",
                cure="Delete these rows in the source, or exclude them: invalid_vectors: skip saves them to a file.",
            )

    def _skip_invalid(self, share: int | None) -> None:
        with skipped_rows(self._policies.skipped_rows_dir, self._collection, self.spec.tag, share) as file:
            for rows in self.rows:
                for offsets, batch in find_invalid(rows):
                    rows.exclude(offsets)
                    file.add(rows.name, offsets, batch)
        if file.rows:
            self.skipped = SkippedCount(self.spec.tag, file.rows, str(file.path or ""))


def resolved_slice(rows: LiveRows) -> ResolvedSlice:
    """The manifest of rows whose vectors were read."""
    segment, row_slice, checksum = rows.segment, rows.row_slice, str(rows.checksum)
    if row_slice.start:
        return ResolvedSlice(row_slice, checksum)
    fingerprint, replayed = segment.fingerprint().hex(), segment.replayed_deletes
    return ResolvedSlice(row_slice, checksum, fingerprint, deleted_rows(segment), replayed)


def deleted_rows(segment: Segment) -> int:
    """Number of rows that the source or its log deleted."""
    return segment.deleted_rows + segment.replayed_deletes


def skipped_notes(tag: str, skipped: Iterable[SkippedCount]) -> Iterator[str]:
    """What the report says of rows of a partition that were excluded because of their vectors."""
    counts = [count for count in skipped if count.tag == tag]
    if not counts:
        return
    paths = [count.path for count in counts if count.path]
    more = f" and {len(paths) - 1} more files in its folder" if len(paths) > 1 else ""
    outcome = f"are in {paths[0]}{more}" if paths else "would be excluded and saved"
    yield f"partition {tag!r}: {sum(count.rows for count in counts)} rows with NaN or infinity {outcome}"


def count_unsaved(tag: str, skipped: Iterable[SkippedCount]) -> int:
    """Number of rows of a partition that were excluded because of their vectors, and are in no file."""
    return sum(count.rows for count in skipped if count.tag == tag and not count.path)
