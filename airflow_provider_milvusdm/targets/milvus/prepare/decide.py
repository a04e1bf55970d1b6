"""Decide what to do to prepare a target, or refuse, before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CollectionPlan
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION, CollectionSpec, TargetCollection
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.marker import COMPLETE, Marker, has_loaded, is_of, unpack_counts
from airflow_provider_milvusdm.targets.milvus.prepare.alias import aliased, check_alias, refuse_alias
from airflow_provider_milvusdm.targets.milvus.prepare.auto_id import id_notes
from airflow_provider_milvusdm.targets.milvus.prepare.change_metric import check_unit_length
from airflow_provider_milvusdm.targets.milvus.prepare.existing import Existing, check_fit, find_existing
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import Leftover, find_leftovers, refuse_other_runs
from airflow_provider_milvusdm.targets.milvus.prepare.new_collection import NewCollection
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import refuse_too_many
from airflow_provider_milvusdm.targets.milvus.runs import Runs, SingleRun, refuse_other_run
from airflow_provider_milvusdm.targets.milvus.server.capabilities import (
    accepts_ids_with_auto_id,
    deletes_within_partition,
    has_binary_vectors,
    product_name,
)
from airflow_provider_milvusdm.targets.milvus.server.index import index_for
from airflow_provider_milvusdm.targets.names import target_name

if TYPE_CHECKING:
    from pymilvus import MilvusClient

ON_EXISTING = {"skip": Action.ADDED, "append": Action.APPENDED, "overwrite": Action.REPLACED}
"""What a mode does to a finished collection whose schema fits, where no other rule applies."""


@dataclass(frozen=True)
class Options:
    """How to prepare a target, whatever it holds."""

    mode: str = "skip"
    """``skip``, ``append``, ``overwrite``, ``sync`` or ``abandon``."""
    create_index: bool = True
    in_place: bool = False
    """``overwrite`` drops the old collection before the new one is loaded."""
    is_approved: bool = False
    """Somebody approved the number of rows that are lost."""
    approved_loss: int | None = None
    """That number, if it is known: no more may be dropped, deleted or replaced."""
    runs: Runs = field(default_factory=SingleRun)


@dataclass(frozen=True)
class Case:
    """A collection to migrate, and what the target holds already."""

    client: MilvusClient
    plan: CollectionPlan
    collection: CollectionSpec
    target: TargetCollection
    settings: CollectionSettings
    index: IndexSpec
    options: Options
    existing: Existing | None
    leftovers: Sequence[Leftover]
    """Collections under names of their own, left by runs that have ended."""

    @property
    def keyed(self) -> bool:
        """Whether tags are stored in a partition key."""
        return bool(self.target.partition_field)

    @property
    def wanted(self) -> Sequence[str]:
        """The target's partitions, or partition keys, that rows go to."""
        return [self.plan.partition_names[partition.tag] for partition in self.plan.partitions]

    @property
    def new(self) -> NewCollection:
        """The collection to create, under the target's name."""
        index = self.index if self.options.create_index else None
        return NewCollection(self.client, self.target, self.collection, self.settings, index)

    @property
    def resumable(self) -> Leftover | None:
        """What an earlier run of the same source left half loaded, if it can be continued: rows need ids for that."""
        if self.options.mode == "overwrite" or self.target.ids_by_target:
            return None
        wanted = self.plan.fingerprint, self.new.digest
        for leftover in self.leftovers:
            marker = leftover.marker
            if marker and (marker.source, marker.settings) == wanted:
                return leftover
        return None


def inspect_target(client: MilvusClient, plan: CollectionPlan, settings: CollectionSettings, options: Options) -> Case:
    """Look at the target. Raises TargetError where it can't hold the collection, or another run is at work on it."""
    if plan.collection is None:
        raise TargetError(plan.error)
    _refuse_binary(client, plan.collection)
    refuse_alias(client, plan.target.name)
    check_alias(client, plan, settings, create_index=options.create_index)
    target = replace(plan.target, accepts_new_ids=plan.target.accepts_new_ids and accepts_ids_with_auto_id(client))
    index = index_for(client, plan.collection, settings)
    leftovers, existing = find_leftovers(client, plan), find_existing(client, target.name)
    refuse_other_runs(options.runs, target.name, leftovers)
    if existing and existing.marker and existing.marker.state != COMPLETE:
        refuse_other_run(options.runs, existing.marker.run, target.name)
    return Case(client, plan, plan.collection, target, settings, index, options, existing, leftovers)


def decide(case: Case) -> Action:
    """What is to be done. Raises TargetError where the mode allows nothing."""
    action = _decide(case, case.options.mode)
    if action.effect.loads_rows and not case.keyed:
        existing = _loaded_collection(case, action)
        partitions = existing.partitions if existing else {DEFAULT_PARTITION}
        refuse_too_many(case.client, case.target.name, partitions.union(case.wanted), case.settings)
    return action


