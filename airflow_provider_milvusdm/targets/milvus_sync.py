"""Sync: make an existing collection equal to the source, and write only what differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.sources.read import read_keys
from airflow_provider_milvusdm.sources.row_mask import to_text
from airflow_provider_milvusdm.targets.milvus_compare import Ids, TargetIds, compare_rows
from airflow_provider_milvusdm.targets.milvus_rows import delete_ids, existing_ids, ids_outside, is_lite
from airflow_provider_milvusdm.vectors import DEFAULT_PARTITION, CollectionPlan, CreatedCollection, LoadUnit, Slice

if TYPE_CHECKING:
    from pymilvus import MilvusClient


class Changes:
    """What has to change in an existing collection; finding it touches nothing.

    ``mend``: rows that differ under the same id are loaded too, so all rows that are there are read and compared;
    else only the ids are.
    """

    def __init__(self, client: MilvusClient, plan: CollectionPlan, existing: frozenset[str], *, mend: bool) -> None:
        self.client, self.plan, self.existing, self.mend = client, plan, existing, mend
        self.keyed = bool(plan.target.partition_field)
        self.surplus: dict[str, Ids] = {}
        """Ids that the source doesn't have, by target partition."""
        self.kept: dict[str, int] = {}
        """Rows that are there already and the same, by target partition."""
        self.mended = 0
        self._slices: dict[int, list[Slice]] = defaultdict(list)

    def find(self) -> None:
        pieces: dict[str, list[tuple[int, Slice]]] = defaultdict(list)
        for number, unit in enumerate(self.plan.units):
            for piece in unit.slices:
                pieces[piece.partition].append((number, piece))
        for tag, name in self.plan.partition_names.items():
            if name in self.existing:
                self._find_in(name, pieces[tag])
            else:
                self._add_whole(pieces[tag])
        if self.keyed or is_lite(self.client):
            self._refuse_deleting_elsewhere()

    def delete_surplus(self) -> None:
        for name, ids in self.surplus.items():
            delete_ids(self.client, self.plan.target, name, ids.tolist())

    def created(self) -> CreatedCollection:
        units = tuple(
            replace(self.plan.units[number], slices=tuple(slices))
            for number, slices in sorted(self._slices.items())
            if slices
        )
        return CreatedCollection(
            self.plan.name,
            "synced",
            before=dict.fromkeys(self.plan.partition_names.values(), 0),
            upsert=True,
            units=units,
            kept=self.kept,
            notes=tuple(self._notes()),
        )

    def _add_whole(self, pieces: Sequence[tuple[int, Slice]]) -> None:
        for number, piece in pieces:
            self._slices[number].append(piece)

    def _find_in(self, name: str, pieces: Sequence[tuple[int, Slice]]) -> None:
        there = TargetIds.read(self.client, self.plan.target, name)
        different = self._different(name, pieces) if self.mend else np.empty(0, np.int64)
        self.mended += len(different)
        self.kept[name] = 0
        for number, piece in pieces:
            changed, same = _without(self.plan.units[number], piece, there, different)
            self.kept[name] += same
            self._slices[number] += changed
        self.surplus[name] = there.surplus

    def _different(self, name: str, pieces: Sequence[tuple[int, Slice]]) -> Ids:
        """Ids of the rows that the target holds with other bytes."""
        units = [replace(self.plan.units[number], slices=(replace(piece, partition=name),)) for number, piece in pieces]
        found = [row_id for some in compare_rows(self.client, self.plan.target, units) for row_id in some.different]
        return np.array(found, np.int64)

    def _refuse_deleting_elsewhere(self) -> None:
        """By id alone a row can't be deleted where another partition, or partition key, is to keep one of the same."""
        for name, ids in self.surplus.items():
            if not len(ids):
                continue
            lost = sorted(self._elsewhere(name, ids.tolist()))
            if lost:
                raise TargetError(
                    f"{len(lost)} rows that partition {name!r} of collection {self.plan.target.name!r} has to lose "
                    "stand in another, too",
                    expected="ids of one partition alone",
                    found=f"ids {', '.join(map(str, lost[:20]))}, and a target that deletes an id from all partitions",
                    cure="Use mode overwrite, or a Milvus 2.x server and partitions: keep.",
                )

    def _elsewhere(self, name: str, ids: Sequence[int]) -> set[int]:
        """Those of the ids that stand in other partitions, and are to stay there."""
        gone = {other: set(some.tolist()) for other, some in self.surplus.items() if other != name}
        if self.keyed:
            return set(ids_outside(self.client, self.plan.target, [name], ids)).difference(*gone.values())
        found = {other: existing_ids(self.client, self.plan.target, other, ids) for other in self.existing - {name}}
        return {row_id for other, some in found.items() for row_id in some if row_id not in gone.get(other, ())}

    def _notes(self) -> Iterator[str]:
        written = sum(partition.rows for partition in self.plan.partitions) - sum(self.kept.values())
        deleted = sum(len(ids) for ids in self.surplus.values())
        yield f"{written - self.mended} rows to insert, {deleted} deleted, {self.mended} to mend"
        others = sorted(self.existing - set(self.plan.partition_names.values()) - {DEFAULT_PARTITION})
        if self.plan.whole and others:
            yield f"partitions that the source does not have were left as they are: {', '.join(others)}"


def _without(unit: LoadUnit, piece: Slice, there: TargetIds, different: Ids) -> tuple[list[Slice], int]:
    """What is left of a slice without the rows that the target holds just so (nothing, maybe), and how many those are.

    It is cut to the first and last row left, for the reader to pass over the others.
    """
    left_out, same = np.ones(piece.stored_rows, np.bool_), 0
    for offsets, keys in read_keys(unit.source, unit.collection, piece):
        held = there.cross_off(keys) & ~np.isin(keys, different)
        left_out[offsets] = held
        same += int(np.count_nonzero(held))
    wanted = np.flatnonzero(~left_out)
    if not len(wanted):
        return [], same
    first, stop = int(wanted[0]), int(wanted[-1]) + 1
    part = piece.part(piece.start + first, piece.start + stop)
    return [replace(part, left_out=to_text(left_out[first:stop]))], same
