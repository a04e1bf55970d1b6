"""Plan a collection against the target and create it: skip, append, overwrite, or go on where a run ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.sources.read import read_slices, rows_within
from airflow_provider_milvusdm.target_settings import CollectionSettings
from airflow_provider_milvusdm.targets.milvus_alias import aliased, check_alias
from airflow_provider_milvusdm.targets.milvus_auto_id import can_generate_ids, id_notes
from airflow_provider_milvusdm.targets.milvus_change_metric import check_unit_length
from airflow_provider_milvusdm.targets.milvus_existing import Existing, check_fit, find_existing
from airflow_provider_milvusdm.targets.milvus_import_jobs import await_jobs
from airflow_provider_milvusdm.targets.milvus_index import index_for, searchable
from airflow_provider_milvusdm.targets.milvus_make import NewCollection
from airflow_provider_milvusdm.targets.milvus_mark import Mark, new_mark, set_mark
from airflow_provider_milvusdm.targets.milvus_partitions import make_partitions, refuse_too_many
from airflow_provider_milvusdm.targets.milvus_rows import (
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
    CollectionSpec,
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
) -> CreatedCollection:
    """Make the target ready for the rows of ``plan``, or refuse before anything is touched.

    ``mode`` (``skip``, ``append``, ``overwrite``, ``sync``) acts only where the collection, or the partitions that
    were named, exist. A collection that an earlier run of the same source left half loaded is gone on with, unless
    ``mode`` is ``overwrite``. ``mend``: ``sync`` compares vectors too. A dry run only says what would be done.
    """
    if plan.collection is None:
        raise TargetError(plan.error)
    _refuse_binary_in_lite(client, plan.collection)
    settings = settings or CollectionSettings()
    check_alias(client, plan, settings, create_index=create_index)
    creation = _Creation(client, plan, plan.collection, settings, create_index, mend)
    action = creation.decide(mode)
    creation.refuse_too_many_partitions(action)
    notes = creation.notes(action)
    created = CreatedCollection(plan.name, action, planned=True) if dry_run else creation.do(action)
    return replace(created, notes=(*notes, *created.notes))


def _refuse_binary_in_lite(client: MilvusClient, collection: CollectionSpec) -> None:
    if collection.metric.is_binary and is_lite(client):
        raise TargetError(
            f"collection {collection.name!r} holds binary vectors ({collection.metric})",
            expected="a Milvus 2.x server",
            found=f"Milvus Lite ({client.get_server_version()}), which has no BINARY_VECTOR",
            cure="Set dest_host and dest_port, or milvus_conn_id, to a Milvus 2.x server.",
        )


class _Creation:
    """One collection being created."""

    def __init__(
        self,
        client: MilvusClient,
        plan: CollectionPlan,
        collection: CollectionSpec,
        settings: CollectionSettings,
        create_index: bool,
        mend: bool,
    ) -> None:
        self.client, self.plan, self.collection = client, plan, collection
        self.settings, self.create_index, self.mend = settings, create_index, mend
        generate_ids = plan.target.generate_ids and can_generate_ids(client)
        self.target = replace(plan.target, generate_ids=generate_ids)
        self.keyed = bool(self.target.partition_field)
        self.index = index_for(client, collection, settings)
        self.wanted = [plan.partition_names[partition.tag] for partition in plan.partitions]
        self.existing = find_existing(client, self.target.name)

    def decide(self, mode: str) -> str:
        """What is to be done, or a refusal; nothing is touched."""
        if self.index.metric != self.collection.metric and not self.collection.metric.is_binary:
            check_unit_length(self.plan, self.index.metric)
        existing = self.existing
        if existing is None:
            return "created"
        if self.plan.alias:
            return self._decide_behind_alias(existing, mode)
        if mode == "sync":
            self._check_syncable(existing)
            return "synced"
        if mode == "overwrite" and self.plan.whole:
            return "overwritten"
        if existing.mark and existing.mark.is_loading:
            self._refuse_other_source(existing.mark)
            if mode != "overwrite":
                return self._resumed(existing)
        if mode == "skip" and (self.plan.whole or (not self.keyed and existing.partitions.issuperset(self.wanted))):
            return "skipped"
        self._check_schema(existing)
        if mode == "overwrite" and not self.keyed:
            self._refuse_emptying_in_lite()
        return {"skip": "added", "append": "appended", "overwrite": "replaced"}[mode]

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
            return self._keep()
        if action == "synced":
            return self._sync(self.existing)
        if action == "added":
            return self._add(self.existing)
        if action == "appended":
            return self._append(self.existing)
        return self._replace_tags() if self.keyed else self._replace_partitions(self.existing)

    def refuse_too_many_partitions(self, action: str) -> None:
        """Count the partitions that there would be; nothing is touched."""
        if action != "skipped" and not self.keyed:
            stay = self.existing.partitions if self.existing and action != "overwritten" else {DEFAULT_PARTITION}
            refuse_too_many(self.client, self.target.name, stay.union(self.wanted), self.settings)

    def notes(self, action: str) -> tuple[str, ...]:
        """What the report has to say of the target."""
        stays = self.existing if action != "overwritten" else None
        return id_notes(self.collection, stays.generates_ids if stays else self.target.generate_ids)

    def _create(self, action: str) -> CreatedCollection:
        before = dict.fromkeys(self.wanted, 0)
        mark = new_mark(self.plan.fingerprint, before)
        self._new().make(mark.properties())
        try:
            self._create_partitions(frozenset({DEFAULT_PARTITION}))
        except TargetError:
            self.client.drop_collection(self.target.name)
            raise
        return CreatedCollection(self.plan.name, action, before)

    def _new(self) -> NewCollection:
        index = self.index if self.create_index else None
        return NewCollection(self.client, self.target, self.collection, self.settings, index)

    def _refuse_other_source(self, mark: Mark) -> None:
        if mark.source == self.plan.fingerprint:
            return
        raise TargetError(
            f"collection {self.target.name!r} of the target is half loaded, from another source or selection",
            expected="a finished collection, or one left by an interrupted run of the same migration",
            found=f"its mark names source {mark.source}, this run's is {self.plan.fingerprint}",
            cure="Finish that migration with the same source_collection, or load anew: mode overwrite with "
            "the whole collection, or drop it, or rename.",
        )

    def _resumed(self, existing: Existing) -> str:
        self._check_schema(existing)
        if self.target.auto_id:
            raise TargetError(
                f"collection {self.target.name!r} was left half loaded, and its ids are made by the target (ids: auto)",
                expected="ids that say which rows are there already",
                found="none, so that no retry can be exact",
                cure="Load it anew: mode overwrite, or drop it.",
            )
        return "resumed"

    def _resume(self, existing: Existing) -> CreatedCollection:
        """Go on with what an earlier run of the same source left half loaded."""
        await_jobs(self.client, self.target.name)
        self._create_partitions(existing.partitions)
        before = existing.mark.before if existing.mark else {}
        return CreatedCollection(self.plan.name, "resumed", before, upsert=True)

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

    def _decide_behind_alias(self, existing: Existing, mode: str) -> str:
        """The collection's name tells its source: what it holds needn't be loaded again, and readers may be at it."""
        if existing.mark is None or existing.mark.source != self.plan.fingerprint:
            raise TargetError(
                f"collection {self.target.name!r} of the target is not one that this migration made",
                expected=f"a mark with source {self.plan.fingerprint}",
                found=f"a mark with source {existing.mark.source}" if existing.mark else "no mark",
                cure="Drop it, or rename.",
            )
        self._check_schema(existing)
        if mode == "overwrite" and aliased(self.client, self.plan.alias) != self.target.name:
            return "overwritten"
        return self._resumed(existing) if existing.mark.is_loading else "kept"

    def _keep(self) -> CreatedCollection:
        """Have it verified once more, as it is."""
        names = self.plan.partition_names
        kept = {names[partition.tag]: partition.rows for partition in self.plan.partitions}
        return CreatedCollection(self.plan.name, "kept", dict.fromkeys(self.wanted, 0), units=(), kept=kept)

    def _check_syncable(self, existing: Existing) -> None:
        self._check_schema(existing)
        if self.target.auto_id or self.target.own_keys:
            raise TargetError(
                f"collection {self.target.name!r} can't be synced",
                expected="the ids of the source as primary keys",
                found="keys made by the target"
                if self.target.auto_id
                else "keys made of places (duplicate_ids: remap)",
                cure="Use mode overwrite.",
            )

    def _there(self, existing: Existing) -> frozenset[str]:
        """The partitions, or partition keys, that may hold rows already."""
        return frozenset(self.wanted) if self.keyed else existing.partitions

    def _sync(self, existing: Existing) -> CreatedCollection:
        with self._searchable():
            changes = Changes(self.client, self.plan, self._there(existing), mend=self.mend)
            changes.find()
            created = changes.created()
            self._mark_and_create(created.action, created.before, existing.partitions)
            changes.delete_surplus()
        return created

    def _append(self, existing: Existing) -> CreatedCollection:
        there = [name for name in self.wanted if self.keyed or name in existing.partitions]
        with self._searchable():
            before = self._counts(there)
            self._check_ids([name for name, rows in before.items() if rows or self.keyed])
        return self._mark_and_create("appended", dict.fromkeys(self.wanted, 0) | before, existing.partitions)

    def _refuse_emptying_in_lite(self) -> None:
        if DEFAULT_PARTITION in self.wanted and is_lite(self.client):
            raise TargetError(
                f"partition {DEFAULT_PARTITION} of collection {self.target.name!r} can't be emptied alone",
                found="Milvus Lite, whose delete takes no notice of partitions",
                cure="Overwrite the whole collection, or use a Milvus 2.x server.",
            )

    def _replace_tags(self) -> CreatedCollection:
        before = dict.fromkeys(self.wanted, 0)
        with self._searchable():
            self._check_ids(self.wanted, replaced=self.wanted)
            set_mark(self.client, self.target.name, new_mark(self.plan.fingerprint, before))
            for tag in [tag for tag, rows in self._counts(self.wanted).items() if rows]:
                self.client.delete(self.target.name, filter=filter_tag(self.target.partition_field, tag))
        return CreatedCollection(self.plan.name, "overwritten", before)

    def _replace_partitions(self, existing: Existing) -> CreatedCollection:
        there = [name for name in self.wanted if name in existing.partitions]
        before = dict.fromkeys(self.wanted, 0)
        set_mark(self.client, self.target.name, new_mark(self.plan.fingerprint, before))
        await_jobs(self.client, self.target.name)
        for name in there:
            self._empty_partition(name)
        self._create_partitions(existing.partitions - set(there) | {DEFAULT_PARTITION})
        return CreatedCollection(self.plan.name, "overwritten", before)

    def _mark_and_create(self, action: str, before: Mapping[str, int], existing: frozenset[str]) -> CreatedCollection:
        mark = new_mark(self.plan.fingerprint, before)
        set_mark(self.client, self.target.name, mark)
        try:
            self._create_partitions(existing)
        except TargetError:
            for name in set(self.client.list_partitions(self.target.name)) - existing:
                self._empty_partition(name)
            set_mark(self.client, self.target.name, mark.completed())
            raise
        return CreatedCollection(self.plan.name, action, before)

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
        return searchable(self.client, self.target, self.index, self.settings, keep=self.create_index)

    def _source_ids(self, partitions: set[str]) -> Iterator[tuple[str, list[int]]]:
        """Live ids that would go to ``partitions``, in batches; none where the target makes them."""
        for unit in () if self.target.auto_id else self.plan.units:
            pieces = [piece for piece in unit.slices if self.plan.partition_names[piece.partition] in partitions]
            for _, tag, batch in read_slices(unit.source, unit.collection, pieces, rows_within(unit.collection)):
                yield self.plan.partition_names[tag], batch.ids.tolist()

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

    def _check_schema(self, existing: Existing) -> None:
        check_fit(self.client, existing, self.target, self.collection, self.index.metric)
