"""Verify a collection: the target's counts against what was read, a sample of rows bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_milvusdm.report import FAILED, PLANNED, SKIPPED, VERIFIED, CollectionReport, PartitionReport
from airflow_provider_milvusdm.sources import open_source
from airflow_provider_milvusdm.target_settings import CollectionSettings
from airflow_provider_milvusdm.targets.milvus_collection import find_existing
from airflow_provider_milvusdm.targets.milvus_estimate import estimate_target
from airflow_provider_milvusdm.targets.milvus_index import index_for, is_loaded, searchable
from airflow_provider_milvusdm.targets.milvus_mark import set_mark
from airflow_provider_milvusdm.targets.milvus_rows import count_rows, is_lite, read_vectors
from airflow_provider_milvusdm.targets.milvus_schema import IndexSpec
from airflow_provider_milvusdm.targets.milvus_units import collection_units
from airflow_provider_milvusdm.targets.milvus_writer import Loaded
from airflow_provider_milvusdm.vectors import (
    CollectionPlan,
    CollectionSpec,
    CreatedCollection,
    ResolvedPartition,
    Segment,
    ranges,
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
    *,
    settings: CollectionSettings | None = None,
    verify: str = "sample",
    create_index: bool = True,
) -> CollectionReport:
    """Build the index, load the collection, count and compare; a verified one is marked as complete.

    ``loads``: what the load tasks of this collection brought; ``faults``: what stopped earlier steps. The report
    names every fault; nothing is raised for them.
    """
    if plan.collection is None or created is None:
        found = (plan.error,) if plan.error else tuple(faults) or ("not created: see the log of create_collection",)
        return CollectionReport(plan.name, plan.target.name, faults=found)
    units = len(list(collection_units(plan, created)))
    if len(loads) < units:
        found = (f"{units - len(loads)} of {units} load units were not loaded", *faults)
        return CollectionReport(plan.name, plan.target.name, action=created.action, faults=found)
    verification = _Verification(client, plan, plan.collection, created, loads, settings or CollectionSettings())
    if created.planned:
        return verification.planned()
    return verification.skipped() if created.action == "skipped" else verification.run(verify, create_index)


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
        self.client, self.plan, self.collection, self.created, self.loads = client, plan, collection, created, loads
        self.settings, self.target = settings, plan.target
        self.index = index_for(client, collection, settings)
        self.loaded: Counter[str] = Counter()
        for load in loads:
            self.loaded.update(load.rows)

    def run(self, verify: str, create_index: bool) -> CollectionReport:
        self.client.flush(self.target.name)
        with searchable(self.client, self.target, self.index, self.settings, keep=create_index):
            partitions = tuple(self._partition(partition) for partition in self.plan.partitions)
            faults = [fault for partition in partitions for fault in self._count_faults(partition)]
            sampled, different = self._compare_sample() if verify == "sample" and not self.target.auto_id else (0, [])
        faults += different
        if not faults:
            self._complete()
        report = replace(self._report(partitions), sampled=sampled, faults=tuple(faults))
        return report if faults else replace(report, status=VERIFIED)

    def planned(self) -> CollectionReport:
        """What a run would do, and what it would take; the target is not touched."""
        partitions = tuple(
            PartitionReport(part.tag, self.plan.partition_names[part.tag], part.live_rows, part.deleted_rows)
            for part in self.plan.partitions
        )
        estimate = estimate_target(self.client, self.collection, self.index, self.plan.live_rows)
        return replace(
            self._report(partitions),
            status=PLANNED,
            action=f"would be {self.created.action}",
            target_index=str(self.index),
            notes=(*self.plan.notes, *self.index.notes, *estimate),
        )

    def skipped(self) -> CollectionReport:
        """Leave an existing collection as it is and say how it compares."""
        partitions = tuple(self._partition(partition) for partition in self.plan.partitions)
        unequal = [part.partition for part in partitions if part.counted is not None and part.counted != part.live]
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

    def _partition(self, partition: ResolvedPartition) -> PartitionReport:
        name = self.plan.partition_names[partition.tag]
        return PartitionReport(
            partition.tag,
            name,
            live=partition.live_rows,
            deleted=partition.deleted_rows,
            loaded=self.loaded[name],
            before=self.created.before.get(name, 0),
            counted=self._count(name),
        )

    def _count(self, partition: str) -> int | None:
        if not self.client.has_partition(self.target.name, partition):
            return 0
        if not is_lite(self.client) and not is_loaded(self.client, self.target, partition):
            return None
        return count_rows(self.client, self.target.name, partition)

    def _count_faults(self, part: PartitionReport) -> Iterator[str]:
        if part.target not in self.created.before:
            return
        where = f"partition {part.partition!r} (target {part.target!r})"
        if part.loaded != part.live:
            yield f"{where}: {part.live} live rows were resolved and {part.loaded} loaded"
        if part.counted != part.before + part.live:
            yield (
                f"{where}: expected {part.before} rows from before and {part.live} loaded, "
                f"counted {part.counted} in the target"
            )

    def _complete(self) -> None:
        existing = find_existing(self.client, self.target.name)
        if existing and existing.mark:
            set_mark(self.client, self.target.name, existing.mark.completed())

    def _compare_sample(self) -> tuple[int, list[str]]:
        """Rows compared, and a fault for each partition with rows that are missing or differ."""
        compared, faults = 0, []
        for partition in self.plan.partitions:
            name = self.plan.partition_names[partition.tag]
            if name not in self.created.before or not partition.live_rows:
                continue
            wanted = self._sample(partition)
            found = read_vectors(self.client, self.target, name, list(wanted))
            wrong = [row_id for row_id, vector in wanted.items() if found.get(row_id) != vector]
            compared += len(wanted)
            if wrong:
                faults.append(
                    f"partition {partition.tag!r}: {len(wrong)} of {len(wanted)} sampled rows are missing or "
                    f"differ in the target: ids {', '.join(map(str, wrong[:20]))}"
                )
        return compared, faults

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
                segment = open_source(unit.source).segment(unit.collection, piece.segment)
                for start in random.integers(piece.start, piece.stop, share).tolist():
                    sample |= _first_live(segment, start, min(start + SAMPLED_WINDOW, piece.stop))
        for unit, piece in pieces:
            if not sample:
                segment = open_source(unit.source).segment(unit.collection, piece.segment)
                sample = _first_live(segment, piece.start, piece.stop)
        return sample


def _first_live(segment: Segment, start: int, stop: int) -> dict[int, bytes]:
    """Id and vector of the first live row among the stored ones, if there is one."""
    for first, last in ranges(start, stop, SAMPLED_WINDOW):
        batch = segment.read(first, last)
        if len(batch):
            return {int(batch.ids[0]): batch.vectors[0].tobytes()}
    return {}
