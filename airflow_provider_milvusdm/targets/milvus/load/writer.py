"""Write the rows of a load unit in batches; a load that is killed at any point can be retried exactly."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import Loaded
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.progress import Meter
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.targets.milvus.checkpoint import Checkpoint, CheckpointStore, Progress, last_checkpoint
from airflow_provider_milvusdm.targets.milvus.fence import Fence
from airflow_provider_milvusdm.targets.milvus.marker import Marker
from airflow_provider_milvusdm.targets.milvus.prepare.existing import find_existing
from airflow_provider_milvusdm.targets.milvus.server.capabilities import (
    keeps_unflushed_rows_by_partition,
    serves_requests_concurrently,
)
from airflow_provider_milvusdm.targets.milvus.server.in_flight import InFlight

if TYPE_CHECKING:
    from pymilvus import MilvusClient


BATCH_BYTES = 4 << 20
"""Bytes of all columns in one request. A server accepts 64 MiB, but 2.3 is slower with 8 MiB, and with 2 MiB."""
BATCH_ROWS = 65536
"""Rows in one request; with more a server is slower, even if they are short."""
IN_FLIGHT = 2
"""Requests sent to a server at the same time; more are not faster, and each takes memory in this process."""
ID_BYTES = 8
STRIDE_BATCHES = 32
"""Batches between two checkpoints."""


def load_unit(client: MilvusClient, unit: LoadUnit, store: CheckpointStore) -> Loaded:
    """Load ``unit`` into its target, and continue where an earlier attempt ended.

    Raises TargetError where the target is not the one that was created for the unit, or where no retry can be exact.
    """
    target, marker = marked_target(client, unit)
    return load_rest(client, unit, store, target, marker, last_checkpoint(unit, store))


def load_rest(
    client: MilvusClient,
    unit: LoadUnit,
    store: CheckpointStore,
    target: TargetCollection,
    marker: Marker,
    last: Checkpoint,
) -> Loaded:
    """Load what an earlier attempt has not loaded, which ended at its ``last`` checkpoint.

    Rows that it certainly wrote are skipped. Rows that it may have written are upserted, or deleted and inserted where
    an upsert would change them. The others are inserted. Raises TargetError as :func:`load_unit`.
    """
    started = time.monotonic()
    in_doubt = last.intended if marker.is_loading and not unit.upsert else unit.stored_rows
    _refuse_doubt_without_ids(target, last, in_doubt)
    rows = batch_rows(unit)
    reached = Progress(store, last, in_doubt, STRIDE_BATCHES * rows)
    meter = Meter(unit.label, unit.stored_rows, _row_bytes(unit), last.done, collection=unit.collection.name)

    def look() -> None:
        marked_target(client, unit)
        reached.refuse_other_attempt()

    with closing(Writer(client, target, Fence(look).check)) as writer:
        for end, partition, batch in read_slices(unit.source, unit.collection, unit.slices, rows, last.done):
            upsert = reached.intend(end)
            writer.write(partition, batch, upsert, partial(_done, meter, reached, end, partition, len(batch)))
        writer.finish()
    reached.finish()
    return Loaded(unit.collection.name, reached.rows, time.monotonic() - started, unit.digest)


def _done(meter: Meter, reached: Progress, end: int, partition: str, rows: int) -> None:
    reached.done(end, partition, rows)
    meter.reach(end)


def marked_target(client: MilvusClient, unit: LoadUnit) -> tuple[TargetCollection, Marker]:
    """The unit's target and its marker. Raises TargetError where the marker is not that of this migration."""
    target = unit.target
    existing = find_existing(client, target.name) if target else None
    marker = existing.marker if existing else None
    if target is None or marker is None or (marker.source, marker.generation) != (unit.migration, unit.generation):
        raise TargetError(
            f"collection {target.name if target else unit.collection.name!r} of the target is not the one that "
            "was made for this load",
            expected=f"a marker with source {unit.migration}, generation {unit.generation}",
            found=_described(marker) if existing else "no such collection",
            cure="Something else dropped it or created it again, or another run continues with it: repeat the create "
            "step and the steps after it, or start a new run.",
        )
    return target, marker


