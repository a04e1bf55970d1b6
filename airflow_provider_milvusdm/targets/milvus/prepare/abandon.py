"""Undo what a run left half done: what it wrote is removed, and the target is as it was before."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CreatedCollection
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.rows import rows_within
from airflow_provider_milvusdm.rows.key_ranges import KeyRanges
from airflow_provider_milvusdm.rows.reader import read_keys, read_slices
from airflow_provider_milvusdm.targets.milvus.fence import await_requests, new_deadline
from airflow_provider_milvusdm.targets.milvus.marker import (
    Marker,
    fence_by_marker,
    new_partitions,
    refuse_changed_collection,
    restore_marker,
    set_marker,
    unpack_counts,
)
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.prepare.existing import Existing
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import drop_partition
from airflow_provider_milvusdm.targets.milvus.prepare.unpublished import drop_leftovers
from airflow_provider_milvusdm.targets.milvus.server.capabilities import deletes_within_partition, product_name
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import await_jobs
from airflow_provider_milvusdm.targets.milvus.server.index import searchable
from airflow_provider_milvusdm.targets.milvus.server.queries import (
    IDS_A_QUERY,
    count_rows,
    delete_ids,
    existing_ids,
    map_concurrently,
    read_rows,
    rows_of,
)
from airflow_provider_milvusdm.targets.milvus.units import all_rows

CURE_IDS = (
    "Use a copy of the source as it was when they were added: rows that it has lost since can't be found. If something "
    "else has inserted or deleted rows meanwhile, abandon can't undo the run."
)
CURE_NEW_IDS = (
    "Rows whose ids the target made (ids: auto) can't be told from others: load the whole collection again with mode "
    "overwrite, or find them by your own means."
)


def abandon(case: Case) -> CreatedCollection:
    """Drop what was loaded under a name of its own, and remove each row that was added to an existing collection.

    Added rows are found by the source, which must still hold them: the same ids, with the same vectors bit for bit.
    Raises TargetError, and removes nothing, where the counts would then differ from those before.
    """
    notes = [f"{leftover.name} was dropped" for leftover in case.leftovers]
    marker = case.existing.marker if case.existing else None
    if case.existing and marker and marker.is_loading:
        undoing = _Undoing(case, case.existing, marker)
        with searchable(case.client, case.target, case.index, case.settings, keep=False):
            notes.append(f"{undoing.undo()} rows of {case.target.name} were removed")
        undoing.drop_partitions()
        restore_marker(case.client, case.target.name, undoing.marker.before_it(), undoing.fence.check())
    drop_leftovers(case)
    return CreatedCollection(
        case.plan.name, Action.ABANDONED, notes=tuple(notes or ["no run had left anything half loaded"])
    )


def keys_of_added(case: Case, before: Mapping[str, int]) -> tuple[int, ...]:
    """Lowest and highest key of the rows that go to the first partition with rows ``before``, for the marker.

    None of them was in the target, so a source that has neither is not the one that is loaded.
    """
    for partition in () if case.target.ids_by_target else case.plan.partitions:
        if partition.rows and before.get(case.plan.partition_names[partition.tag]):
            return KeyRanges.from_text(partition.key_ranges).extent
    return ()


class _Undoing:
    """Removes the rows that were added to a collection."""

    def __init__(self, case: Case, existing: Existing, marker: Marker) -> None:
        if not (marker.action and marker.action.effect.can_be_undone):
            raise _cannot(case, marker)
        self.case, self.client, self.target = case, case.client, case.target
        self.former, self.existing = marker, existing
        self.marker = replace(marker, generation=secrets.token_hex(8), run=case.options.runs.own)
        self.fence = fence_by_marker(self.client, self.target.name, self.marker.generation)
        there = set(case.wanted) if case.keyed else existing.partitions
        self.before = {name: rows for name, rows in unpack_counts(case.wanted, marker).items() if name in there}
        if marker.keys and case.plan.fingerprint != marker.source and not self._has_keys_of_run():
            raise _other_copy(case, marker)

    def drop_partitions(self) -> None:
        """Drop the partitions that the run created: a later ``skip`` would take them for finished."""
        for name in new_partitions(self.case.wanted, self.marker).intersection(self.before):
            drop_partition(self.client, self.target.name, name, self.fence.check())

    def undo(self) -> int:
        """Remove the rows and return their number; what the former run still sends is refused from here on."""
        deadline = new_deadline()  # stops a suspended process, which would undo a newer load
        refuse_changed_collection(self.client, self.target.name, self.former.generation, self.existing.collection_id)
        set_marker(self.client, self.target.name, self.marker, deadline)
        await_requests(self.case.options.runs, self.former.run, self.target.name)
        await_jobs(self.client, self.target.name)
        found = Counter[str]()
        for partition, ids in self._added():
            self._refuse_rows_elsewhere(partition, ids)
            found[partition] += len(ids)
        self._check(found)
        for partition, ids in self._added():
            delete_ids(self.client, self.target, partition, ids, self.fence.check)
        self._check(Counter())
        return found.total()

    def _has_keys_of_run(self) -> bool:
        """Whether the source has the lowest or the highest key of the run: rows from before the run have neither."""
        plan, wanted = self.case.plan, np.array(self.marker.keys, np.int64)
        slices = ((unit, row_slice) for unit in plan.units for row_slice in unit.slices)
        batches = (read_keys(unit.source, unit.collection, row_slice) for unit, row_slice in slices)
        return any(np.isin(wanted, keys).any() for batch in batches for _, keys in batch)

    def _added(self) -> Iterator[tuple[str, list[int]]]:
        """Partition and ids of the source's rows that the target holds bit for bit, in batches.

        None where the target makes the ids.
        """
        if self.target.ids_by_target:
            return
        plan = self.case.plan
        for unit in all_rows(plan, CreatedCollection(plan.name, Action.ABANDONED, self.before)):
            rows = min(rows_within(unit.collection), IDS_A_QUERY)
            for _, partition, batch in read_slices(unit.source, unit.collection, unit.slices, rows):
                wanted = rows_of(batch)
                found = read_rows(self.client, self.target, partition, list(wanted), list(batch.columns), IDS_A_QUERY)
                yield partition, [row_id for row_id, row in wanted.items() if found.get(row_id) == row]

    def _check(self, added: Counter[str]) -> None:
        """Raises TargetError where the number of other rows is not the one from before.

        ``added``: rows of the source in the target, by partition.
        """
        names = list(self.before)
        counts = map_concurrently(self.client, partial(count_rows, self.client, self.target), names)
        for name, count in zip(names, counts, strict=True):
            if count - added[name] != self.before[name]:
                raise TargetError(
                    f"the rows that were added to partition {name!r} of collection {self.target.name!r} can't be "
                    "identified",
                    expected=f"{self.before[name]} rows from before, and rows of the source",
                    found=f"{count} rows, {added[name]} of them the source's",
                    cure=CURE_NEW_IDS if self.target.ids_by_target else CURE_IDS,
                )

    def _refuse_rows_elsewhere(self, partition: str, ids: list[int]) -> None:
        """Refuse to delete ids that another partition holds too, where a delete would remove them there as well."""
        if deletes_within_partition(self.client) or self.target.partition_field:
            return
        for other in self.existing.partitions - {partition}:
            if found := existing_ids(self.client, self.target, other, ids):
                raise TargetError(
                    f"rows can't be removed from partition {partition!r} of collection {self.target.name!r} alone",
                    expected="ids that no other partition holds",
                    found=f"ids {', '.join(map(str, found[:20]))} also in partition {other!r}, and "
                    f"{product_name(self.client)}, which deletes an id from all partitions",
                    cure="Finish the run with the same source instead.",
                )


def _other_copy(case: Case, marker: Marker) -> TargetError:
    return TargetError(
        f"the run that is to be undone loaded other rows into collection {case.target.name!r} of the target",
        expected=f"the source of that run, {marker.source}, or a later copy of it",
        found=f"a source, {case.plan.fingerprint}, without the ids {' and '.join(map(str, marker.keys))} of that run",
        cure="Use a copy of the source as it was when that run began.",
    )


def _cannot(case: Case, marker: Marker) -> TargetError:
    return TargetError(
        f"what a run left half done in collection {case.target.name!r} can't be undone",
        expected="rows that were added to it",
        found=marker.action,
        cure="Rows that it deleted can't be restored. Run it again with the same mode, or use mode overwrite.",
    )
