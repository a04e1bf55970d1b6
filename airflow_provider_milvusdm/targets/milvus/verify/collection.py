"""Verify a collection: compare its counts, and a sample of its rows or all of them, with the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError, VerificationError
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, Loaded, ResolvedPartition
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import CollectionSpec, TargetCollection
from airflow_provider_milvusdm.report import (
    FAILED,
    PLANNED,
    SKIPPED,
    VERIFIED,
    CollectionReport,
    PartitionReport,
    SearchReport,
)
from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
from airflow_provider_milvusdm.targets.milvus.fence import new_deadline
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.marker import Marker, set_marker
from airflow_provider_milvusdm.targets.milvus.prepare.alias import switch_alias
from airflow_provider_milvusdm.targets.milvus.prepare.existing import find_existing
from airflow_provider_milvusdm.targets.milvus.prepare.publish import publish
from airflow_provider_milvusdm.targets.milvus.server.capabilities import (
    counts_without_loading,
    stays_loaded_when_renamed,
)
from airflow_provider_milvusdm.targets.milvus.server.index import index_for, is_loaded, refresh, searchable
from airflow_provider_milvusdm.targets.milvus.server.queries import count_rows, map_concurrently
from airflow_provider_milvusdm.targets.milvus.units import collection_units, loaded_into
from airflow_provider_milvusdm.targets.milvus.verify.estimate import estimate_target
from airflow_provider_milvusdm.targets.milvus.verify.full import compare_all
from airflow_provider_milvusdm.targets.milvus.verify.sample import compare_sample
from airflow_provider_milvusdm.targets.milvus.verify.search import SearchCheck, measure_search
from airflow_provider_milvusdm.targets.milvus.verify.search_advice import advise

if TYPE_CHECKING:
    from pymilvus import MilvusClient

FLUSH_SECONDS = 1800
"""Timeout of a flush; a server needs seconds. A 2.3 server that was killed between storing an import's rows and
flushing them never finishes; its log says "no flush channel found for the segment"."""


def verify_collection(
    client: MilvusClient,
    plan: CollectionPlan,
    created: CreatedCollection | None,
    loads: Sequence[Loaded],
    faults: Sequence[str] = (),
    changes: Sequence[str] = (),
    *,
    settings: CollectionSettings | None = None,
    verify: str = "full",
    create_index: bool = True,
    search: SearchCheck | None = None,
    store: CheckpointStore | None = None,
    compared: CheckpointStore | None = None,
    step_input: str = "",
) -> CollectionReport:
    """Index and load the collection, count and compare; one without faults gets its name and is marked complete.

    :param created: what the create step did; None where it failed.
    :param loads: what the load step wrote; loads of units that are no longer asked for are ignored.
    :param faults: why earlier steps failed.
    :param changes: how the source has changed since it was inspected; each is a fault.
    :param verify: ``none``, ``counts``, ``sample`` or ``full``, which stores in ``compared`` how far it got.
    :param store: outlives this attempt; with it, a repeated step does not switch the alias a second time.
    :param compared: outlives this attempt, but not a step that is cleared.
    :param step_input: what the step was given; attempts with another input are not compared.

    The plan's alias is switched last. Faults are reported, not raised.
    """
    stopped = (*faults, *changes)
    if plan.collection is None or created is None:
        found = (plan.error,) if plan.error else stopped or ("it was not created: the log of the create step says why",)
        return CollectionReport(plan.name, plan.target.name, faults=found)
    if created.action is Action.ABANDONED and not created.plan_only:
        return CollectionReport(plan.name, plan.target.name, SKIPPED, created.action, notes=created.notes)
    units = {unit.digest for unit in collection_units(plan, created)}
    loads = list({load.unit: load for load in loads if load.unit in units}.values())
    if len(loads) < len(units):
        found = (*stopped, f"{len(units) - len(loads)} of {len(units)} load units were not loaded")
        return CollectionReport(plan.name, plan.target.name, action=created.action, faults=found)
    verification = _Verification(client, plan, plan.collection, created, loads, settings or CollectionSettings())
    if created.plan_only:
        return verification.planned()
    if created.action is Action.SKIPPED:
        return verification.skipped()
    return verification.run(verify, create_index, search or SearchCheck(), changes, store, compared, step_input)


class _Verification:
    """Verifies one collection."""

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
        self.fingerprint, self.name = plan.fingerprint, plan.target.name
        self.target = _under_present_name(client, loaded_into(plan, created), self.name)
        self.plan = replace(plan, target=self.target, notes=plan.notes + created.notes)
        self.settings = settings
        self.index = index_for(client, collection, settings)
        self.loaded: Counter[str] = Counter()
        for load in loads:
            self.loaded.update(load.rows)

    def run(
        self,
        verify: str,
        create_index: bool,
        check: SearchCheck,
        changes: Sequence[str],
        store: CheckpointStore | None,
        compared_in: CheckpointStore | None,
        step_input: str,
    ) -> CollectionReport:
        marker = self._read_marker("" if self.created.action is Action.KEPT else self.created.generation)
        self._flush()
        refresh(self.client, self.target)
        with searchable(self.client, self.target, self.index, self.settings, keep=create_index):
            partitions = self._partitions(counted=verify != "none")
            faults = [fault for part in partitions for fault in self._count_faults(part, counted=verify != "none")]
            compared, different = self._compare(verify, partitions, marker, compared_in)
            search = self._search(check) if check.queries and create_index else None
        unsearched = ("no search could be compared: see verify_search",) if check.queries and not search else ()
        for_next_sync = changes if self.created.action is Action.SYNCED else ()
        faults += [*different, *(() if for_next_sync else changes)]
        if search and search.recall < check.recall:
            faults.append(
                f"searches find too little: {search}; expected a recall of {check.recall}. "
                f"{advise(self.index, search, check.recall)}"
            )
        report = self._report(partitions)
        if faults:
            end = self._where_it_is()
        else:
            replaced = self._complete(marker, create_index)
            published = replace(self.plan, target=replace(self.target, name=self.name))
            approved = self.created.approved_aliased
            end = (*replaced, *switch_alias(self.client, published, store, step_input, approved))
        notes = (*report.notes, *self._not_compared(verify), *unsearched, *map(_next_sync, for_next_sync), *end)
        status = FAILED if faults else VERIFIED
        return replace(report, status=status, sampled=compared, search=search, faults=tuple(faults), notes=notes)

    def _flush(self) -> None:
        from pymilvus import MilvusException

        try:
            self.client.flush(self.target.name, timeout=FLUSH_SECONDS)
        except MilvusException as error:
            if "flush timeout" not in error.message:
                raise
            raise VerificationError(
                f"collection {self.target.name!r} of the target is not flushed after {FLUSH_SECONDS} s",
                cure="If the server was killed in a bulk import, it may never be: load it again with mode overwrite.",
            ) from None

    def _search(self, check: SearchCheck) -> SearchReport | None:
        """Search the target; None where it holds rows that are not in the source."""
        if any(self.created.before.values()):
            return None
        return measure_search(self.client, self.plan, self.created.before, self.index, check)

    def planned(self) -> CollectionReport:
        """What a run would do and what it would need; the target is not changed."""
        partitions = tuple(
            PartitionReport(
                part.tag, self.plan.partition_names[part.tag], part.live_rows, part.deleted_rows, part.excluded
            )
            for part in self.plan.partitions
        )
        alias = [f"alias {self.plan.alias} would be switched to {self.name}"] if self.plan.alias else []
        estimate = estimate_target(self.client, self.collection, self.index, self.plan.rows)
        return replace(
            self._report(partitions),
            status=PLANNED,
            action=f"would be {self.created.action}",
            target_index=str(self.index),
            notes=(*self.plan.notes, *self.index.notes, *alias, *estimate),
        )

    def skipped(self) -> CollectionReport:
        """Leave an existing collection as it is, and report how its counts compare."""
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
            self.name,
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
        """A note on partitions that were skipped because they exist, while others were loaded."""
        names = [tag for tag, name in self.plan.partition_names.items() if self._is_left_alone(name)]
        if not names or self.created.plan_only:
            return ()
        return (f"partitions that exist already were skipped: {', '.join(names)}",)

    def _is_left_alone(self, name: str) -> bool:
        return name not in self.created.before and self.created.action is not Action.SKIPPED

    def _target_index(self) -> str:
        if self.created.plan_only:
            return ""
        names = self.client.list_indexes(self.target.name, field_name=self.target.vector_field)
        return str(self.client.describe_index(self.target.name, names[0])["index_type"]) if names else "none"

    def _partitions(self, *, counted: bool = True) -> tuple[PartitionReport, ...]:
        return tuple(map_concurrently(self.client, partial(self._partition, counted=counted), self.plan.partitions))

    def _partition(self, partition: ResolvedPartition, *, counted: bool = True) -> PartitionReport:
        name = self.plan.partition_names[partition.tag]
        return PartitionReport(
            partition.tag,
            name,
            live=partition.live_rows,
            deleted=partition.deleted_rows,
            excluded=partition.excluded,
            loaded=self.loaded[name],
            before=self.created.before.get(name, 0),
            counted=self._count(name) if counted else None,
            left_alone=self._is_left_alone(name),
        )

    def _count(self, partition: str) -> int | None:
        keyed = bool(self.target.partition_field)
        if not keyed and not self.client.has_partition(self.target.name, partition):
            return 0
        loaded = is_loaded(self.client, self.target, "" if keyed else partition)
        if loaded or (not keyed and counts_without_loading(self.client)):
            return count_rows(self.client, self.target, partition)
        return None

    def _count_faults(self, part: PartitionReport, *, counted: bool) -> Iterator[str]:
        if part.target not in self.created.before:
            return
        where = f"partition {part.partition!r} (target {part.target!r})"
        wanted = part.rows - self.created.kept.get(part.target, 0)
        if part.loaded != wanted:
            yield f"{where}: {wanted} rows were to be loaded and {part.loaded} were"
        if counted and part.counted != part.before + part.rows:
            yield (
                f"{where}: expected {part.before} rows from before and {part.rows} loaded, "
                f"counted {part.counted} in the target"
            )

    def _compare(
        self, verify: str, partitions: Sequence[PartitionReport], marker: Marker, store: CheckpointStore | None
    ) -> tuple[int, list[str]]:
        """Rows compared, and what was found.

        After a sync a sample is not enough: counts and sample don't show rows that an application exchanged meanwhile.
        """
        if verify not in ("sample", "full") or self.target.ids_by_target:
            return 0, []
        if verify == "full" or self.created.action is Action.SYNCED:
            counted = {part.target: part.counted for part in partitions}
            return compare_all(self.client, self.plan, self.created, marker, store, counted)
        return compare_sample(self.client, self.plan, self.created.before)

    def _not_compared(self, verify: str) -> tuple[str, ...]:
        if not self.target.ids_by_target or verify not in ("sample", "full"):
            return ()
        return ("rows were counted and not compared: their ids are made by the target",)

    def _read_marker(self, generation: str) -> Marker:
        """The marker of the load.

        :param generation: of the marker; empty for a collection that is kept, whichever run loaded it.

        Raises TargetError where the collection has another marker.
        """
        existing = find_existing(self.client, self.target.name)
        marker = existing.marker if existing else None
        own = marker and generation in ("", marker.generation)
        if marker is None or not own or marker.source != self.fingerprint:
            raise TargetError(
                f"collection {self.target.name!r} of the target is not the one that was loaded",
                expected=f"a marker with source {self.fingerprint}, generation {generation or 'of any load'}",
                found="another marker, or none" if existing else "no such collection",
                cure="Something else dropped it or made it again, or another run continues with it: start a new run.",
            )
        return marker

    def _complete(self, marker: Marker, create_index: bool) -> tuple[str, ...]:
        """Give the collection its name, and mark it as complete; returns notes for the report."""
        if not self.created.own_name:
            deadline = new_deadline()
            self._read_marker(marker.generation)  # raises where another run has taken the collection over meanwhile
            set_marker(self.client, self.target.name, marker.completed(), deadline)
            return ()
        notes = publish(self.client, marker)
        if create_index and self.settings.load is not False and not stays_loaded_when_renamed(self.client):
            self.client.load_collection(self.name)
        return notes

    def _where_it_is(self) -> tuple[str, ...]:
        if self.target.name == self.name:
            return ()
        return (
            f"left as {self.target.name}: a run with the same rows continues with it, mode overwrite starts again, "
            "milvusdm abandon drops it",
        )


def _under_present_name(client: MilvusClient, target: TargetCollection, name: str) -> TargetCollection:
    """The collection under its present name: an earlier attempt may have given it its final one."""
    return target if target.name == name or client.has_collection(target.name) else replace(target, name=name)


def _next_sync(change: str) -> str:
    return f"the next sync writes what was added since this one began: {change}"
