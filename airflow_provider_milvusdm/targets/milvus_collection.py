"""Make a target ready for the rows of a collection: create, empty or mark it, or go on where a run ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.sources.read import read_keys
from airflow_provider_milvusdm.target_settings import CollectionSettings
from airflow_provider_milvusdm.targets.milvus_decide import Case, decide, notes, study
from airflow_provider_milvusdm.targets.milvus_existing import Existing
from airflow_provider_milvusdm.targets.milvus_id_scope import refuse_ids_across
from airflow_provider_milvusdm.targets.milvus_import_jobs import await_jobs
from airflow_provider_milvusdm.targets.milvus_index import searchable
from airflow_provider_milvusdm.targets.milvus_make import NewCollection
from airflow_provider_milvusdm.targets.milvus_mark import Mark, new_mark, set_mark
from airflow_provider_milvusdm.targets.milvus_partitions import make_partitions
from airflow_provider_milvusdm.targets.milvus_rows import (
    count_all,
    count_rows,
    existing_ids,
    filter_tag,
    ids_outside,
    is_lite,
    side_by_side,
)
from airflow_provider_milvusdm.targets.milvus_sync import Changes
from airflow_provider_milvusdm.vectors import (
    DEFAULT_PARTITION,
    CollectionPlan,
    CreatedCollection,
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
    mend: bool = False,
    dry_run: bool = False,
    id_scope: str = "collection",
) -> CreatedCollection:
    """Make the target ready for the rows of ``plan``, or refuse before anything is touched.

    ``mode`` (``skip``, ``append``, ``overwrite``, ``sync``) acts only where the collection, or the partitions that
    were named, exist. A collection that an earlier run of the same source left half loaded is gone on with, unless
    ``mode`` is ``overwrite``. ``mend``: ``sync`` compares vectors too. A dry run only says what would be done.
    ``id_scope``: whether an id has to be of one row in the ``collection``, or in a ``partition``.
    """
    case = study(client, plan, settings or CollectionSettings(), create_index=create_index)
    action = decide(case, mode)
    on_ids = refuse_ids_across(case, action, id_scope, dry_run=dry_run)
    created = CreatedCollection(plan.name, action, planned=True) if dry_run else _Creation(case, mend).do(action)
    return replace(created, notes=(*notes(case, action), *on_ids, *created.notes))


class _Creation:
    """One collection being made ready."""

    def __init__(self, case: Case, mend: bool) -> None:
        self.case, self.mend = case, mend
        self.client, self.plan, self.target, self.existing = case.client, case.plan, case.target, case.existing
        self.keyed, self.wanted = case.keyed, case.wanted

    def do(self, action: str) -> CreatedCollection:
        """Do it."""
        if action == "overwritten":
            self._new().rehearse()
            self.client.drop_collection(self.target.name)
        if self.existing is None or action == "overwritten":
            return self._create(action)
        if action == "resumed":
            return self._resume(self.existing)
        if action == "skipped":
            return CreatedCollection(self.plan.name, action)
        if action == "kept":
            return self._keep(self.existing)
        if action == "synced":
            return self._sync(self.existing)
        if action == "added":
            return self._add(self.existing)
        if action == "appended":
            return self._append(self.existing)
        return self._replace_tags() if self.keyed else self._replace_partitions(self.existing)

    def _create(self, action: str) -> CreatedCollection:
        before = dict.fromkeys(self.wanted, 0)
        mark = new_mark(self.plan.fingerprint, before)
        self._new().make(mark.properties())
        try:
            self._create_partitions(frozenset({DEFAULT_PARTITION}))
        except TargetError:
            self.client.drop_collection(self.target.name)
            raise
        return self._created(action, mark)

    def _created(self, action: str, mark: Mark, **others: Any) -> CreatedCollection:
        return CreatedCollection(self.plan.name, action, mark.before, incarnation=mark.incarnation, **others)

    def _mark(self, before: Mapping[str, int]) -> Mark:
        """Mark the collection as being loaded: what an earlier run still does to it is refused from here on."""
        mark = new_mark(self.plan.fingerprint, before)
        set_mark(self.client, self.target.name, mark)
        return mark

    def _new(self) -> NewCollection:
        case = self.case
        index = case.index if case.create_index else None
        return NewCollection(self.client, self.target, case.collection, case.settings, index)

    def _resume(self, existing: Existing) -> CreatedCollection:
        """Go on with what an earlier run of the same source left half loaded."""
        mark = self._mark(existing.mark.before if existing.mark else {})
        await_jobs(self.client, self.target.name)
        self._create_partitions(existing.partitions)
        return self._created("resumed", mark, upsert=True)

    def _add(self, existing: Existing) -> CreatedCollection:
        """Load the partitions, or partition keys, that are not there; the others stay as they are."""
        missing = [name for name in self.wanted if name not in existing.partitions]
        if self.keyed:
            with self._searchable():
                missing = [tag for tag, rows in self._counts(self.wanted).items() if not rows]
                self._check_ids(missing)
        if not missing:
            return CreatedCollection(self.plan.name, "skipped")
        return self._mark_and_create("added", dict.fromkeys(missing, 0), existing.partitions)

    def _counts(self, partitions: Sequence[str]) -> dict[str, int]:
        counts = side_by_side(self.client, partial(count_rows, self.client, self.target), partitions)
        return dict(zip(partitions, counts, strict=True))

    def _others_hold_rows(self) -> bool:
        """Whether rows stand under other partition keys than those to load."""
        return sum(self._counts(self.wanted).values()) < count_all(self.client, self.target)

    def _keep(self, existing: Existing) -> CreatedCollection:
        """Have it verified once more, as it is: these rows were the last to be loaded into it."""
        names = self.plan.partition_names
        kept = {names[partition.tag]: partition.rows for partition in self.plan.partitions}
        before = existing.mark.before if existing.mark else {}
        return CreatedCollection(self.plan.name, "kept", before, units=(), kept=kept)

    def _there(self, existing: Existing) -> frozenset[str]:
        """The partitions, or partition keys, that may hold rows already."""
        return frozenset(self.wanted) if self.keyed else existing.partitions

    def _sync(self, existing: Existing) -> CreatedCollection:
        await_jobs(self.client, self.target.name)
        with self._searchable():
            if self.keyed and self._others_hold_rows():
                self._check_ids(self.wanted, replaced=self.wanted)
            changes = Changes(self.client, self.plan, self._there(existing), mend=self.mend)
            changes.find()
            created = changes.created()
            marked = self._mark_and_create(created.action, created.before, existing.partitions)
            changes.delete_surplus()
        return replace(created, incarnation=marked.incarnation)

    def _append(self, existing: Existing) -> CreatedCollection:
        there = [name for name in self.wanted if self.keyed or name in existing.partitions]
        with self._searchable():
            before = self._counts(there)
            self._check_ids([name for name, rows in before.items() if rows or self.keyed])
        return self._mark_and_create("appended", dict.fromkeys(self.wanted, 0) | before, existing.partitions)

    def _replace_tags(self) -> CreatedCollection:
        before = dict.fromkeys(self.wanted, 0)
        with self._searchable():
            self._check_ids(self.wanted, replaced=self.wanted)
            mark = self._mark(before)
            await_jobs(self.client, self.target.name)
            for tag in [tag for tag, rows in self._counts(self.wanted).items() if rows]:
                self.client.delete(self.target.name, filter=filter_tag(self.target.partition_field, tag))
        return self._created("overwritten", mark)

    def _replace_partitions(self, existing: Existing) -> CreatedCollection:
        there = [name for name in self.wanted if name in existing.partitions]
        mark = self._mark(dict.fromkeys(self.wanted, 0))
        await_jobs(self.client, self.target.name)
        for name in there:
            self._empty_partition(name)
        self._create_partitions(existing.partitions - set(there) | {DEFAULT_PARTITION})
        return self._created("overwritten", mark)

    def _mark_and_create(self, action: str, before: Mapping[str, int], existing: frozenset[str]) -> CreatedCollection:
        mark = self._mark(before)
        try:
            self._create_partitions(existing)
        except TargetError:
            for name in set(self.client.list_partitions(self.target.name)) - existing:
                self._empty_partition(name)
            set_mark(self.client, self.target.name, mark.completed())
            raise
        return self._created(action, mark)

    def _create_partitions(self, existing: frozenset[str]) -> None:
        if not self.keyed:
            make_partitions(self.client, self.target.name, [name for name in self.wanted if name not in existing])

    def _empty_partition(self, name: str) -> None:
        """Drop a partition; ``_default`` can't be dropped, so its rows are deleted."""
        if name == DEFAULT_PARTITION:
            with self._searchable():
                for some in (f"{self.target.id_field} >= {1 - 2**63}", f"{self.target.id_field} < {1 - 2**63}"):
                    self.client.delete(self.target.name, filter=some, partition_name=name)
            return
        if not is_lite(self.client):
            self.client.release_partitions(self.target.name, [name])
        self.client.drop_partition(self.target.name, name)

    def _searchable(self) -> Any:
        case = self.case
        return searchable(self.client, self.target, case.index, case.settings, keep=case.create_index)

    def _source_ids(self, partitions: set[str]) -> Iterator[tuple[str, list[int]]]:
        """Live ids that would go to ``partitions``, in batches; none where the target makes them."""
        for unit in () if self.target.auto_id else self.plan.units:
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
            raise TargetError(
                f"ids to append are in the target already: {len(found)} of {len(ids)} tried",
                where=f"collection {self.target.name!r}, partition {partition!r}",
                expected="none of them: a second row of an id would be stored and never served",
                found=f"ids {', '.join(map(str, sorted(found)[:20]))}",
                cure="Use mode overwrite, or rename to load into a collection of its own.",
            )
