"""Make a target ready for the rows of a collection: create, empty or marker it, or go on where a run ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.rows.reader import read_keys
from airflow_provider_milvusdm.targets.milvus.fence import Fence, await_requests
from airflow_provider_milvusdm.targets.milvus.marker import (
    EMPTYING,
    SYNCED,
    VERIFIED,
    Marker,
    fence_by_mark,
    new_marker,
    pack_counts,
    refuse_other_marker,
    restore_marker,
    set_marker,
    unpack_counts,
)
from airflow_provider_milvusdm.targets.milvus.prepare.abandon import ABANDONED, abandon
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case, Options, decide, inspect_target, notes
from airflow_provider_milvusdm.targets.milvus.prepare.existing import Existing
from airflow_provider_milvusdm.targets.milvus.prepare.id_scope import refuse_ids_across
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import give_back
from airflow_provider_milvusdm.targets.milvus.prepare.new import create, drop_leftovers, resume
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import drop_partition, make_partitions
from airflow_provider_milvusdm.targets.milvus.prepare.publish import finish, make_aliases
from airflow_provider_milvusdm.targets.milvus.prepare.sync import MAX_DELETIONS, Changes
from airflow_provider_milvusdm.targets.milvus.runs import Runs, SingleRun
from airflow_provider_milvusdm.targets.milvus.seen import seen_by
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_left
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import await_jobs
from airflow_provider_milvusdm.targets.milvus.server.index import searchable
from airflow_provider_milvusdm.targets.milvus.server.queries import (
    count_rows,
    existing_ids,
    filter_tag,
    ids_outside,
    map_concurrently,
)

if TYPE_CHECKING:
    from pymilvus import MilvusClient

CURE_IDS = "Use mode overwrite, or rename to load into a collection of its own."
CURE_ROW_NUMBERS = "These are row numbers: set id_offset, so that they begin behind the ids that are there."


def create_collection(
    client: MilvusClient,
    plan: CollectionPlan,
    mode: str,
    settings: CollectionSettings | None = None,
    *,
    create_index: bool = True,
    in_place: bool = False,
    repair: bool = False,
    max_deletions: float = MAX_DELETIONS,
    dry_run: bool = False,
    id_scope: str = "collection",
    runs: Runs | None = None,
) -> CreatedCollection:
    """Make the target ready for the rows of ``plan``, or refuse before anything is touched.

    A collection that is made has a name of its own until it is verified. ``mode`` (``skip``, ``append``,
    ``overwrite``, ``sync``) acts only where the collection, or the partitions that were named, exist; ``in_place``
    has ``overwrite`` drop the old collection first. What an earlier run of the same source left half loaded is gone on
    with, unless ``mode`` is ``overwrite``. ``repair``: ``sync`` compares all vectors. ``max_deletions``: the share
    of the rows that it may delete. ``id_scope``: whether an id has to be of one row in the ``collection``, or in a
    ``partition``. A dry run only says what would be done. ``runs`` knows whether other runs have ended.
    """
    options = Options(mode, create_index=create_index, in_place=in_place, runs=runs or SingleRun())
    settings = settings or CollectionSettings()
    case = inspect_target(client, plan, settings, options)
    if not dry_run and settle(case):
        case = inspect_target(client, plan, settings, options)
    action = decide(case)
    on_ids = refuse_ids_across(case, action, id_scope, dry_run=dry_run)
    changes = Changes(case, repair=repair, max_deletions=max_deletions)
    if dry_run:
        foreseen = changes.foresee() if action == "synced" else ()
        created = CreatedCollection(plan.name, action, plan_only=True, notes=foreseen)
    else:
        created = _Creation(case, changes).do(action)
    return replace(created, notes=(*notes(case, action), *on_ids, *created.notes))


def settle(case: Case) -> bool:
    """Finish, or undo, what a run that ended in the middle of its last step left; whether there was anything."""
    marker = case.existing.marker if case.existing else None
    if marker and marker.state == VERIFIED:
        finish(case.client, replace(marker, target=case.target.name))  # somebody may have given it another since
        return True
    if any(leftover.former for leftover in case.leftovers):
        give_back(case.client, case.target.name, case.leftovers)
        return True
    if case.existing:
        aliases = [alias for leftover in case.leftovers if leftover.marker for alias in leftover.marker.aliases]
        make_aliases(case.client, case.target.name, aliases)
    return False


class _Creation:
    """One collection being made ready."""

    def __init__(self, case: Case, changes: Changes) -> None:
        self.case, self.changes = case, changes
        self.client, self.plan, self.target, self.existing = case.client, case.plan, case.target, case.existing
        self.keyed, self.wanted = case.keyed, case.wanted

    def do(self, action: str) -> CreatedCollection:
        """Do it."""
        if action == ABANDONED:
            return abandon(self.case)
        if self.existing is None or action == "overwritten":
            found = self.case.resumable
            return resume(self.case, found, found.marker) if found and found.marker else create(self.case, action)
        if action == "skipped":
            return CreatedCollection(self.plan.name, action)
        drop_leftovers(self.case)
        if action == "resumed" and self.existing.marker:
            return self._resume(self.existing, self.existing.marker)
        if action == "kept":
            return self._keep(self.existing)
        if action == "synced":
            return self._sync(self.existing)
        if action == "added":
            return self._add(self.existing)
        if action == "appended":
            return self._append(self.existing)
        return self._replace(self.existing)

    def _created(self, action: str, marker: Marker, **others: Any) -> CreatedCollection:
        before = unpack_counts(self.wanted, marker)
        return CreatedCollection(self.plan.name, action, before, generation=marker.generation, **others)

    def _mark(self, action: str, before: Mapping[str, int], *, seen: str = "", last: Marker | None = None) -> Marker:
        """Mark the collection as being loaded: what an earlier run still does to it is refused from here on.

        Refused itself where another run has marked it since the ``last`` marker: that of the collection as found.
        """
        last = last or (self.existing.marker if self.existing else None)
        refuse_other_marker(self.client, self.target.name, last.generation if last else "")
        marker = new_marker(
            self.plan.fingerprint,
            collection=last.collection if last else "",
            target=self.target.name,
            action=action,
            run=self.case.options.runs.own,
            **pack_counts(self.wanted, before),
            previous=last.finished_source if last else "",
            seen=seen,
        )
        set_marker(self.client, self.target.name, marker)
        return marker

    def _take_over(self, action: str, before: Mapping[str, int], seen: str = "") -> Marker:
        """Mark it, and wait until nothing comes any more of the run that was loading it."""
        marker, former = self._mark(action, before, seen=seen), self.existing.marker if self.existing else None
        if former and former.is_loading:
            await_requests(self.case.options.runs, former.run, self.target.name)
        return marker

    def _resume(self, existing: Existing, last: Marker) -> CreatedCollection:
        """Go on with what an earlier run of the same source left half loaded."""
        if last.action == EMPTYING:
            return self._replace(existing)
        if last.action == SYNCED:
            return self._sync(existing)
        marker = self._take_over(last.action, unpack_counts(self.wanted, last))
        await_jobs(self.client, self.target.name)
        self._create_partitions(existing.partitions)
        return self._created("resumed", marker, upsert=True)

    def _add(self, existing: Existing) -> CreatedCollection:
        """Load the partitions, or partition keys, that are not there; the others stay as they are."""
        missing = [name for name in self.wanted if name not in existing.partitions]
        if self.keyed:
            with self._searchable():
                missing = [tag for tag, rows in self._counts(self.wanted).items() if not rows]
                self._check_ids(missing)
        if not missing:
            return CreatedCollection(self.plan.name, "skipped")
        return self._mark_and_create("added", dict.fromkeys(missing, 0), existing)

    def _counts(self, partitions: Sequence[str]) -> dict[str, int]:
        counts = map_concurrently(self.client, partial(count_rows, self.client, self.target), partitions)
        return dict(zip(partitions, counts, strict=True))

    def _keep(self, existing: Existing) -> CreatedCollection:
        """Have it verified once more, as it is: these rows were the last to be loaded into it."""
        names = self.plan.partition_names
        kept = {names[partition.tag]: partition.rows for partition in self.plan.partitions}
        before = unpack_counts(self.wanted, existing.marker) if existing.marker else {}
        return CreatedCollection(self.plan.name, "kept", before, units=(), kept=kept)

    def _sync(self, existing: Existing) -> CreatedCollection:
        await_jobs(self.client, self.target.name)
        with self._searchable():
            self.changes.find()
            created = self.changes.created()
            marked = self._mark_and_create(created.action, created.before, existing, seen_by(self.plan))
            self.changes.delete_extra(marked.generation)
        return replace(created, generation=marked.generation)

    def _append(self, existing: Existing) -> CreatedCollection:
        there = [name for name in self.wanted if self.keyed or name in existing.partitions]
        with self._searchable():
            before = self._counts(there)
            self._check_ids([name for name, rows in before.items() if rows or self.keyed])
        return self._mark_and_create("appended", dict.fromkeys(self.wanted, 0) | before, existing)

    def _replace(self, existing: Existing) -> CreatedCollection:
        """Empty the partitions, or partition keys, that rows go to; whoever goes on after a kill begins with that."""
        before = dict.fromkeys(self.wanted, 0)
        if self.keyed:
            with self._searchable():
                self._check_ids(self.wanted, replaced=self.wanted)
                emptying = self._take_over(EMPTYING, before)
                await_jobs(self.client, self.target.name)
                for tag in [tag for tag, rows in self._counts(self.wanted).items() if rows]:
                    refuse_other_marker(self.client, self.target.name, emptying.generation)
                    self.client.delete(self.target.name, filter=filter_tag(self.target.partition_field, tag))
        else:
            self._create_partitions(existing.partitions)
            emptying = self._take_over(EMPTYING, before)
            await_jobs(self.client, self.target.name)
            fence = fence_by_mark(self.client, self.target.name, emptying.generation)
            for name in [name for name in self.wanted if name in existing.partitions]:
                self._empty_partition(name, fence)
        return self._created("overwritten", self._mark("replaced", before, last=emptying))

    def _mark_and_create(
        self, action: str, before: Mapping[str, int], existing: Existing, seen: str = ""
    ) -> CreatedCollection:
        marker = self._take_over(action, before, seen)
        try:
            self._create_partitions(existing.partitions)
        except TargetError:
            restore_marker(self.client, self.target.name, existing.marker)
            raise
        return self._created(action, marker)

    def _create_partitions(self, existing: frozenset[str]) -> None:
        if not self.keyed:
            make_partitions(self.client, self.target.name, [name for name in self.wanted if name not in existing])

    def _empty_partition(self, name: str, fence: Fence) -> None:
        """Drop a partition and make it again; ``_default`` can't be dropped, so its rows are deleted."""
        if name != DEFAULT_PARTITION:
            drop_partition(self.client, self.target.name, name, seconds_left(fence.check()))
            make_partitions(self.client, self.target.name, [name])
            return
        with self._searchable():
            for some in (f"{self.target.id_field} >= {1 - 2**63}", f"{self.target.id_field} < {1 - 2**63}"):
                fence.check()
                self.client.delete(self.target.name, filter=some, partition_name=name)

    def _searchable(self) -> Any:
        case = self.case
        return searchable(self.client, self.target, case.index, case.settings, keep=case.options.create_index)

    def _source_ids(self, partitions: set[str]) -> Iterator[tuple[str, list[int]]]:
        """Live ids that would go to ``partitions``, in batches; none where the target makes them."""
        for unit in () if self.target.ids_by_target else self.plan.units:
            pieces = [piece for piece in unit.slices if self.plan.partition_names[piece.partition] in partitions]
            for piece in pieces:
                for _, keys in read_keys(unit.source, unit.collection, piece):
                    yield self.plan.partition_names[piece.partition], keys.tolist()

    def _check_ids(self, partitions: Collection[str], replaced: Collection[str] = ()) -> None:
        """Refuse ids that are there: in the same partition, or under any partition key that is not replaced."""
        for partition, ids in self._source_ids(set(partitions)):
            if self.keyed:
                self._refuse_ids(partition, ids, ids_outside(self.client, self.target, replaced, ids))
            else:
                self._refuse_ids(partition, ids, existing_ids(self.client, self.target, partition, ids))

    def _refuse_ids(self, partition: str, ids: Sequence[int], found: Sequence[int]) -> None:
        if found:
            numbered = self.plan.source and self.plan.source.options.get("ids") == "row_number"
            raise TargetError(
                f"ids to append are in the target already: {len(found)} of {len(ids)} tried",
                where=f"collection {self.target.name!r}, partition {partition!r}",
                expected="none of them: a second row of an id would be stored and never served",
                found=f"ids {', '.join(map(str, sorted(found)[:20]))}",
                cure=CURE_ROW_NUMBERS if numbered else CURE_IDS,
            )
