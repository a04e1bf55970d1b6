"""Full verification: every id and every byte of a collection's rows, source against target.

The target is read by ranges of ids, and the sums of the rows' hashes are compared with those that resolve made. The
rows of a range that differs are compared with the source's, one by one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.model.mask import from_text, to_text
from airflow_provider_milvusdm.progress import Meter
from airflow_provider_milvusdm.rows.key_ranges import ChosenRanges, Ids, KeyRanges
from airflow_provider_milvusdm.targets.milvus.compare import ComparedRows, compare_rows, unexpected_ids
from airflow_provider_milvusdm.targets.milvus.ranges import RangeReader
from airflow_provider_milvusdm.targets.milvus.server.capabilities import stores_rows_with_one_id
from airflow_provider_milvusdm.targets.milvus.units import all_rows
from airflow_provider_milvusdm.targets.milvus.verify.doubles import find_doubled

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.units import LoadUnit
    from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
    from airflow_provider_milvusdm.targets.milvus.marker import Marker

CHECKPOINT = "compared"
CHECKPOINT_SECONDS = 1
"""Between two checkpoints, at least; most collections are compared in less, and have none."""
NAMED_IDS = 20
MISSING, UNEXPECTED, DIFFERENT, DOUBLED = (
    "are missing in the target",
    "are in the target and not in the source",
    "differ in the target",
    "share their id with another row of the target",
)


@dataclass(frozen=True)
class Compared:
    """How far an earlier attempt got that had found no difference.

    It is valid only for the same ``source`` and the same ``generation`` of the target.
    """

    source: str
    generation: str
    equal: dict[str, str] = field(default_factory=dict)
    """Ranges that are equal to the source's, by target partition: a mask as text."""
    stored: int = 0
    """Stored rows that were compared one by one, of partitions that held rows before."""
    differing: str = ""
    """Digest of the ranges of these partitions that differ; ``stored`` is valid only for the same ranges."""


def compare_all(
    client: MilvusClient,
    plan: CollectionPlan,
    created: CreatedCollection,
    marker: Marker,
    store: CheckpointStore | None = None,
    counted: Mapping[str, int | None] | None = None,
) -> tuple[int, list[str]]:
    """Number of rows compared, and a fault for each partition and kind of difference, which names up to 20 ids.

    Rows that a partition held before an append are not compared. Where their ids are between those of the source, the
    source's rows are compared one by one. An interrupted attempt is continued if it had found no
    difference. ``counted``: number of rows by target partition; where it is not the number of rows to load, ids that
    are on several rows are searched for.
    """
    found = store.get(CHECKPOINT) if store is not None else None
    comparison = _Comparison(client, plan, created, _last(plan, marker, found), store)
    comparison.compare_ranges()
    comparison.compare_differing()
    comparison.find_doubled(counted or {})
    if store is not None and (found or comparison.has_checkpoint):
        store.set(CHECKPOINT, {})
    return comparison.rows, comparison.faults()


def _last(plan: CollectionPlan, marker: Marker, found: Any) -> Compared:
    fresh = Compared(f"{marker.source} {_digest(plan)}", marker.generation)
    if not found:
        return fresh
    last = Compared(**found)
    return last if (last.source, last.generation) == (fresh.source, fresh.generation) else fresh


