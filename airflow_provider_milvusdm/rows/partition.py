"""One partition while it is resolved: its segments are opened and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, SourceError
from airflow_provider_milvusdm.manifests import ResolvedPartition
from airflow_provider_milvusdm.model.collections import CollectionSpec, PartitionSpec, SegmentSpec, Slice
from airflow_provider_milvusdm.model.rows import RowPolicies, rows_within
from airflow_provider_milvusdm.rows.invalid_vectors import find_invalid, skipped_rows
from airflow_provider_milvusdm.rows.key_ranges import SAMPLED_KEYS, KeyRanges, count_ranges, divide_keys, one_range
from airflow_provider_milvusdm.rows.live_rows import LiveRows
from airflow_provider_milvusdm.rows.row_hashes import SEED
from airflow_provider_milvusdm.sources.base import Segment, Source

EXAMPLES = 20
Item = TypeVar("Item")


class Partition:
    """One partition being resolved; worth nothing where there are ``faults`` afterwards."""

    def __init__(self, source: Source, collection: CollectionSpec, spec: PartitionSpec, policies: RowPolicies) -> None:
        self.source, self.collection, self.spec, self.policies = source, collection, spec, policies
        self.rows: list[LiveRows] = []
        self.faults: list[SourceError] = []
        self.notes: list[str] = []
        self.id_range: tuple[int, int] | None = None
        self.key_ranges = one_range()

    @property
    def live_rows(self) -> int:
        return sum(some.segment.stored_rows for some in self.rows) - self.deleted_rows

    @property
    def deleted_rows(self) -> int:
        return sum(some.segment.deleted_rows + some.segment.replayed_deletes for some in self.rows)

    def open(self) -> None:
        """Open and check all segments, read all vectors; leave out invalid ones, if that is the policy."""
        self._try_each(self.spec.segments, self._open_segment)
        if not self.faults:
            self.key_ranges = self._divide_keys()
        if self.policies.invalid_vectors == "error":
            self._try_each(self.rows, self._refuse_invalid)
        elif not self.faults:
            self._skip_invalid()

    def _try_each(self, items: Iterable[Item], check: Callable[[Item], None]) -> None:
        """Check all, whatever is wrong with some."""
        for item in items:
            try:
                check(item)
            except SourceError as fault:
                self.faults.append(fault)

    def _open_segment(self, spec: SegmentSpec) -> None:
        segment = self.source.segment(self.collection, spec.name)
        self._check_count(spec, segment)
        key = self.spec.first_key if self.policies.duplicate_ids == "remap" else None
        if key is not None:
            key += sum(some.segment.stored_rows for some in self.rows)
        self.rows.append(LiveRows(spec.name, self.spec.tag, segment, rows_within(self.collection), key))

    def _divide_keys(self) -> KeyRanges:
        """Ranges for the rows to be counted in, by a sample of their keys: the same one each time."""
        count = count_ranges(self.live_rows, self.collection.vector_bytes)
        if count == 1:
            return one_range()
        random, share = np.random.default_rng(SEED), SAMPLED_KEYS * count / self.live_rows
        batches = (keys for some in self.rows for keys in some.read_keys())
        return divide_keys(np.concatenate([keys[random.random(len(keys)) < share] for keys in batches]), count)

    def _check_count(self, spec: SegmentSpec, segment: Segment) -> None:
        live = segment.stored_rows - segment.deleted_rows
        if live != spec.live_rows:
            raise DamagedSourceError(
                "a segment does not hold the rows that it was said to",
                where=f"collection {self.collection.name!r}, segment {spec.name}",
                expected=f"row_count {spec.live_rows}",
                found=f"{segment.stored_rows} ids, {segment.deleted_rows} deleted: {live} live rows",
                cure="The server may have been writing while the directory was copied: stop it and copy again, "
                "or restore a backup.",
            )

    def _refuse_invalid(self, rows: LiveRows) -> None:
        bad, count = np.empty(0, np.int64), 0
        for _, batch in find_invalid(rows, self.key_ranges):
            bad, count = np.append(bad, batch.ids)[:EXAMPLES], count + len(batch)
        if count:
            raise RefusedRowsError(
                f"{count} vectors of collection {self.collection.name!r} hold NaN or infinity",
                where=f"partition {self.spec.tag!r}, segment {rows.name}",
                expected="finite float32 numbers: Milvus 2.x refuses others",
                found=f"ids {examples_of(bad, count)}",
                cure="Delete these rows in the source, or leave them out: invalid_vectors: skip saves them to a file.",
            )

    def _skip_invalid(self) -> None:
        with skipped_rows(self.policies.skipped_rows_dir, self.collection, self.spec.tag) as file:
            for some in self.rows:
                for offsets, batch in find_invalid(some, self.key_ranges):
                    some.exclude(offsets)
                    file.add(some.name, offsets, batch)
        if file.rows:
            place = f"are in {file.path}" if file.path else "would be left out and saved"
            self.notes.append(f"partition {self.spec.tag!r}: {file.rows} rows with NaN or infinity {place}")

    def slices(self) -> Iterator[Slice]:
        """All stored rows of the partition, with keys of their own where that is the policy."""
        for some in self.rows:
            yield Slice(
                self.spec.tag,
                some.name,
                0,
                some.segment.stored_rows,
                file_version=some.file_version,
                first_key=some.first_key,
            )

    def _replayed(self) -> Iterator[str]:
        """What a log adds and takes away."""
        inserted, deleted = self.spec.replayed_rows, sum(some.segment.replayed_deletes for some in self.rows)
        if inserted or deleted:
            yield f"partition {self.spec.tag!r}: {inserted} rows inserted and {deleted} deleted by the server's log"

    def resolved(self) -> ResolvedPartition:
        digest = hashlib.blake2b(self.spec.tag.encode(), digest_size=16)
        for some, piece in zip(self.rows, self.slices(), strict=True):
            digest.update(some.segment.fingerprint())
            digest.update(f"{some.excluded(piece)} {piece.first_key} {some.checksum}".encode())
        return ResolvedPartition(
            self.spec.tag,
            self.live_rows,
            self.deleted_rows,
            digest.hexdigest(),
            excluded=sum(some.excluded_rows for some in self.rows),
            notes=(*self.notes, *self._replayed()),
            id_range=self.id_range,
            key_ranges=self.key_ranges.to_text(),
        )


def examples_of(ids: npt.NDArray[np.int64], count: int) -> str:
    more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
    return ", ".join(map(str, ids[:EXAMPLES].tolist())) + more
