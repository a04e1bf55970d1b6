"""Verify a collection: the target's counts against what was read, a sample of rows bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_milvusdm.report import (
    FAILED,
    PLANNED,
    SKIPPED,
    VERIFIED,
    CollectionReport,
    PartitionReport,
    SearchReport,
)
from airflow_provider_milvusdm.sources.read import read_slices
from airflow_provider_milvusdm.target_settings import CollectionSettings
from airflow_provider_milvusdm.targets.milvus_collection import find_existing
from airflow_provider_milvusdm.targets.milvus_estimate import estimate_target
from airflow_provider_milvusdm.targets.milvus_index import index_for, is_loaded, searchable
from airflow_provider_milvusdm.targets.milvus_mark import set_mark
from airflow_provider_milvusdm.targets.milvus_rows import count_rows, is_lite, read_vectors, side_by_side
from airflow_provider_milvusdm.targets.milvus_schema import IndexSpec
from airflow_provider_milvusdm.targets.milvus_search import SearchCheck, measure_search
from airflow_provider_milvusdm.targets.milvus_units import collection_units
from airflow_provider_milvusdm.targets.milvus_writer import Loaded
from airflow_provider_milvusdm.vectors import (
    CollectionPlan,
    CollectionSpec,
    CreatedCollection,
    LoadUnit,
    ResolvedPartition,
    Slice,
    VectorBatch,
)

if TYPE_CHECKING:
    from pymilvus import MilvusClient

SAMPLED_ROWS = 1024
"""Rows read back of a collection, shared among its partitions."""
SAMPLED_WINDOW = 64
"""Stored rows looked at for a live one, at a time."""


def verify_collection(
    client: MilvusClient,
    plan: CollectionPlan,
    created: CreatedCollection | None,
    loads: Sequence[Loaded],
    faults: Sequence[str] = (),
    changes: Sequence[str] = (),
    *,
    settings: CollectionSettings | None = None,
    verify: str = "sample",
    create_index: bool = True,
    search: SearchCheck | None = None,
) -> CollectionReport:
    """Build the index, load the collection, count and compare; a verified one is marked as complete.

    ``loads``: what the load tasks of this collection brought; ``faults``: what stopped earlier steps; ``changes``: what
    of the source is not as it was when it was inspected, each a fault, too. The report names every fault; nothing is
    raised for them.
    """
    stopped = (*faults, *changes)
    if plan.collection is None or created is None:
        found = (plan.error,) if plan.error else stopped or ("not created: see the log of create_collection",)
        return CollectionReport(plan.name, plan.target.name, faults=found)
    units = len(list(collection_units(plan, created)))
    if len(loads) < units:
        found = (f"{units - len(loads)} of {units} load units were not loaded", *stopped)
        return CollectionReport(plan.name, plan.target.name, action=created.action, faults=found)
    verification = _Verification(client, plan, plan.collection, created, loads, settings or CollectionSettings())
    if created.planned:
        return verification.planned()
    if created.action == "skipped":
        return verification.skipped()
    return verification.run(verify, create_index, search or SearchCheck(), changes)


class _Verification:
    """One collection being verified."""

    def __init__(
        self,
        client: MilvusClient,
        plan: CollectionPlan,
        collection: CollectionSpec,
        created: CreatedCollection,
        loads: Sequence[Loaded],
        settings: CollectionSettings,
    ) -> None:
        self.client, self.collection, self.created, self.loads = client, collection, created, loads
        self.plan = replace(plan, notes=plan.notes + created.notes)
        self.settings, self.target = settings, plan.target
        self.index = index_for(client, collection, settings)
        self.loaded: Counter[str] = Counter()
        for load in loads:
            self.loaded.update(load.rows)

    def run(self, verify: str, create_index: bool, check: SearchCheck, changes: Sequence[str]) -> CollectionReport:
        self.client.flush(self.target.name)
        with searchable(self.client, self.target, self.index, self.settings, keep=create_index):
            partitions = self._partitions()
            faults = [fault for partition in partitions for fault in self._count_faults(partition)]
            sampled, different = self._compare_sample() if verify == "sample" and not self.target.auto_id else (0, [])
            search = self._search(check) if check.queries and create_index else None
        faults += [*different, *changes]
        if search and search.recall < check.recall:
            faults.append(f"too little is found: {search}; expected a recall of {check.recall}")
        if not faults:
            self._complete()
        report = replace(self._report(partitions), sampled=sampled, search=search, faults=tuple(faults))
        return report if faults else replace(report, status=VERIFIED)

    def _search(self, check: SearchCheck) -> SearchReport | None:
        """Search the target, unless it holds rows that the source doesn't know."""
        if any(self.created.before.values()):
            return None
        return measure_search(self.client, self.plan, self.created.before, self.index.metric, check)

    def planned(self) -> CollectionReport:
        """What a run would do, and what it would take; the target is not touched."""
        partitions = tuple(
            PartitionReport(
                part.tag, self.plan.partition_names[part.tag], part.live_rows, part.deleted_rows, part.left_out
            )
            for part in self.plan.partitions
        )
        estimate = estimate_target(self.client, self.collection, self.index, self.plan.rows)
        return replace(
            self._report(partitions),
            status=PLANNED,
            action=f"would be {self.created.action}",
            target_index=str(self.index),
            notes=(*self.plan.notes, *self.index.notes, *estimate),
        )

    def skipped(self) -> CollectionReport:
        """Leave an existing collection as it is and say how it compares."""
        partitions = self._partitions()
        unequal = [part.partition for part in partitions if part.counted is not None and part.counted != part.rows]
        notes = [f"exists: skipped, though the counts of {', '.join(unequal)} differ"] if unequal else []
        if any(part.counted is None for part in partitions):
            notes.append("exists: skipped, and not loaded, so it could not be counted")
        return replace(self._report(partitions), status=SKIPPED, notes=self.plan.notes + tuple(notes))

    def _report(self, partitions: tuple[PartitionReport, ...]) -> CollectionReport:
        rows, seconds = sum(self.loaded.values()), sum(load.seconds for load in self.loads)
        return CollectionReport(
            self.plan.name,
            self.target.name,
            status=FAILED,
            action=self.created.action,
            metric=self.collection.metric,
            target_metric=self.index.metric,
            index=str(IndexSpec(self.collection.index_type, self.collection.metric, self.collection.index_params)),
            target_index=self._target_index(),
            partitions=partitions,
            rows_per_second=round(rows / seconds) if rows and seconds else None,
            notes=self.plan.notes + self.index.notes + self._left_alone(),
        )

    def _left_alone(self) -> tuple[str, ...]:
        """A note for partitions that exist and were skipped while others of the collection were loaded."""
        names = [tag for tag, name in self.plan.partition_names.items() if name not in self.created.before]
        if not names or self.created.planned or self.created.action == "skipped":
            return ()
        return (f"partitions that exist already were skipped: {', '.join(names)}",)

    def _target_index(self) -> str:
        if self.created.planned:
            return ""
        names = self.client.list_indexes(self.target.name, field_name=self.target.vector_field)
        return str(self.client.describe_index(self.target.name, names[0])["index_type"]) if names else "none"

    def _partitions(self) -> tuple[PartitionReport, ...]:
        return tuple(side_by_side(self.client, self._partition, self.plan.partitions))

    def _partition(self, partition: ResolvedPartition) -> PartitionReport:
        name = self.plan.partition_names[partition.tag]
        return PartitionReport(
            partition.tag,
            name,
            live=partition.live_rows,
            deleted=partition.deleted_rows,
            left_out=partition.left_out,
            loaded=self.loaded[name],
            before=self.created.before.get(name, 0),
            counted=self._count(name),
        )

    def _count(self, partition: str) -> int | None:
        keyed = bool(self.target.partition_field)
        if not keyed and not self.client.has_partition(self.target.name, partition):
            return 0
        if not is_lite(self.client) and not is_loaded(self.client, self.target, "" if keyed else partition):
            return None
        return count_rows(self.client, self.target, partition)

    def _count_faults(self, part: PartitionReport) -> Iterator[str]:
        if part.target not in self.created.before:
            return
        where = f"partition {part.partition!r} (target {part.target!r})"
        if part.loaded != part.rows:
            yield f"{where}: {part.rows} rows were resolved and {part.loaded} loaded"
        if part.counted != part.before + part.rows:
            yield (
                f"{where}: expected {part.before} rows from before and {part.rows} loaded, "
                f"counted {part.counted} in the target"
            )

    def _complete(self) -> None:
        existing = find_existing(self.client, self.target.name)
        if existing and existing.mark:
            set_mark(self.client, self.target.name, existing.mark.completed())

    def _compare_sample(self) -> tuple[int, list[str]]:
        """Rows compared, and a fault for each partition with rows that are missing or differ."""
        names = self.plan.partition_names
        loaded = [part for part in self.plan.partitions if part.rows and names[part.tag] in self.created.before]
        compared = side_by_side(self.client, self._compare, loaded)
        return sum(rows for rows, _ in compared), [fault for _, fault in compared if fault]

    def _compare(self, partition: ResolvedPartition) -> tuple[int, str]:
        wanted = self._sample(partition)
        found = read_vectors(self.client, self.target, self.plan.partition_names[partition.tag], list(wanted))
        wrong = [row_id for row_id, vector in wanted.items() if found.get(row_id) != vector]
        if not wrong:
            return len(wanted), ""
        return len(wanted), (
            f"partition {partition.tag!r}: {len(wrong)} of {len(wanted)} sampled rows are missing or "
            f"differ in the target: ids {', '.join(map(str, wrong[:20]))}"
        )

    def _sample(self, partition: ResolvedPartition) -> dict[int, bytes]:
        """Ids and vectors of some live rows, the same ones each time; at least one of a partition that has any."""
        pieces = [
            (unit, piece) for unit in self.plan.units for piece in unit.slices if piece.partition == partition.tag
        ]
        random = np.random.default_rng(int(partition.fingerprint[:16], 16))
        weights = np.array([piece.stored_rows for _, piece in pieces], float)
        picks = max(SAMPLED_ROWS // len(self.plan.partitions), 4)
        shares = random.multinomial(picks, weights / weights.sum())
        sample: dict[int, bytes] = {}
        for (unit, piece), share in zip(pieces, shares.tolist(), strict=True):
            if share:
                for start in random.integers(0, piece.stored_rows, share).tolist():
                    sample |= _first_row(islice(_windows(unit, piece, start), 1))
        for unit, piece in pieces:
            sample = sample or _first_row(_windows(unit, piece, 0))
        return sample


def _windows(unit: LoadUnit, piece: Slice, start: int) -> Iterator[VectorBatch]:
    """The rows of a slice from its stored row ``start`` on."""
    for _, _, batch in read_slices(unit.source, unit.collection, [piece], SAMPLED_WINDOW, start):
        yield batch


def _first_row(batches: Iterable[VectorBatch]) -> dict[int, bytes]:
    """Id and vector of the first row, if there is one."""
    return next(({int(batch.ids[0]): batch.vectors[0].tobytes()} for batch in batches if len(batch)), {})