def _digest_chosen(differing: Mapping[str, ChosenRanges]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, ranges in differing.items():
        digest.update(f"{name}\0{to_text(ranges.chosen)}\0".encode())
    return digest.hexdigest()


def _digest(plan: CollectionPlan) -> str:
    """Of the ranges: those that an earlier attempt found equal are known by their numbers."""
    digest = hashlib.blake2b(digest_size=8)
    for partition in plan.partitions:
        digest.update(f"{partition.tag}\0{partition.key_ranges}\0".encode())
    return digest.hexdigest()


class _Comparison:
    """One collection being compared."""

    def __init__(
        self,
        client: MilvusClient,
        plan: CollectionPlan,
        created: CreatedCollection,
        done: Compared,
        store: CheckpointStore | None,
    ) -> None:
        self.client, self.plan, self.created, self.done, self.store = client, plan, created, done, store
        self.units = list(all_rows(plan, created))
        self.ranges: dict[str, KeyRanges] = {}
        """Of the source's rows, by target partition."""
        self.appended = {name for name, rows in created.before.items() if rows}
        """Partitions that held other rows before."""
        for partition in plan.partitions:
            name, ranges = plan.partition_names[partition.tag], KeyRanges.from_text(partition.key_ranges)
            if name in created.before and (partition.rows or name not in self.appended):
                self.ranges[name] = ranges.within_extent() if name in self.appended else ranges
        self.equal = {name: from_text(done.equal.get(name, ""), len(ranges)) for name, ranges in self.ranges.items()}
        self.differing: dict[str, ChosenRanges] = {}
        self.counts: dict[tuple[str, str], int] = {}
        self.named: dict[tuple[str, str], list[int]] = {}
        self.has_checkpoint, self.stored_at = False, time.monotonic()

    @property
    def rows(self) -> int:
        """Rows that were compared."""
        return sum(int(ranges.rows.sum()) for ranges in self.ranges.values())

    def compare_ranges(self) -> None:
        """Find the ranges that differ."""
        vector_bytes = self.plan.collection.vector_bytes if self.plan.collection else 0
        differ = {name: np.zeros(len(ranges), np.bool_) for name, ranges in self.ranges.items()}
        equal = sum(int(ranges.rows[self.equal[name]].sum()) for name, ranges in self.ranges.items())
        total = sum(int(ranges.rows.sum()) for ranges in self.ranges.values())
        meter = Meter(f"verify {self.plan.name}", total, vector_bytes, equal, collection=self.plan.name, step="verify")
        for stride in RangeReader(self.client, self.plan.target, self.ranges, vector_bytes).compare(self.equal):
            for compared in stride:
                self.equal[compared.partition][list(compared.numbers)] = True
                self.equal[compared.partition][list(compared.differ)] = False
                differ[compared.partition][list(compared.differ)] = True
            meter.add(sum(int(self.ranges[part.partition].rows[list(part.numbers)].sum()) for part in stride))
            names = {compared.partition for compared in stride}
            if not any(mask.any() for mask in differ.values()):
                masks = {name: to_text(self.equal[name]) for name in names}
                self._note(replace(self.done, equal=self.done.equal | masks))
        self.differing = {name: ChosenRanges(self.ranges[name], mask) for name, mask in differ.items() if mask.any()}

    def compare_differing(self) -> None:
        """Compare the rows of the ranges that differ one by one."""
        for name in self.differing.keys() - self.appended:
            for ids in unexpected_ids(self.client, self.plan.target, name, self.units, self.differing[name]):
                self._add(name, UNEXPECTED, ids)
        units = _of_partitions(self.units, self.differing.keys() - self.appended)
        for found in compare_rows(self.client, self.plan.target, units, within=self.differing):
            self._add_rows(found)
        differing = {name: ranges for name, ranges in self.differing.items() if name in self.appended}
        digest, units = _digest_chosen(differing), _of_partitions(self.units, differing)
        stored = self.done.stored if self.done.differing == digest else 0
        for found in compare_rows(self.client, self.plan.target, units, stored, differing):
            self._add_rows(found)
            self._note(replace(self.done, stored=found.end, differing=digest))

    def find_doubled(self, counted: Mapping[str, int | None]) -> None:
        """Search for ids on several rows where the target has too many rows, or ranges that differ."""
        if not stores_rows_with_one_id(self.client):
            return
        for name in self.ranges.keys() - self.appended:
            ranges, rows, differing = self.ranges[name], counted.get(name), self.differing.get(name)
            if differing is None and rows in (None, int(ranges.rows.sum())):
                continue
            within = differing or ChosenRanges(ranges, np.zeros(len(ranges), np.bool_))
            self._add(name, DOUBLED, find_doubled(self.client, self.plan.target, name, within, NAMED_IDS + 1))

    def faults(self) -> list[str]:
        return [
            fault
            for tag, name in self.plan.partition_names.items()
            for fault in self._faults_of(f"partition {tag!r}", name)
        ]

    def _faults_of(self, where: str, name: str) -> list[str]:
        kinds = [kind for kind in (MISSING, UNEXPECTED, DIFFERENT, DOUBLED) if (name, kind) in self.counts]
        if kinds or name not in self.differing.keys() - self.appended:
            return [f"{where}: {self.counts[name, kind]} rows {kind}: ids {self._ids(name, kind)}" for kind in kinds]
        bounds = [f"{first} to {last}" for first, last in islice(self.differing[name].bounds(), NAMED_IDS)]
        return [f"{where}: rows with ids {', '.join(bounds)} were not as resolve had read them, and then were"]

    def _add_rows(self, found: ComparedRows) -> None:
        self._add(found.partition, MISSING, found.missing)
        self._add(found.partition, DIFFERENT, found.different)

    def _add(self, partition: str, kind: str, ids: Sequence[int] | Ids) -> None:
        if len(ids):
            place = partition, kind
            self.counts[place] = self.counts.get(place, 0) + len(ids)
            self.named[place] = [*self.named.get(place, ()), *map(int, ids[:NAMED_IDS])][:NAMED_IDS]

    def _ids(self, partition: str, kind: str) -> str:
        named, more = self.named[partition, kind], self.counts[partition, kind] - NAMED_IDS
        return ", ".join(map(str, named)) + (f" and {more} more" if more > 0 else "")

    def _note(self, done: Compared) -> None:
        self.done = done
        if self.store is None or self.counts or time.monotonic() - self.stored_at < CHECKPOINT_SECONDS:
            return
        self.store.set(CHECKPOINT, asdict(done))
        self.has_checkpoint, self.stored_at = True, time.monotonic()


def _of_partitions(units: Iterable[LoadUnit], names: Container[str]) -> Iterator[LoadUnit]:
    """The units without the slices of other partitions."""
    for unit in units:
        if slices := tuple(row_slice for row_slice in unit.slices if row_slice.partition in names):
            yield replace(unit, slices=slices)