def notes(case: Case, action: Action) -> tuple[str, ...]:
    """What the report says about the target."""
    existing = _loaded_collection(case, action)
    return id_notes(case.collection, existing.accepts_new_ids if existing else case.target.accepts_new_ids)


def _loaded_collection(case: Case, action: Action) -> Existing | None:
    """The existing collection that rows are loaded into; None: a new one."""
    return None if action.effect.creates_collection else case.existing


def _decide(case: Case, mode: str) -> Action:
    if case.index.metric != case.collection.metric and not case.collection.metric.is_binary:
        check_unit_length(case.plan, case.index.metric)
    existing = case.existing
    if mode == "abandon":
        return Action.ABANDONED
    if existing is None:
        return Action.RESUMED if case.resumable else Action.CREATED
    if case.plan.alias:
        return _decide_behind_alias(case, existing, mode)
    if mode != "skip" or not _has_all(case, existing):
        _refuse_mapped_name(case, existing)
    if mode == "sync":
        _refuse_mapped_tags(case, existing)
        _check_syncable(case, existing)
        return Action.SYNCED
    if mode == "overwrite" and is_finished_by_own_run(case, existing) and not _has_other_settings(case, existing):
        return Action.KEPT
    if mode == "overwrite" and case.plan.whole:
        return Action.OVERWRITTEN
    if mode != "skip":
        _refuse_mapped_tags(case, existing)
    if existing.marker and existing.marker.is_loading:
        _refuse_other_source(case, existing.marker)
        if mode == "append":
            _refuse_left_alone(case, existing.marker)
        if mode != "overwrite":
            return _resumed(case, existing)
    if mode == "skip" and _has_all(case, existing):
        return Action.SKIPPED
    _check_schema(case, existing)
    if mode == "append" and _holds(case, existing):
        return Action.KEPT
    if mode == "overwrite" and not case.keyed:
        _refuse_emptying_default(case)
    return ON_EXISTING[mode]


def _holds(case: Case, existing: Existing) -> bool:
    """Whether exactly these rows were the last that were loaded; a marker that abandon restored does not tell."""
    marker = existing.marker
    if marker is None or marker.source != case.plan.fingerprint or not is_of(case.wanted, marker):
        return False
    return not _left_alone(case, marker)


def _left_alone(case: Case, marker: Marker) -> set[str]:
    """The partitions that a run with ``skip`` left as they were: rows of its source need not be in them."""
    return set(case.wanted) - unpack_counts(case.wanted, marker).keys()


def _has_all(case: Case, existing: Existing) -> bool:
    """Whether it has everything that was asked for, as far as partitions tell."""
    return case.plan.whole or (not case.keyed and existing.partitions.issuperset(case.wanted))


def is_finished_by_own_run(case: Case, existing: Existing) -> bool:
    """Whether this same run loaded exactly these rows: a step that is repeated alone has nothing to do."""
    marker, own = existing.marker, case.options.runs.own
    if marker is None or not own.run_id or (marker.run, marker.state) != (own, COMPLETE):
        return False
    return _holds(case, existing)


def is_begun_by_own_run(case: Case) -> bool:
    """Whether an earlier attempt of this same run was interrupted while it changed the existing collection."""
    marker, own = case.existing.marker if case.existing else None, case.options.runs.own
    if marker is None or not marker.is_loading or not own.run_id:
        return False
    return (marker.run, marker.source) == (own, case.plan.fingerprint)


def _has_other_settings(case: Case, existing: Existing) -> bool:
    """Whether a whole collection would be created with other settings: it is created again then."""
    return case.plan.whole and existing.marker is not None and existing.marker.settings != case.new.digest


def _decide_behind_alias(case: Case, existing: Existing, mode: str) -> Action:
    """The collection's name identifies its source: its rows need no second load, and readers may be using it."""
    if existing.marker is None or existing.marker.source != case.plan.fingerprint:
        raise TargetError(
            f"collection {case.target.name!r} of the target was not made by this migration",
            expected=f"a marker with source {case.plan.fingerprint}",
            found=f"a marker with source {existing.marker.source}" if existing.marker else "no marker",
            cure="Drop it, or use rename to give the new collection another name.",
        )
    _check_schema(case, existing)
    if mode == "overwrite" and aliased(case.client, case.plan.alias) != case.target.name:
        return Action.OVERWRITTEN
    return Action.KEPT


def _resumed(case: Case, existing: Existing) -> Action:
    _check_schema(case, existing)
    if case.target.ids_by_target:
        raise TargetError(
            f"collection {case.target.name!r} was left half loaded, and its ids are made by the target (ids: auto)",
            expected="ids that show which rows the target holds already",
            found="none, so that no retry can be exact",
            cure="If no row was written, undo the run: milvusdm abandon. Otherwise load the whole collection again "
            "with mode overwrite, or drop it.",
        )
    return Action.RESUMED


