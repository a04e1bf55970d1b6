"""One partition while it is resolved: its segments are opened and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, SourceError
from airflow_provider_milvusdm.manifests import ResolvedPartition
from airflow_provider_milvusdm.model.collections import CollectionSpec, PartitionSpec, SegmentSpec, Slice
from airflow_provider_milvusdm.model.rows import RowPolicies, rows_within
from airflow_provider_milvusdm.rows.faults import EXAMPLES, list_ids
from airflow_provider_milvusdm.rows.invalid_vectors import find_invalid, skipped_rows
from airflow_provider_milvusdm.rows.key_ranges import SAMPLED_KEYS, KeyRanges, count_ranges, divide_keys, one_range
from airflow_provider_milvusdm.rows.live_rows import LiveRows
from airflow_provider_milvusdm.rows.row_hashes import SEED
from airflow_provider_milvusdm.sources.base import Segment, Source

Item = TypeVar("Item")


class Partition:
    """A partition that is being resolved. Its slices and its manifest are valid only if it has no faults."""

    def __init__(self, source: Source, collection: CollectionSpec, spec: PartitionSpec, policies: RowPolicies) -> None:
        self.spec = spec
        self.rows: list[LiveRows] = []
        """By segment."""
        self.faults: list[SourceError] = []
        self.notes: list[str] = []
        self.id_range: tuple[int, int] | None = None
        """Lowest and highest id."""
        self.key_ranges = one_range()
        self._source, self._collection, self._policies = source, collection, policies

    @property
    def live_rows(self) -> int:
        return sum(rows.segment.stored_rows for rows in self.rows) - self.deleted_rows

    @property
    def deleted_rows(self) -> int:
        return sum(rows.segment.deleted_rows + rows.segment.replayed_deletes for rows in self.rows)

    def open(self) -> None:
        """Open and check all segments, and apply the policy for invalid vectors. Errors become ``faults``."""
        self._try_each(self.spec.segments, self._open_segment)
        if not self.faults:
            self.key_ranges = self._divide_keys()
        if self._policies.invalid_vectors == "error":
            self._try_each(self.rows, self._refuse_invalid)
        elif not self.faults:
            self._skip_invalid()

    def slices(self) -> Iterator[Slice]:
        """All stored rows of the partition, one slice per segment, with new keys if that is the policy."""
        for rows in self.rows:
            stored_rows, key = rows.segment.stored_rows, rows.first_key
            yield Slice(self.spec.tag, rows.name, 0, stored_rows, file_version=rows.file_version, first_key=key)

    def resolved(self) -> ResolvedPartition:
        """The partition's manifest."""
        digest = hashlib.blake2b(self.spec.tag.encode(), digest_size=16)
        for rows, row_slice in zip(self.rows, self.slices(), strict=True):
            digest.update(rows.segment.fingerprint())
            digest.update(f"{rows.excluded(row_slice)} {row_slice.first_key} {rows.checksum}".encode())
        return ResolvedPartition(
            self.spec.tag,
            self.live_rows,
            self.deleted_rows,
            digest.hexdigest(),
            excluded=sum(rows.excluded_rows for rows in self.rows),
            notes=(*self.notes, *self._list_log_notes()),
            id_range=self.id_range,
            key_ranges=self.key_ranges.to_text(),
        )

    def _try_each(self, items: Iterable[Item], check: Callable[[Item], None]) -> None:
        for item in items:
            try:
                check(item)
            except SourceError as fault:
                self.faults.append(fault)

    def _open_segment(self, spec: SegmentSpec) -> None:
        segment = self._source.segment(self._collection, spec.name)
        self._check_count(spec, segment)
        key = self.spec.first_key if self._policies.duplicate_ids == "remap" else None
        if key is not None:
            key += sum(rows.segment.stored_rows for rows in self.rows)
        self.rows.append(LiveRows(spec.name, self.spec.tag, segment, rows_within(self._collection), key))

    def _divide_keys(self) -> KeyRanges:
        """Ranges to count the rows in, from a sample of their keys. The sample is the same each time."""
        count = count_ranges(self.live_rows, self._collection.vector_bytes)
        if count == 1:
            return one_range()
        random, share = np.random.default_rng(SEED), SAMPLED_KEYS * count / self.live_rows
        batches = (keys for rows in self.rows for keys in rows.read_keys())
        return divide_keys(np.concatenate([keys[random.random(len(keys)) < share] for keys in batches]), count)

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
        for _, batch in find_invalid(rows, self.key_ranges):
            ids, count = np.append(ids, batch.ids)[:EXAMPLES], count + len(batch)
        if count:
            raise RefusedRowsError(
                f"{count} vectors of collection {self._collection.name!r} hold NaN or infinity",
                where=f"partition {self.spec.tag!r}, segment {rows.name}",
                expected="finite float32 numbers: Milvus 2.x refuses others",
                found=f"ids {list_ids(ids, count)}",
                cure="Delete these rows in the source, or exclude them: invalid_vectors: skip saves them to a file.",
            )

    def _skip_invalid(self) -> None:
        with skipped_rows(self._policies.skipped_rows_dir, self._collection, self.spec.tag) as file:
            for rows in self.rows:
                for offsets, batch in find_invalid(rows, self.key_ranges):
                    rows.exclude(offsets)
                    file.add(rows.name, offsets, batch)
        if file.rows:
            outcome = f"are in {file.path}" if file.path else "would be excluded and saved"
            self.notes.append(f"partition {self.spec.tag!r}: {file.rows} rows with NaN or infinity {outcome}")

    def _list_log_notes(self) -> Iterator[str]:
        inserted, deleted = self.spec.replayed_rows, sum(rows.segment.replayed_deletes for rows in self.rows)
        if inserted or deleted:
            yield f"partition {self.spec.tag!r}: {inserted} rows inserted and {deleted} deleted by the server's log"
