"""Sync: make an existing collection equal to the source, and write only what differs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CreatedCollection
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION, Slice
from airflow_provider_milvusdm.model.mask import to_text
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.key_ranges import ChosenRanges, KeyRanges
from airflow_provider_milvusdm.rows.reader import read_keys
from airflow_provider_milvusdm.targets.milvus.compare import Ids, TargetIds, compare_rows
from airflow_provider_milvusdm.targets.milvus.marker import fence_by_marker
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.prepare.existing import other_fields
from airflow_provider_milvusdm.targets.milvus.ranges import find_differing
from airflow_provider_milvusdm.targets.milvus.server.capabilities import deletes_within_partition, loads_for_all_clients
from airflow_provider_milvusdm.targets.milvus.server.index import is_loaded, released_partitions
from airflow_provider_milvusdm.targets.milvus.server.queries import (
    IDS_A_QUERY,
    count_all,
    count_rows,
    delete_ids,
    existing_ids,
    ids_outside,
)

MAX_DELETIONS = 0.1


class Changes:
    """What has to change in an existing collection; finding it touches nothing.

    The whole target is read by ranges of ids. The rows of a range that differs from the source's are compared one by
    one. ``max_deletions``: the share of the rows in the selected partitions that may be deleted.
    """

    def __init__(self, case: Case, max_deletions: float) -> None:
        self.client, self.plan = case.client, case.plan
        self.max_deletions, self.approved_loss = max_deletions, case.options.approved_loss
        self.keyed = case.keyed
        partitions = case.existing.partitions if case.existing else frozenset()
        self.existing = frozenset(case.wanted) if self.keyed else partitions
        """The partitions, or partition keys, that may hold rows already."""
        self.other_fields = other_fields(case.existing, self.plan.target) if case.existing else []
        self.rows: dict[str, int] = {}
        """Rows that are there already, by target partition."""
        self.extra: dict[str, Ids] = {}
        """Ids that the source doesn't have, by target partition."""
        self.kept: dict[str, int] = {}
        """Rows that are there already and the same, by target partition."""
        self.repaired = 0
        self.is_found = False
        self.stored = self.others = 0
        """Rows under the partition keys that are synced, and under those that the source doesn't have."""
        self._doubled: list[str] = []
        self._slices: dict[int, list[Slice]] = defaultdict(list)
        """The rows to write, by the number of their unit."""

    def foresee(self) -> tuple[str, ...]:
        """What there is to say of the changes before any is made, as far as the target can be asked as it is."""
        target = self.plan.target
        if not loads_for_all_clients(self.client):
            self.client.load_collection(target.name)
        elif not is_loaded(self.client, target) or released_partitions(self.client, target):
            return (
                f"collection {target.name!r} is not loaded as a whole, so what would change was not looked at; a run "
                f"refuses to delete more of its rows than max_deletions: {self.max_deletions:g}",
            )
        self.find()
        return tuple(self._notes())

    @property
    def lost(self) -> int | None:
        """Number of rows that are deleted, or get another vector; None as long as they are not found."""
        return self._deleted + self.repaired if self.is_found else None

    def find(self) -> None:
        """Raises TargetError where more would be deleted than may be, or more would be lost than was approved."""
        slices: dict[str, list[tuple[int, Slice]]] = defaultdict(list)
        for number, unit in enumerate(self.plan.units):
            for row_slice in unit.slices:
                slices[row_slice.partition].append((number, row_slice))
        differing = self._find_differing()
        for tag, name in self.plan.partition_names.items():
            if name in self.existing:
                self._find_in(name, slices[tag], differing[name])
            else:
                self._add_whole(slices[tag])
        self._refuse_many_deletions()
        self._refuse_unapproved_loss()
        if self.keyed or not deletes_within_partition(self.client):
            self._refuse_deleting_elsewhere()
        if self.keyed:
            self._refuse_displacing()
        if self.keyed and self.plan.whole:
            self.others = count_all(self.client, self.plan.target) - self.stored
        self.is_found = True

    @property
    def found_any(self) -> bool:
        """Whether anything has to be created, written or deleted."""
        missing = set(self.plan.partition_names.values()) - self.existing
        return bool(missing) or self._deleted > 0 or any(self._slices.values())

    def delete_extra(self, generation: str) -> None:
        """Delete what was found to be extra, as long as the target carries this run's marker."""
        target, fence = self.plan.target, fence_by_marker(self.client, self.plan.target.name, generation)
        for name, ids in self.extra.items():
            for start in range(0, len(ids), IDS_A_QUERY):
                delete_ids(self.client, target, name, ids[start : start + IDS_A_QUERY].tolist(), fence.check)

    def created(self) -> CreatedCollection:
        units = tuple(
            replace(self.plan.units[number], slices=tuple(slices))
            for number, slices in sorted(self._slices.items())
            if slices
        )
        return CreatedCollection(
            self.plan.name,
            Action.SYNCED,
            before=dict.fromkeys(self.plan.partition_names.values(), 0),
            upsert=True,
            units=units,
            kept=self.kept,
            notes=tuple(self._notes()),
        )

    def _add_whole(self, slices: Sequence[tuple[int, Slice]]) -> None:
        for number, row_slice in slices:
            self._slices[number].append(row_slice)

    def _find_differing(self) -> Mapping[str, ChosenRanges]:
        """Where the existing partitions are not as the source."""
        names = self.plan.partition_names
        expected = {
            names[partition.tag]: KeyRanges.from_text(partition.key_ranges)
            for partition in self.plan.partitions
            if names[partition.tag] in self.existing
        }
        vector_bytes = self.plan.collection.vector_bytes if self.plan.collection else 0
        return find_differing(self.client, self.plan.target, expected, vector_bytes)

    def _find_in(self, name: str, slices: Sequence[tuple[int, Slice]], differing: ChosenRanges) -> None:
        there = TargetIds.read(self.client, self.plan.target, name, differing)
        doubled = self._is_doubled(name, differing.rows_outside + len(there.ids))
        if doubled:
            differing = ChosenRanges(differing.key_ranges, np.ones_like(differing.chosen))
            there = TargetIds.read(self.client, self.plan.target, name, differing)
        different = there.ids if doubled else self._different(name, slices, differing)
        self.kept[name] = 0
        for number, row_slice in slices:
            changed, same = _without(self.plan.units[number], row_slice, there, different, differing)
            self.kept[name] += same
            self._slices[number] += changed
        self.extra[name], self.rows[name] = there.extra, differing.rows_outside + len(there.ids)
        self.repaired += self.rows[name] - len(there.extra) - self.kept[name]

    def _is_doubled(self, name: str, ids: int) -> bool:
        """Whether ids are on several rows: a server returns one of each, and hides others, so all are written."""
        rows = count_rows(self.client, self.plan.target, name)
        self.stored += rows
        if rows != ids:
            self._doubled.append(f"{name!r} ({rows} rows, {ids} ids)")
        return rows != ids

    def _different(self, name: str, slices: Sequence[tuple[int, Slice]], differing: ChosenRanges) -> Ids:
        """Ids of the rows that the target holds with other bytes."""
        if not differing.chosen.any():
            return np.empty(0, np.int64)
        units = [
            replace(self.plan.units[number], slices=(replace(row_slice, partition=name),))
            for number, row_slice in slices
        ]
        compared = compare_rows(self.client, self.plan.target, units, within={name: differing})
        return np.array([row_id for rows in compared for row_id in rows.different], np.int64)

    def _refuse_many_deletions(self) -> None:
        """A row may go from the tiniest collection, but the last one only where all may."""
        deleted, rows = self._deleted, sum(self.rows.values())
        most = rows if self.max_deletions == 1 else min(math.ceil(self.max_deletions * rows), rows - 1)
        if deleted <= max(most, 0):
            return
        found = [f"{name!r}: {len(ids)} of {self.rows[name]}" for name, ids in self.extra.items() if len(ids)]
        raise TargetError(
            f"sync would delete {deleted} of the {rows} rows of collection {self.plan.target.name!r} that are in the "
            "selected partitions",
            expected=f"at most {most} (max_deletions: {self.max_deletions:g})",
            found=", ".join(found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else ""),
            cure="A source that lacks so many rows is often a bad copy: last week's, or a catalog without its "
            "meta.sqlite-wal. Where these rows are to go, raise max_deletions: a share, up to 1. Nothing was changed.",
        )

    def _refuse_unapproved_loss(self) -> None:
        lost = self._deleted + self.repaired
        if self.approved_loss is None or lost <= self.approved_loss:
            return
        raise TargetError(
            f"collection {self.plan.target.name!r} of the target was changed after its sync was approved",
            expected=f"{self.approved_loss} rows to delete or repair",
            found=f"{self._deleted} to delete and {self.repaired} to repair",
            cure="Nothing was changed. Start a new run, which asks again.",
        )

    def _refuse_deleting_elsewhere(self) -> None:
        """A row can't be deleted by its id where another partition, or partition key, keeps a row with this id."""
        for name, ids in self.extra.items():
            if not len(ids):
                continue
            lost = sorted(self._elsewhere(name, ids.tolist()))
            if lost:
                raise TargetError(
                    f"{len(lost)} rows that sync would delete are in another partition, too",
                    where=f"collection {self.plan.target.name!r}, partition {name!r}",
                    expected="ids that are in one partition only",
                    found=f"ids {', '.join(map(str, lost[:20]))}, and a target that deletes an id from all partitions",
                    cure="Use mode overwrite, or a Milvus 2.x server and partitions: keep.",
                )

    def _refuse_displacing(self) -> None:
        """Writing a row deletes its id, also under keys that the source doesn't have."""
        for number, slices in self._slices.items():
            unit = self.plan.units[number]
            for row_slice in slices:
                for _, keys in read_keys(unit.source, unit.collection, row_slice):
                    if lost := ids_outside(self.client, self.plan.target, self.existing, keys.tolist()):
                        raise self._displacing(row_slice.partition, lost)

    def _displacing(self, key: str, lost: Sequence[int]) -> TargetError:
        return TargetError(
            f"{len(lost)} rows to write have ids that collection {self.plan.target.name!r} holds under partition keys "
            "that are not synced",
            where=f"partition {key!r}",
            expected="ids of the synced keys alone: a row that is written displaces another of its id",
            found=f"ids {', '.join(map(str, sorted(lost)[:20]))}",
            cure="Sync all partitions, delete these rows from the target, or use mode overwrite.",
        )

    def _elsewhere(self, name: str, ids: Sequence[int]) -> set[int]:
        """Those of the ids that are in other partitions, and stay there."""
        deleted = {other: set(extra.tolist()) for other, extra in self.extra.items() if other != name}
        if self.keyed:
            return set(ids_outside(self.client, self.plan.target, [name], ids)).difference(*deleted.values())
        found = {other: existing_ids(self.client, self.plan.target, other, ids) for other in self.existing - {name}}
        return {row_id for other, held in found.items() for row_id in held if row_id not in deleted.get(other, ())}

    @property
    def _deleted(self) -> int:
        return sum(len(ids) for ids in self.extra.values())

    def _notes(self) -> Iterator[str]:
        if self._doubled:
            yield f"ids were on several rows, so all were loaded again: {', '.join(self._doubled)}"
        written = sum(partition.rows for partition in self.plan.partitions) - sum(self.kept.values())
        yield f"{written - self.repaired} rows to insert, {self._deleted} deleted, {self.repaired} to repair"
        if self.repaired and self.other_fields:
            yield f"the rows to repair lose what they have in fields beside the vector: {', '.join(self.other_fields)}"
        others = sorted(self.existing - set(self.plan.partition_names.values()) - {DEFAULT_PARTITION})
        if self.plan.whole and others:
            yield f"partitions that the source does not have were left as they are: {', '.join(others)}"
        if self.others > 0:
            yield f"{self.others} rows under partition keys that the source does not have were left as they are"


def _without(
    unit: LoadUnit, row_slice: Slice, there: TargetIds, different: Ids, differing: ChosenRanges
) -> tuple[list[Slice], int]:
    """The slice without the rows that the target already holds (none if it holds all), and how many those are.

    It is cut to the first and the last row that is left, so that the reader passes over the others.
    """
    excluded, same = np.ones(row_slice.stored_rows, np.bool_), 0
    for offsets, keys in read_keys(unit.source, unit.collection, row_slice):
        held = there.cross_off(keys) & ~np.isin(keys, different) | ~differing.holds(keys)
        excluded[offsets] = held
        same += int(np.count_nonzero(held))
    left = np.flatnonzero(~excluded)
    if not len(left):
        return [], same
    first, stop = int(left[0]), int(left[-1]) + 1
    part = row_slice.part(row_slice.start + first, row_slice.start + stop)
    return [replace(part, excluded=to_text(excluded[first:stop]))], same
