"""Prepare a target for the rows of a collection: create, mark or empty it, or continue where a run ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.rows.reader import refuse_changed_segments
from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
from airflow_provider_milvusdm.targets.milvus.fence import Fence, await_requests, new_deadline
from airflow_provider_milvusdm.targets.milvus.marker import (
    VERIFIED,
    Marker,
    fence_by_marker,
    new_marker,
    new_partitions,
    pack_counts,
    pack_mapped,
    refuse_changed_collection,
    restore_marker,
    set_marker,
    unpack_counts,
)
from airflow_provider_milvusdm.targets.milvus.prepare.abandon import abandon, keys_of_added
from airflow_provider_milvusdm.targets.milvus.prepare.alias import alias_to_switch
from airflow_provider_milvusdm.targets.milvus.prepare.decide import (
    Case,
    Options,
    decide,
    inspect_target,
    is_begun_by_own_run,
    is_finished_by_own_run,
    notes,
)
from airflow_provider_milvusdm.targets.milvus.prepare.existing import Existing, find_existing
from airflow_provider_milvusdm.targets.milvus.prepare.id_scope import refuse_ids_across
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import give_back
from airflow_provider_milvusdm.targets.milvus.prepare.lost import continued_action, count_lost, refuse_unapproved_loss
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import drop_partition, make_partitions
from airflow_provider_milvusdm.targets.milvus.prepare.publish import finish, make_aliases
from airflow_provider_milvusdm.targets.milvus.prepare.repeated import refuse_repeated
from airflow_provider_milvusdm.targets.milvus.prepare.sync import MAX_DELETIONS, Changes
from airflow_provider_milvusdm.targets.milvus.prepare.taken_ids import (
    refuse_emptying_elsewhere,
    refuse_rows_under_other_keys,
    refuse_taken_ids,
)
from airflow_provider_milvusdm.targets.milvus.prepare.unpublished import (
    create_unpublished,
    drop_leftovers,
    resume_unpublished,
)
from airflow_provider_milvusdm.targets.milvus.runs import Runs, SingleRun
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import await_jobs
from airflow_provider_milvusdm.targets.milvus.server.index import searchable
from airflow_provider_milvusdm.targets.milvus.server.queries import (
    count_rows,
    delete_all,
    map_concurrently,
)

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def create_collection(
    client: MilvusClient,
    plan: CollectionPlan,
    mode: str,
    settings: CollectionSettings | None = None,
    *,
    create_index: bool = True,
    in_place: bool = False,
    max_deletions: float = MAX_DELETIONS,
    plan_only: bool = False,
    id_scope: str = "collection",
    is_approved: bool = False,
    approved_loss: int | None = None,
    runs: Runs | None = None,
    store: CheckpointStore | None = None,
    step_input: str = "",
) -> CreatedCollection:
    """Prepare the target for the rows of ``plan``, or refuse before anything is changed.

    A new collection has a name of its own until it is verified. What an earlier run of the same source left half loaded
    is continued, unless ``mode`` is ``overwrite``.

    :param mode: ``skip``, ``append``, ``overwrite`` or ``sync``: what to do where the collection, or the selected
        partitions, exist; ``abandon`` undoes what a run left half done.
    :param in_place: ``overwrite`` drops the old collection before the new one is loaded.
    :param max_deletions: the share of the rows that ``sync`` may delete.
    :param plan_only: only say what would be done.
    :param id_scope: whether an id must be unique in the ``collection``, or in each ``partition``.
    :param is_approved: somebody approved the number of rows that are lost: a collection that has another number of rows
        once the new one is verified is not replaced.
    :param approved_loss: that number, if it is known: no more rows are dropped, deleted or replaced.
    :param runs: knows whether other runs have ended.
    :param store: outlives this attempt; with it, a repeated step undoes nothing that another run has loaded since.
    :param step_input: what the step was given; attempts with another input are not compared.

    Raises TargetError, ConfigurationError or RefusedRowsError; SourceError where rows would be dropped or deleted
    before the new ones are loaded, and the source is not as it was when it was read.
    """
    options = Options(mode, create_index, in_place, is_approved, approved_loss, runs or SingleRun())
    settings = settings or CollectionSettings()
    case = inspect_target(client, plan, settings, options)
    if plan_only:
        case = foresee_undone(case)
    elif finish_or_undo(case):
        case = inspect_target(client, plan, settings, options)
    action = decide(case)
    if store is not None and not plan_only:
        refuse_repeated(case, action, store, step_input)
    on_ids = refuse_ids_across(case, action, id_scope, plan_only=plan_only)
    if _loses_rows_first(case, action):
        for unit in plan.units:
            refuse_changed_segments(unit.source, unit.collection, unit.slices)
    changes = Changes(case, max_deletions)
    if plan_only:
        continued = continued_action(case, action)
        foreseen = changes.foresee() if continued is Action.SYNCED else ()
        alias = alias_to_switch(client, plan.alias, case.target.name) if action is not Action.ABANDONED else None
        created = CreatedCollection(
            plan.name,
            action,
            plan_only=True,
            notes=foreseen,
            lost=count_lost(case, continued, changes),
            existing=case.existing.collection_id if case.existing else 0,
            has_begun=is_begun_by_own_run(case),
            alias=plan.alias if alias is not None else "",
            aliased=alias or "",
        )
    else:
        created = _Preparation(case, changes).run(action)
    return replace(created, notes=(*notes(case, action), *on_ids, *created.notes))


def finish_or_undo(case: Case) -> bool:
    """Finish or undo what a run left that ended in the middle of publishing; returns whether there was anything."""
    marker = case.existing.marker if case.existing else None
    if marker and marker.state == VERIFIED:
        finish(case.client, replace(marker, target=case.target.name))  # it may have been renamed since
        return True
    if any(leftover.former for leftover in case.leftovers):
        give_back(case.client, case.target.name, case.leftovers)
        return True
    if case.existing:
        aliases = [alias for leftover in case.leftovers if leftover.marker for alias in leftover.marker.aliases]
        make_aliases(case.client, case.target.name, aliases)
    return False


def _loses_rows_first(case: Case, action: Action) -> bool:
    """Whether rows of the target are dropped or deleted before the new ones are loaded."""
    if action is Action.OVERWRITTEN:
        return case.options.in_place
    return continued_action(case, action) in (Action.REPLACED, Action.EMPTYING)


def foresee_undone(case: Case) -> Case:
    """The case as it will be once :func:`finish_or_undo` has given a collection its former name back."""
    former = [leftover.name for leftover in case.leftovers if leftover.former]
    if case.existing or len(former) != 1:
        return case
    target = replace(case.target, name=former[0])
    return replace(
        case,
        plan=replace(case.plan, target=target, renamed=True),
        target=target,
        existing=find_existing(case.client, target.name),
        leftovers=[leftover for leftover in case.leftovers if not leftover.former],
    )


class _Preparation:
    """Makes one collection ready."""

    def __init__(self, case: Case, changes: Changes) -> None:
        self.case, self.changes = case, changes
        self.client, self.plan, self.target, self.existing = case.client, case.plan, case.target, case.existing
        self.keyed, self.wanted = case.keyed, case.wanted

    def run(self, action: Action) -> CreatedCollection:
        """Carry out the action."""
        if action is Action.ABANDONED:
            return abandon(self.case)
        if self.existing is None or action.effect.creates_collection:
            found = self.case.resumable
            if found and found.marker:
                return resume_unpublished(self.case, found, found.marker)
            return create_unpublished(self.case, action)
        if action is Action.SKIPPED:
            return CreatedCollection(self.plan.name, action)
        drop_leftovers(self.case)
        if action is Action.RESUMED and self.existing.marker:
            return self._resume(self.existing, self.existing.marker)
        return self._on_finished[action](self.existing)

    @property
    def _on_finished(self) -> Mapping[Action, Callable[[Existing], CreatedCollection]]:
        """How each action is carried out on a finished collection."""
        return {
            Action.KEPT: self._keep,
            Action.SYNCED: self._sync,
            Action.ADDED: self._add,
            Action.APPENDED: self._append,
            Action.REPLACED: self._replace,
        }

    def _created(self, action: Action, marker: Marker, **others: Any) -> CreatedCollection:
        before = unpack_counts(self.wanted, marker)
        return CreatedCollection(self.plan.name, action, before, generation=marker.generation, **others)

    def _mark(self, action: Action | None, before: Mapping[str, int], last: Marker | None = None) -> Marker:
        """Mark the collection as being loaded: what an earlier run still writes is refused from here on.

        Raises TargetError where another run has marked it since the ``last`` marker (default: the one it was found
        with).
        """
        last = last or (self.existing.marker if self.existing else None)
        deadline = new_deadline()  # stops a suspended process, which would mark a newer load
        self._refuse_changed(last)
        marker = new_marker(
            self.plan.fingerprint,
            collection=last.collection if last else "",
            target=self.target.name,
            action=action,
            run=self.case.options.runs.own,
            **pack_counts(self.wanted, before, self._new_partitions(action, last)),
            keys=keys_of_added(self.case, before),
            previous=last.finished_source if last else "",
            **self._pack_mapped(before, last),
        )
        set_marker(self.client, self.target.name, marker, deadline)
        return marker

    def _pack_mapped(self, before: Mapping[str, int], last: Marker | None) -> dict[str, str]:
        """The tags that migrations have loaded into partitions of other names, with those of this run."""
        names = {tag: name for tag, name in self.plan.partition_names.items() if name in before}
        return pack_mapped(self.plan.name, names, last, self.existing.partitions if self.existing else ())

    def _new_partitions(self, action: Action | None, last: Marker | None) -> Collection[str]:
        """The partitions that ``abandon`` has to drop; a run that is resumed may have created them."""
        if self.keyed or not (self.existing and action and action.effect.can_be_undone):
            return ()
        if last and last.is_loading:
            return new_partitions(self.wanted, last)
        return set(self.wanted) - self.existing.partitions

    def _refuse_changed(self, last: Marker | None) -> None:
        """Refuse to continue where another run has begun since the ``last`` marker was set."""
        collection_id = self.existing.collection_id if self.existing else None
        refuse_changed_collection(self.client, self.target.name, last.generation if last else "", collection_id)

    def _take_over(self, action: Action | None, before: Mapping[str, int]) -> Marker:
        """Mark it, and wait until no request of the run that was loading it can arrive any more."""
        marker, former = self._mark(action, before), self.existing.marker if self.existing else None
        if former and former.is_loading:
            await_requests(self.case.options.runs, former.run, self.target.name)
        return marker

    def _resume(self, existing: Existing, last: Marker) -> CreatedCollection:
        """Continue what an earlier run of the same source left half loaded, whatever that run was doing."""
        if last.action is Action.EMPTYING:
            return self._replace(existing)
        if last.action is Action.SYNCED:
            return self._sync(existing)
        marker = self._take_over(last.action, unpack_counts(self.wanted, last))
        await_jobs(self.client, self.target.name)
        self._create_partitions(existing.partitions)
        return self._created(Action.RESUMED, marker, upsert=True)

    def _add(self, existing: Existing) -> CreatedCollection:
        """Load the partitions, or partition keys, that the collection lacks; the others stay as they are."""
        missing = [name for name in self.wanted if name not in existing.partitions]
        if self.keyed:
            with self._searchable():
                missing = [tag for tag, rows in self._counts(self.wanted).items() if not rows]
                refuse_taken_ids(self.case, missing)
        if not missing:
            return CreatedCollection(self.plan.name, Action.SKIPPED)
        return self._mark_and_create(Action.ADDED, dict.fromkeys(missing, 0), existing)

    def _counts(self, partitions: Sequence[str]) -> dict[str, int]:
        counts = map_concurrently(self.client, partial(count_rows, self.client, self.target), partitions)
        return dict(zip(partitions, counts, strict=True))

    def _keep(self, existing: Existing) -> CreatedCollection:
        """Leave it as it is, to be verified again: these rows were the last that were loaded into it."""
        names = self.plan.partition_names
        kept = {names[partition.tag]: partition.rows for partition in self.plan.partitions}
        before = unpack_counts(self.wanted, existing.marker) if existing.marker else {}
        return CreatedCollection(self.plan.name, Action.KEPT, before, units=(), kept=kept)

    def _sync(self, existing: Existing) -> CreatedCollection:
        await_jobs(self.client, self.target.name)
        with self._searchable():
            self.changes.find()
            created = self.changes.created()
            if not self.changes.found_any and is_finished_by_own_run(self.case, existing):
                return replace(created, generation=existing.generation)
            marked = self._mark_and_create(created.action, created.before, existing)
            self.changes.delete_extra(marked.generation)
        return replace(created, generation=marked.generation)

    def _append(self, existing: Existing) -> CreatedCollection:
        there = [name for name in self.wanted if self.keyed or name in existing.partitions]
        with self._searchable():
            before = self._counts(there)
            refuse_taken_ids(self.case, [name for name, rows in before.items() if rows or self.keyed])
            refuse_rows_under_other_keys(self.case, [name for name, rows in before.items() if rows])
        return self._mark_and_create(Action.APPENDED, dict.fromkeys(self.wanted, 0) | before, existing)

    def _replace(self, existing: Existing) -> CreatedCollection:
        """Empty the partitions, or partition keys, that rows go to; a run that continues after a kill repeats this."""
        refuse_unapproved_loss(self.case, Action.REPLACED)
        before = dict.fromkeys(self.wanted, 0)
        if self.keyed:
            with self._searchable():
                refuse_taken_ids(self.case, self.wanted, replaced=self.wanted)
                refuse_emptying_elsewhere(self.case)
                emptying = self._mark_with_partitions(Action.EMPTYING, before, existing)
                await_jobs(self.client, self.target.name)
                fence = fence_by_marker(self.client, self.target.name, emptying.generation)
                for tag in [tag for tag, rows in self._counts(self.wanted).items() if rows]:
                    delete_all(self.client, self.target, tag, fence.check)
        else:
            emptying = self._mark_with_partitions(Action.EMPTYING, before, existing)
            await_jobs(self.client, self.target.name)
            fence = fence_by_marker(self.client, self.target.name, emptying.generation)
            for name in [name for name in self.wanted if name in existing.partitions]:
                self._empty_partition(name, fence)
        return self._created(Action.OVERWRITTEN, self._mark(Action.REPLACED, before, last=emptying))

    def _mark_and_create(self, action: Action, before: Mapping[str, int], existing: Existing) -> CreatedCollection:
        return self._created(action, self._mark_with_partitions(action, before, existing))

    def _mark_with_partitions(self, action: Action, before: Mapping[str, int], existing: Existing) -> Marker:
        """Mark the collection, and then create what it lacks: ``skip`` would take an empty partition for finished."""
        marker = self._take_over(action, before)
        try:
            refuse_unapproved_loss(self.case, action)  # others may have written while it waited
            self._create_partitions(existing.partitions)
        except TargetError:
            fence = fence_by_marker(self.client, self.target.name, marker.generation)
            restore_marker(self.client, self.target.name, existing.marker, fence.check())
            raise
        return marker

    def _create_partitions(self, existing: frozenset[str]) -> None:
        if not self.keyed:
            make_partitions(self.client, self.target.name, [name for name in self.wanted if name not in existing])

    def _empty_partition(self, name: str, fence: Fence) -> None:
        """Drop a partition and create it again; ``_default`` can't be dropped, so its rows are deleted."""
        if name != DEFAULT_PARTITION:
            drop_partition(self.client, self.target.name, name, fence.check())
            make_partitions(self.client, self.target.name, [name])
            return
        with self._searchable():
            delete_all(self.client, self.target, name, fence.check)

    def _searchable(self) -> Any:
        case = self.case
        return searchable(self.client, self.target, case.index, case.settings, keep=case.options.create_index)
