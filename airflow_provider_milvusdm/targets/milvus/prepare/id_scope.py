"""Ids that several partitions of a collection share: Milvus 2.x returns only one row of each.

It stores and counts all of these rows, but a query or search over the whole collection returns one row for each id.
Milvus 1.x returned all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from airflow_provider_milvusdm.exceptions import RefusedRowsError, TargetError
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.mask import is_among, to_text
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.across_partitions import find_ids_across, partitions_with
from airflow_provider_milvusdm.rows.reader import read_keys
from airflow_provider_milvusdm.targets.milvus.compare import Ids, compare_rows
from airflow_provider_milvusdm.targets.milvus.marker import unpack_counts
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.server.index import searchable
from airflow_provider_milvusdm.targets.milvus.server.queries import ids_in_any

NAMED_IDS = 20
RETURNED_ONCE = "with the same vectors: a query or search over the whole collection returns one row of each"
REMAP = "Load the collection with duplicate_ids: remap (each row gets a key of its own, its id goes to source_id)"
OFFSET = "Choose an id_offset above the ids in use"
OTHER_IDS = "Give these rows other ids, or load them into another collection"


def refuse_ids_across(case: Case, action: Action, id_scope: str, *, plan_only: bool = False) -> tuple[str, ...]:
    """Refuse ids that rows of several partitions would share with different vectors.

    Checks the rows to load and, unless this is a dry run, the rows in other partitions of the target. With ``id_scope``
    ``partition`` nothing is checked: the application always names its partition. Returns notes on ids that rows with
    equal vectors share. Raises RefusedRowsError, or TargetError where the other row is in the target.
    """
    loaded = _loaded_partitions(case, action)
    if case.keyed or case.target.ids_by_target or not loaded or id_scope == "partition":
        return ()
    check = _Check(case, loaded)
    notes = list(check.source())
    if (kept := _kept_partitions(case, action, loaded)) and not plan_only:
        with searchable(case.client, case.target, case.index, case.settings, keep=False):
            notes += check.target(kept)
    return tuple(notes)


def _loaded_partitions(case: Case, action: Action) -> set[str]:
    """The target's partitions that rows are loaded into."""
    existing = case.existing
    if not action.effect.loads_rows:
        return set()
    if existing and action is Action.ADDED:
        return set(case.wanted) - existing.partitions
    if existing and existing.marker and action is Action.RESUMED:
        return set(unpack_counts(case.wanted, existing.marker))
    return set(case.wanted)


def _kept_partitions(case: Case, action: Action, loaded: Collection[str]) -> set[str]:
    """The target's partitions whose rows stay as they are."""
    if case.existing is None or action.effect.creates_collection:
        return set()
    return set(case.existing.partitions) - (set() if action.effect.keeps_rows else set(loaded))


class _Check:
    """Checks the rows to load into one collection."""

    def __init__(self, case: Case, loaded: Collection[str]) -> None:
        self.client, self.plan, self.loaded = case.client, case.plan, loaded

    def source(self) -> Iterator[str]:
        """Compare the partitions to load with each other; rows with keys of their own share none."""
        names, units = self.plan.partition_names, self.plan.units
        partitions = [partition for partition in self.plan.partitions if names[partition.tag] in self.loaded]
        same = 0
        for found in () if self.plan.target.own_keys else find_ids_across(units, partitions):
            refused = found.ids[found.different]
            if len(refused):
                tags = partitions_with(units, partitions, int(refused[0]))
                place = f"partitions {', '.join(map(repr, tags))} of the source"
                raise RefusedRowsError(**self._fault(refused, place))
            same += len(found.ids)
        if same:
            yield f"{same} ids are in several partitions of the source, {RETURNED_ONCE}"

    def target(self, kept: Collection[str]) -> Iterator[str]:
        """Compare the rows to load with those of other partitions of the target that stay."""
        same = 0
        for unit in self.plan.units:
            for row_slice in unit.slices:
                name = self.plan.partition_names[row_slice.partition]
                if name in self.loaded and (others := sorted(set(kept) - {name})):
                    same += sum(self._same(unit, row_slice, others))
        if same:
            yield f"{same} ids to load are in other partitions of the target, {RETURNED_ONCE}"

    def _same(self, unit: LoadUnit, row_slice: Slice, others: Sequence[str]) -> Iterator[int]:
        """Numbers of ids of a slice that other partitions hold with the same vectors; different ones are refused."""
        for offsets, keys in read_keys(unit.source, unit.collection, row_slice):
            there = ids_in_any(self.client, self.plan.target, others, keys)
            for name in others if len(there) else ():
                held = ids_in_any(self.client, self.plan.target, [name], there)
                if len(held):
                    self._compare(unit, _only(row_slice, offsets[is_among(keys, held)]), name)
            yield len(there)

    def _compare(self, unit: LoadUnit, rows: Slice, name: str) -> None:
        """Raises TargetError where partition ``name`` of the target holds these ids with other vectors."""
        units = [replace(unit, slices=(replace(rows, partition=name),))]
        compared = compare_rows(self.client, self.plan.target, units)
        found = [row_id for batch in compared for row_id in batch.different]
        if found:
            place = f"partition {rows.partition!r} of the source and {name!r} of the target"
            fault = self._fault(np.sort(found), place)
            fault["cure"] = f"If the rows in the target are outdated, drop them. Otherwise: {fault['cure']}"
            raise TargetError(**fault)

    def _fault(self, ids: Ids, place: str) -> dict[str, str]:
        """Arguments of an error about ids that several partitions share."""
        more = f" and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else ""
        return {
            "what": f"{len(ids)} ids or more are in several partitions of collection {self.plan.name!r}, on rows "
            "with different vectors",
            "where": f"id {ids[0]} in {place}",
            "expected": "one row for each id: a query or search over the whole collection returns only one",
            "found": f"ids {', '.join(map(str, ids[:NAMED_IDS].tolist()))}{more}",
            "cure": f"{self._other_keys}; or, if the application always names its partition: id_scope: partition.",
        }

    @property
    def _other_keys(self) -> str:
        """How to give these rows other keys."""
        source = self.plan.source
        if source and source.kind == "milvus1x":
            return REMAP
        numbered = self.plan.target.own_keys or (source and source.options["ids"] == "row_number")
        return OFFSET if numbered else OTHER_IDS


def _only(row_slice: Slice, offsets: Ids) -> Slice:
    """The rows of a slice at ``offsets``: int64, shape (n,), ascending."""
    excluded = np.ones(row_slice.stored_rows, bool)
    excluded[offsets] = False
    first, stop = int(offsets[0]), int(offsets[-1]) + 1
    return replace(
        row_slice.part(row_slice.start + first, row_slice.start + stop), excluded=to_text(excluded[first:stop])
    )
