"""Give up what a run left half done: what it wrote is removed, and the target is as it was before."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CreatedCollection
from airflow_provider_milvusdm.model.rows import rows_within
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.targets.milvus.fence import await_requests
from airflow_provider_milvusdm.targets.milvus.marker import (
    ADDED,
    APPENDED,
    Marker,
    fence_by_mark,
    refuse_other_marker,
    restore_marker,
    set_marker,
    unpack_counts,
)
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.prepare.new import drop_leftovers
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import drop_partition
from airflow_provider_milvusdm.targets.milvus.server.capabilities import is_lite
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_left
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

ABANDONED = "abandoned"
UNDONE = (ADDED, APPENDED)


def abandon(case: Case) -> CreatedCollection:
    """Drop what was loaded under a name of its own; of what was added to a collection, remove each row.

    Those rows are told by the source, which must still hold them: by id, and bit for bit. TargetError, and nothing is
    removed, where the counts would not be those of before.
    """
    notes = [f"{leftover.name} was dropped" for leftover in case.leftovers]
    marker = case.existing.marker if case.existing else None
    if marker and marker.is_loading:
        undoing = _Undoing(case, marker)
        with searchable(case.client, case.target, case.index, case.settings, keep=False):
            notes.append(f"{undoing.undo()} rows of {case.target.name} were removed")
        undoing.drop_partitions()
        undoing.refuse_others()
        restore_marker(case.client, case.target.name, undoing.marker.before_it())
    drop_leftovers(case)
    return CreatedCollection(case.plan.name, ABANDONED, notes=tuple(notes or ["nothing was left half done"]))


class _Undoing:
    """Rows that were added to a collection being removed."""

    def __init__(self, case: Case, marker: Marker) -> None:
        if marker.action not in UNDONE or case.target.ids_by_target:
            raise _cannot(case, marker)
        self.case, self.client, self.target = case, case.client, case.target
        self.former = marker.run
        self.marker = replace(marker, generation=secrets.token_hex(8), run=case.options.runs.own)
        self.fence = fence_by_mark(self.client, self.target.name, self.marker.generation)
        there = set(case.wanted) if case.keyed or not case.existing else case.existing.partitions
        self.before = {name: rows for name, rows in unpack_counts(case.wanted, marker).items() if name in there}

    def refuse_others(self) -> None:
        """Refuse to go on where another run has begun to since."""
        refuse_other_marker(self.client, self.target.name, self.marker.generation)

    def drop_partitions(self) -> None:
        """Drop the partitions that were made to be added: a later ``skip`` would take them for finished."""
        if self.marker.action == ADDED and not self.case.keyed:
            for name in self.before:
                drop_partition(self.client, self.target.name, name, seconds_left(self.fence.check()))

    def undo(self) -> int:
        """Rows removed; what the run that wrote them still sends is refused from here on."""
        set_marker(self.client, self.target.name, self.marker)
        await_requests(self.case.options.runs, self.former, self.target.name)
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

    def _added(self) -> Iterator[tuple[str, list[int]]]:
        """Ids of rows of the source that the target holds just so, in batches."""
        plan = self.case.plan
        for unit in all_rows(plan, CreatedCollection(plan.name, "", self.before)):
            rows = min(rows_within(unit.collection), IDS_A_QUERY)
            for _, partition, batch in read_slices(unit.source, unit.collection, unit.slices, rows):
                wanted = rows_of(batch)
                found = read_rows(self.client, self.target, partition, list(wanted), list(batch.columns), IDS_A_QUERY)
                yield partition, [row_id for row_id, row in wanted.items() if found.get(row_id) == row]

    def _check(self, added: Counter[str]) -> None:
        """Refuse where the rows beside those added are not as many as before."""
        names = list(self.before)
        counts = map_concurrently(self.client, partial(count_rows, self.client, self.target), names)
        for name, count in zip(names, counts, strict=True):
            if count - added[name] != self.before[name]:
                raise TargetError(
                    f"what was added to partition {name!r} of collection {self.target.name!r} can't be told",
                    expected=f"{self.before[name]} rows from before, and the source's beside them",
                    found=f"{count} rows, {added[name]} of them the source's",
                    cure="Name a copy of the source as it was when they were added: rows that it has lost since can't "
                    "be found by it. Or rows were inserted or deleted meanwhile: then nobody can tell any more.",
                )

    def _refuse_rows_elsewhere(self, partition: str, ids: list[int]) -> None:
        """Milvus Lite deletes an id from all partitions."""
        if not is_lite(self.client) or self.target.partition_field or not self.case.existing:
            return
        for other in self.case.existing.partitions - {partition}:
            if found := existing_ids(self.client, self.target, other, ids):
                raise TargetError(
                    f"rows of partition {partition!r} of collection {self.target.name!r} can't be removed alone",
                    found=f"ids {', '.join(map(str, found[:20]))} in partition {other!r}, too, and Milvus Lite, which "
                    "deletes an id from all partitions",
                    cure="Finish the run with the same source instead.",
                )


def _cannot(case: Case, marker: Marker) -> TargetError:
    return TargetError(
        f"what a run left half done in collection {case.target.name!r} can't be undone",
        expected="rows that were added to it, with ids of their own",
        found=f"{marker.action}, ids made by the target" if case.target.ids_by_target else marker.action,
        cure="What it deleted is gone. Run it again with the same mode, or use mode overwrite.",
    )
