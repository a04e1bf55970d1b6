"""Ids that stand in several partitions of a collection: a query or search over all of it returns one row of each id.

It stores and counts all of these rows; 1.x returned them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from airflow_provider_milvusdm.exceptions import RefusedRowsError, TargetError
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.mask import to_text
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.across_partitions import find_ids_across, partitions_with
from airflow_provider_milvusdm.rows.duplicates import among
from airflow_provider_milvusdm.rows.reader import read_keys
from airflow_provider_milvusdm.targets.milvus.compare import Ids, compare_rows
from airflow_provider_milvusdm.targets.milvus.marker import unpack_counts
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.server.index import searchable
from airflow_provider_milvusdm.targets.milvus.server.queries import ids_in_any

NAMED_IDS = 20
RETURNED_ONCE = "with the same vectors: a query or search over the whole collection returns one row of each"
ANEW = "Load the collection anew with duplicate_ids: remap (each row gets a key of its own, its id goes to source_id)"
OFFSET = "Choose an id_offset from which no number is taken"
OTHER_IDS = "Give these rows other ids, or load them into a collection of their own"


def refuse_ids_across(case: Case, action: Action, id_scope: str, *, dry_run: bool = False) -> tuple[str, ...]:
    """Refuse ids that rows of several partitions would share with different vectors; notes on those with equal ones.

    The rows to load are looked at, and unless this is a dry run those of other partitions that are there. ``id_scope``
    ``partition`` lets them be, for an application that always names its partition.
    """
    loaded = _loaded(case, action)
    if case.keyed or case.target.ids_by_target or not loaded or id_scope == "partition":
        return ()
    check = _Check(case, loaded)
    notes = list(check.source())
    if (stay := _staying(case, action, loaded)) and not dry_run:
        with searchable(case.client, case.target, case.index, case.settings, keep=False):
            notes += check.target(stay)
    return tuple(notes)


def _loaded(case: Case, action: Action) -> set[str]:
    """The target's partitions that rows are loaded into."""
    existing = case.existing
    if not action.effect.loads_rows:
        return set()
    if existing and action is Action.ADDED:
        return set(case.wanted) - existing.partitions
    if existing and existing.marker and action is Action.RESUMED:
        return set(unpack_counts(case.wanted, existing.marker))
    return set(case.wanted)


def _staying(case: Case, action: Action, loaded: Collection[str]) -> set[str]:
    """The target's partitions whose rows stay as they are."""
    if case.existing is None or action.effect.creates_collection:
        return set()
    return set(case.existing.partitions) - (set() if action.effect.keeps_rows else set(loaded))


class _Check:
    """The rows to load into one collection, looked at."""

    def __init__(self, case: Case, loaded: Collection[str]) -> None:
        self.client, self.plan, self.loaded = case.client, case.plan, loaded

    def source(self) -> Iterator[str]:
        """Compare the partitions to load with each other; keys of their own are no two partitions'."""
        names, units = self.plan.partition_names, self.plan.units
        partitions = [some for some in self.plan.partitions if names[some.tag] in self.loaded]
        same = 0
        for found in () if self.plan.target.own_keys else find_ids_across(units, partitions):
            refused = found.ids[found.different]
            if len(refused):
                tags = partitions_with(units, partitions, int(refused[0]))
                place = f"partitions {', '.join(map(repr, tags))} of the source"
                raise RefusedRowsError(**self._fault(refused, place))
            same += len(found.ids)
        if same:
            yield f"{same} ids stand in several partitions of the source, {RETURNED_ONCE}"

    def target(self, stay: Collection[str]) -> Iterator[str]:
        """Compare the rows to load with those of other partitions that stay."""
        same = 0
        for unit in self.plan.units:
            for piece in unit.slices:
                name = self.plan.partition_names[piece.partition]
                if name in self.loaded and (others := sorted(set(stay) - {name})):
                    same += sum(self._same(unit, piece, others))
        if same:
            yield f"{same} ids to load stand in other partitions of the target, {RETURNED_ONCE}"

    def _same(self, unit: LoadUnit, piece: Slice, others: Sequence[str]) -> Iterator[int]:
        """How many ids of a slice stand in the other partitions, with the same vectors; others are refused."""
        for offsets, keys in read_keys(unit.source, unit.collection, piece):
            there = ids_in_any(self.client, self.plan.target, others, keys)
            for name in others if len(there) else ():
                held = ids_in_any(self.client, self.plan.target, [name], there)
                if len(held):
                    self._compare(unit, _only(piece, offsets[among(held, keys)]), name)
            yield len(there)

    def _compare(self, unit: LoadUnit, rows: Slice, name: str) -> None:
        """Refuse rows that partition ``name`` of the target holds with other vectors."""
        units = [replace(unit, slices=(replace(rows, partition=name),))]
        found = [row_id for some in compare_rows(self.client, self.plan.target, units) for row_id in some.different]
        if found:
            place = f"partition {rows.partition!r} of the source and {name!r} of the target"
            fault = self._fault(np.sort(found), place)
            fault["cure"] = f"If those in the target are outdated, drop them. Else: {fault['cure']}"
            raise TargetError(**fault)

    def _fault(self, ids: Ids, place: str) -> dict[str, str]:
        """What an error says of ids that stand in several partitions."""
        more = f" and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else ""
        return {
            "what": f"{len(ids)} ids or more stand in several partitions of collection {self.plan.name!r}, on rows "
            "with different vectors",
            "where": f"id {ids[0]} in {place}",
            "expected": "one row an id: of several, a query or search over the whole collection returns one",
            "found": f"ids {', '.join(map(str, ids[:NAMED_IDS].tolist()))}{more}",
            "cure": f"{self._other_keys}; or, where the application always names its partition: id_scope: partition.",
        }

    @property
    def _other_keys(self) -> str:
        """How these rows get other keys."""
        source = self.plan.source
        if source and source.kind == "milvus1x":
            return ANEW
        numbered = self.plan.target.own_keys or (source and source.options["ids"] == "row_number")
        return OFFSET if numbered else OTHER_IDS


def _only(piece: Slice, offsets: Ids) -> Slice:
    """The rows of a slice at these offsets, which are in order."""
    excluded = np.ones(piece.stored_rows, bool)
    excluded[offsets] = False
    first, stop = int(offsets[0]), int(offsets[-1]) + 1
    return replace(piece.part(piece.start + first, piece.start + stop), excluded=to_text(excluded[first:stop]))
