"""Load units: what one load task takes, cut from the slices of a collection."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from airflow_provider_milvusdm.model.collections import (
    CollectionSpec,
    PartitionSpec,
    Slice,
    SourceRef,
    TargetCollection,
)
from airflow_provider_milvusdm.model.groups import PART_BYTES


@dataclass(frozen=True)
class LoadUnit:
    """What one load task takes: whole segments, or a range of rows of one segment.

    Once ``target`` is set, ``Slice.partition`` is the name of a partition in the target.
    """

    source: SourceRef
    collection: CollectionSpec
    slices: tuple[Slice, ...]
    target: TargetCollection | None = None
    migration: str = ""
    """Fingerprint of the collection's plan; the target's marker must have the same."""
    generation: str = ""
    """The marker's generation; if the marker has another one, another run created or resumed the target."""
    published: str = ""
    """The name that the target gets once it is verified, if it has another one until then."""
    upsert: bool = False
    """An earlier run may already have written some of these rows."""
    number: int = 0
    """Its number among the units of the collection that begin in the same partition, for people; from 1."""
    count: int = 0
    """How many these are."""

    @property
    def name(self) -> str:
        return self.collection.name

    @property
    def stored_rows(self) -> int:
        return sum(row_slice.stored_rows for row_slice in self.slices)

    @property
    def work(self) -> int:
        """Bytes to load, for grouping."""
        return self.stored_rows * self.collection.vector_bytes + len(self.slices) * PART_BYTES

    @property
    def digest(self) -> str:
        """Identifies the unit: a digest of its slices and of the target's generation."""
        return hashlib.blake2b(f"{self.generation}{self.slices!r}".encode(), digest_size=16).hexdigest()

    @property
    def label(self) -> str:
        partitions = list(dict.fromkeys(row_slice.partition for row_slice in self.slices))
        more = f" +{len(partitions) - 1}" if len(partitions) > 1 else ""
        numbered = f" {self.number}/{self.count}" if self.count > 1 else ""
        return f"{self.collection.name}/{partitions[0]}{more}{numbered}"


def number_units(units: Sequence[LoadUnit]) -> Iterator[LoadUnit]:
    """The units with the numbers that their labels show."""
    counts = Counter(_first_partition(unit) for unit in units)
    numbers: Counter[tuple[str, str]] = Counter()
    for unit in units:
        place = _first_partition(unit)
        numbers[place] += 1
        yield replace(unit, number=numbers[place], count=counts[place])


def _first_partition(unit: LoadUnit) -> tuple[str, str]:
    return unit.collection.name, unit.slices[0].partition


def cut_units(slices: Iterable[Slice], capacity: int) -> Iterator[tuple[Slice, ...]]:
    """Group small slices and split large ones, in order, into units of ``capacity`` stored rows."""
    unit: list[Slice] = []
    room = capacity
    for row_slice in slices:
        start = row_slice.start
        while start < row_slice.stop:
            stop = min(start + room, row_slice.stop)
            unit.append(row_slice.part(start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield tuple(unit)
                unit, room = [], capacity
    if unit:
        yield tuple(unit)


def unit_rows(unit_bytes: int, vector_bytes: int, live_rows: int, stored_rows: int) -> int:
    """Stored rows of a load unit, so that its live rows have about ``unit_bytes`` bytes of vectors.

    The result is rounded up, and larger if many rows are deleted: there are never more units than the live rows alone
    would need, as :func:`unit_bytes_within` assumes.
    """
    rows = max(-(-unit_bytes // vector_bytes), 1)
    units = max(-(-live_rows // rows), 1)
    return max(rows, -(-stored_rows // units))


def unit_bytes_within(total_bytes: int, groups: int, limit: int, wanted: int) -> int:
    """Bytes of a load unit, at least ``wanted``, so that a run of ``groups`` groups has at most ``limit`` large units.

    The last unit of each group may be small, so ``limit - groups`` units share the bytes, or half of the limit where
    there are many groups: small units of several groups are loaded by one task.
    """
    return max(wanted, -(-total_bytes // max(limit - min(groups, limit // 2), 1)))


def group_sizes(partitions: Sequence[int], works: Sequence[int], unit_bytes: int, limit: int) -> list[int]:
    """Number of groups for each collection, given its number of partitions and its work in bytes.

    A collection has a group for each ``unit_bytes``, and no more than partitions. If these are more than ``limit``
    groups in all, they are shared out in proportion, at least one per collection.
    """
    wanted = [max(min(count, -(-work // max(unit_bytes, 1))), 1) for count, work in zip(partitions, works, strict=True)]
    if sum(wanted) <= limit:
        return wanted
    spare, more = max(limit - len(wanted), 0), max(sum(wanted) - len(wanted), 1)
    return [1 + spare * (count - 1) // more for count in wanted]


def split_evenly(partitions: Sequence[PartitionSpec], groups: int) -> list[tuple[PartitionSpec, ...]]:
    """Split into ``groups`` groups of nearly the same length, in order."""
    bounds = [len(partitions) * number // groups for number in range(groups + 1)]
    return [tuple(partitions[start:stop]) for start, stop in pairwise(bounds)]