def _check_syncable(case: Case, existing: Existing) -> None:
    _check_schema(case, existing)
    if existing.marker and existing.marker.is_loading and not _covers(case, existing, existing.marker):
        _refuse_other_source(case, existing.marker)
    if case.target.ids_by_target or case.target.own_keys:
        raise TargetError(
            f"collection {case.target.name!r} can't be synced",
            expected="the ids of the source as primary keys",
            found="keys made by the target"
            if case.target.ids_by_target
            else "keys made from positions (duplicate_ids: remap)",
            cure="Use mode overwrite.",
        )


def _covers(case: Case, existing: Existing, marker: Marker) -> bool:
    """Whether the run covers everything that is half loaded: the rest would be taken for finished."""
    every = case.plan.whole and not case.keyed and existing.partitions.issubset(case.wanted)
    return every or is_of(case.wanted, marker)


def _refuse_mapped_name(case: Case, existing: Existing) -> None:
    """A mapped name may belong to something else: collection ``my_coll`` need not come from ``my-coll``."""
    plan, name = case.plan, case.target.name
    made_from = existing.marker.collection if existing.marker else ""
    is_free = plan.name == name and (not made_from or target_name(made_from) != name)
    if plan.renamed or is_free or made_from == plan.name:
        return
    raise TargetError(
        f"collection {case.plan.name!r} would become {case.target.name!r} in the target, which exists",
        expected=f"a collection that was loaded from {case.plan.name!r}, or none",
        found=f"one that was loaded from {made_from!r}" if made_from else "one that nothing connects with it",
        cure=f'If it is the right one, say so: rename: {{"{case.plan.name}": "{case.target.name}"}}. Otherwise '
        "rename to another name.",
    )


def _refuse_mapped_tags(case: Case, existing: Existing) -> None:
    """A mapped name of a partition may belong to another one, unless a migration has loaded this tag into it."""
    plan, marker = case.plan, existing.marker
    names = {tag: plan.partition_names[tag] for tag in plan.mapped_tags}
    taken = {
        tag: name
        for tag, name in names.items()
        if name in existing.partitions and not (marker and has_loaded(marker, plan.name, tag, name))
    }
    if not taken:
        return
    tag, name = next(iter(taken.items()))
    raise TargetError(
        f"partition {tag!r} of collection {plan.name!r} would become {name!r} in the target, which exists",
        expected="partitions that were loaded from these tags, or none",
        found=f"{len(taken)} that nothing connects with it: {', '.join(list(taken.values())[:20])}",
        cure=f'If it is the right one, say so: rename: {{"{plan.name}/{tag}": "{name}"}}. Otherwise rename to another '
        "name.",
    )


def _check_schema(case: Case, existing: Existing) -> None:
    check_fit(case.client, existing, case.target, case.collection, case.index.metric)


def _refuse_other_source(case: Case, marker: Marker) -> None:
    if marker.source == case.plan.fingerprint:
        return
    raise TargetError(
        f"collection {case.target.name!r} of the target is half loaded, from another source or selection",
        expected="a finished collection, or one left by an interrupted run of the same migration",
        found=f"its marker names source {marker.source}, this run's is {case.plan.fingerprint}",
        cure="Finish that migration with the same source_collection; or undo it with a copy of that source: milvusdm "
        "abandon; or load the whole collection again with mode overwrite.",
    )


def _refuse_left_alone(case: Case, marker: Marker) -> None:
    if left := sorted(_left_alone(case, marker)):
        raise TargetError(
            f"collection {case.target.name!r} of the target is half loaded by a run with mode skip",
            expected="a run that adds rows to all partitions, or a finished collection",
            found=f"partitions that it leaves as they are: {', '.join(left[:20])}",
            cure="Finish it with mode skip, or undo it with milvusdm abandon; then append.",
        )


def _refuse_emptying_default(case: Case) -> None:
    """``_default`` can't be dropped, so it is emptied by deleting its rows."""
    if DEFAULT_PARTITION in case.wanted and not deletes_within_partition(case.client):
        raise TargetError(
            f"partition {DEFAULT_PARTITION} of collection {case.target.name!r} can't be emptied alone",
            expected="a target whose delete is limited to a partition",
            found=f"{product_name(case.client)}, whose delete ignores partitions",
            cure="Overwrite the whole collection, or use a Milvus 2.x server.",
        )


def _refuse_binary(client: MilvusClient, collection: CollectionSpec) -> None:
    if collection.metric.is_binary and not has_binary_vectors(client):
        raise TargetError(
            f"collection {collection.name!r} holds binary vectors ({collection.metric})",
            expected="a Milvus 2.x server",
            found=f"{product_name(client)}, which has no BINARY_VECTOR",
            cure="Set dest_host and dest_port, or milvus_conn_id, to a Milvus 2.x server.",
        )
