"""Write the rows of a load unit, in batches, so that being killed anywhere costs only time."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.sources.read import read_slices
from airflow_provider_milvusdm.targets.milvus_collection import find_existing
from airflow_provider_milvusdm.targets.milvus_mark import Mark
from airflow_provider_milvusdm.targets.milvus_rows import delete_ids, is_lite, upserts_as_given
from airflow_provider_milvusdm.vectors import LoadUnit, TargetCollection, VectorBatch

if TYPE_CHECKING:
    from pymilvus import MilvusClient

BATCH_BYTES = 8 << 20
"""Ids and vectors in one insert; a server takes 64 MiB a request."""
BATCH_ROWS = 65536
"""Rows in one insert: short vectors weigh little, the Python objects of their rows some hundred bytes each."""
ID_BYTES = 8
STRIDE_BATCHES = 8
"""Batches between two checkpoints."""
CHECKPOINT = "checkpoint"

progress = logging.getLogger("airflow_provider_milvusdm.progress")


class CheckpointStore(Protocol):
    """Where a checkpoint outlives the process: Airflow's task state, say."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """How far a unit's writer got, in stored rows of the unit.

    ``done`` rows are in the target; those from there to ``intended`` may be. Worth something only for the same
    ``unit`` and the same ``incarnation`` of the target.
    """

    unit: str
    incarnation: str
    done: int = 0
    intended: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """Live rows among the ``done``, by target partition."""


@dataclass(frozen=True)
class Loaded:
    """What a load task brought into the target: live rows by target partition, and the time it took."""

    collection: str
    rows: dict[str, int]
    seconds: float


def load_unit(client: MilvusClient, unit: LoadUnit, store: CheckpointStore) -> Loaded:
    """Load ``unit`` into its target.

    Rows that an earlier attempt certainly wrote are skipped, those that it may have written are upserted (or deleted
    and inserted, where an upsert would change them), the others inserted.
    """
    started = time.monotonic()
    target, mark = _marked_target(client, unit)
    last = _last_checkpoint(unit, mark, store)
    in_doubt = last.intended if mark.is_loading and not unit.upsert else unit.stored_rows
    _refuse_doubt_without_ids(target, last, in_doubt)
    stride = STRIDE_BATCHES * _batch_rows(unit)
    writer = _Writer(client, target)
    done, noted, rows = last.done, last.done, dict(last.rows)
    batches = read_slices(unit.source, unit.collection, unit.slices, _batch_rows(unit), done)
    for end, partition, batch in batches:
        if end > noted:
            noted = max(done + stride, end)
            store.set(CHECKPOINT, asdict(replace(last, done=done, intended=max(noted, in_doubt), rows=rows)))
        writer.write(partition, batch, upsert=done < in_doubt)
        done = end
        rows[partition] = rows.get(partition, 0) + len(batch)
        progress.info("%s: %d of %d rows", unit.label, done, unit.stored_rows, extra={"rows": len(batch)})
    writer.flush()
    store.set(CHECKPOINT, asdict(replace(last, done=done, intended=done, rows=rows)))
    return Loaded(unit.collection.name, rows, time.monotonic() - started)


def _marked_target(client: MilvusClient, unit: LoadUnit) -> tuple[TargetCollection, Mark]:
    """The unit's target, which must be marked for this migration."""
    target = unit.target
    existing = find_existing(client, target.name) if target else None
    mark = existing.mark if existing else None
    if target is None or mark is None or mark.source != unit.migration:
        raise TargetError(
            f"collection {target.name if target else unit.collection.name!r} of the target is not the one that "
            "was made for this load",
            expected=f"a mark with source {unit.migration}",
            found=f"a mark with source {mark.source}" if mark else "no mark" if existing else "no such collection",
            cure="It was dropped or made anew by something else: clear create_collection and what follows, "
            "or start a new run.",
        )
    return target, mark


def _last_checkpoint(unit: LoadUnit, mark: Mark, store: CheckpointStore) -> Checkpoint:
    """The checkpoint of an earlier attempt, or one at the start."""
    fresh = Checkpoint(hashlib.blake2b(repr(unit.slices).encode(), digest_size=16).hexdigest(), mark.incarnation)
    found = store.get(CHECKPOINT)
    if not found:
        return fresh
    last = Checkpoint(**found)
    return last if (last.unit, last.incarnation) == (fresh.unit, fresh.incarnation) else fresh


def _refuse_doubt_without_ids(target: TargetCollection, last: Checkpoint, in_doubt: int) -> None:
    if target.auto_id and last.done < in_doubt:
        raise TargetError(
            f"an earlier attempt to load into collection {target.name!r} ended in doubt",
            expected="ids that say which rows are there already",
            found=f"ids made by the target (ids: auto), and up to {in_doubt - last.done} rows that may be there",
            cure="No retry can be exact: load it anew with mode overwrite.",
        )


def _batch_rows(unit: LoadUnit) -> int:
    return min(max(BATCH_BYTES // (unit.collection.vector_bytes + ID_BYTES), 1), BATCH_ROWS)


class _Writer:
    """Inserts and upserts batches.

    Milvus Lite keeps what isn't flushed by id alone: a row of one partition would displace another's with the
    same id, so it's flushed before each partition. Before the first one, too: a load that was killed may have
    left rows of another.
    """

    def __init__(self, client: MilvusClient, target: TargetCollection) -> None:
        self.client, self.target = client, target
        self.lite, self.upserts = is_lite(client), upserts_as_given(client, target)
        self.partition = ""

    def write(self, partition: str, batch: VectorBatch, *, upsert: bool) -> None:
        partition, batch = addressed(self.target, partition, batch)
        if self.partition != partition:
            self.flush()
            self.partition = partition
        if not len(batch):
            return
        if upsert and not self.upserts:
            delete_ids(self.client, self.target, partition, batch.ids.tolist())
            upsert = False
        call = self.client.upsert if upsert else self.client.insert
        result = call(self.target.name, data=_rows(self.target, batch), partition_name=partition)
        written = result["upsert_count" if upsert else "insert_count"]
        if written != len(batch):
            raise RuntimeError(f"the target took {written} of {len(batch)} rows of a batch")

    def flush(self) -> None:
        if self.lite:
            self.client.flush(self.target.name)


def addressed(target: TargetCollection, partition: str, batch: VectorBatch) -> tuple[str, VectorBatch]:
    """The partition to write to, and the batch: where the tag is a partition key, a column of it and no partition."""
    if not target.partition_field:
        return partition, batch
    return "", replace(batch, columns={**batch.columns, target.partition_field: partition})


def _rows(target: TargetCollection, batch: VectorBatch) -> list[dict[str, Any]]:
    vectors = batch.vectors if batch.vectors.dtype != "u1" else [row.tobytes() for row in batch.vectors]
    columns = {target.vector_field: vectors}
    if not target.auto_id:
        columns[target.id_field] = batch.ids.tolist()
    for name, values in batch.columns.items():
        columns[name] = [values] * len(batch) if isinstance(values, str) else values.tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