def is_published(client: MilvusClient, unit: LoadUnit) -> bool:
    """Whether the collection that was made for the unit was verified, and has got its name."""
    existing = find_existing(client, unit.published) if unit.published else None
    marker = existing.marker if existing else None
    return marker is not None and (marker.source, marker.generation) == (unit.migration, unit.generation)


def _described(marker: Marker | None) -> str:
    return f"a marker with source {marker.source}, generation {marker.generation}" if marker else "no marker"


def _refuse_doubt_without_ids(target: TargetCollection, last: Checkpoint, in_doubt: int) -> None:
    if target.ids_by_target and last.done < in_doubt:
        raise TargetError(
            f"nobody can tell which rows an earlier attempt wrote to collection {target.name!r}",
            expected="ids that show which rows the target holds already",
            found=f"ids made by the target (ids: auto), and up to {in_doubt - last.done} rows that it may hold",
            cure="No retry can be exact: load the collection again with mode overwrite.",
        )


def batch_rows(unit: LoadUnit) -> int:
    """Number of stored rows in one request."""
    return min(max(BATCH_BYTES // _row_bytes(unit), 1), BATCH_ROWS)


def _row_bytes(unit: LoadUnit) -> int:
    """Bytes of a row, including the columns beside its id and vector."""
    ids = 2 if unit.target and unit.target.own_keys else 1
    keyed = unit.target and unit.target.partition_field
    tag = max(len(row_slice.partition.encode()) for row_slice in unit.slices) if keyed else 0
    return unit.collection.vector_bytes + ids * ID_BYTES + tag


class Writer:
    """Inserts and upserts batches, a few at the same time.

    Where the target does not keep unflushed rows by partition, it is flushed before each partition. Also before the
    first one: a load that was killed may have left unflushed rows of another partition.
    """

    def __init__(self, client: MilvusClient, target: TargetCollection, fence: Callable[[], float]) -> None:
        from airflow_provider_milvusdm.targets.milvus.server.requests import WriteRequests

        self.client, self.target = client, target
        self.requests = WriteRequests(client, target, fence)
        self.must_flush = not keeps_unflushed_rows_by_partition(client)
        self.in_flight = InFlight(IN_FLIGHT if serves_requests_concurrently(client) else 1)
        self.partition = ""

    def write(self, partition: str, batch: VectorBatch, upsert: bool, then: Callable[[], None]) -> None:
        """Start writing a batch; ``then`` is called in this thread once all rows up to its end are written."""
        partition, batch = addressed(self.target, partition, batch)
        if self.partition != partition:
            self.finish()
            self.partition = partition
        self.in_flight.start(partial(self._send, partition, batch, upsert), then)

    def finish(self) -> None:
        """Wait until everything is written, and flush where the target needs it."""
        self.in_flight.settle()
        if self.must_flush:
            self.client.flush(self.target.name)

    def close(self) -> None:
        """Wait until no request is running any more; errors are ignored."""
        self.in_flight.close()

    def _send(self, partition: str, batch: VectorBatch, upsert: bool) -> None:
        if not len(batch):
            return
        written = (self.requests.upsert if upsert else self.requests.insert)(partition, batch)
        if written != len(batch):
            raise RuntimeError(f"the target accepted {written} of {len(batch)} rows of a batch")


def addressed(target: TargetCollection, partition: str, batch: VectorBatch) -> tuple[str, VectorBatch]:
    """The partition to write to and the batch; where tags are partition keys, no partition and a batch with the tag."""
    if not target.partition_field:
        return partition, batch
    return "", replace(batch, columns={**batch.columns, target.partition_field: partition})
