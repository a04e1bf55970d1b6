"""Load units: what one load task takes, cut from the slices of a collection."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from airflow_provider_milvusdm.model.collections import (
    CollectionSpec,
    PartitionSpec,
    Slice,
    SourceRef,
    TargetCollection,
)


@dataclass(frozen=True)
class LoadUnit:
    """What one load task takes: segments, or ranges of rows of one.

    Once ``target`` is set, the slices' partitions are the target's.
    """

    source: SourceRef
    collection: CollectionSpec
    slices: tuple[Slice, ...]
    target: TargetCollection | None = None
    migration: str = ""
    """Fingerprint of the collection's plan: its target must carry a marker with the same."""
    generation: str = ""
    """That of the marker: another one stands for a target that was made anew, or gone on with by another run."""
    upsert: bool = False
    """An earlier run may have written some of these rows already."""

    @property
    def stored_rows(self) -> int:
        return sum(piece.stored_rows for piece in self.slices)

    @property
    def digest(self) -> str:
        """Of its rows' places and of the target's generation: what it is known by."""
        return hashlib.blake2b(f"{self.generation}{self.slices!r}".encode(), digest_size=16).hexdigest()

    @property
    def label(self) -> str:
        first = self.slices[0]
        more = f" +{len(self.slices) - 1}" if len(self.slices) > 1 else ""
        return f"{self.collection.name}/{first.partition}: {first.segment} [{first.start}:{first.stop}]{more}"


def group_sizes(partitions: Sequence[int], limit: int) -> list[int]:
    """How many groups each collection gets, given its number of partitions; at most ``limit`` in all.

    One a partition where they fit; else shared out in proportion, at least one a collection.
    """
    groups = [max(count, 1) for count in partitions]
    if sum(groups) <= limit:
        return groups
    spare = limit - len(partitions)
    return [max(min(count, 1 + spare * count // sum(partitions)), 1) for count in partitions]


def split_evenly(partitions: Sequence[PartitionSpec], groups: int) -> list[tuple[PartitionSpec, ...]]:
    """Split into ``groups`` runs of nearly the same length, in order."""
    bounds = [len(partitions) * number // groups for number in range(groups + 1)]
    return [tuple(partitions[start:stop]) for start, stop in pairwise(bounds)]


def unit_bytes_within(total_bytes: int, groups: int, limit: int, wanted: int) -> int:
    """Size of a load unit so that the whole run has at most ``limit`` of them, not less than ``wanted``.

    Each group ends with one unit that may be small, so the others get what is left of the limit.
    """
    return max(wanted, -(-total_bytes // max(limit - groups, 1)))


def unit_rows(unit_bytes: int, vector_bytes: int, live_rows: int, stored_rows: int) -> int:
    """Stored rows of a load unit whose live ones take about ``unit_bytes``.

    Rounded up, and more where many are deleted: so that there are no more units than the live rows alone need, which
    is what :func:`unit_bytes_within` reckons with.
    """
    rows = max(-(-unit_bytes // vector_bytes), 1)
    units = max(-(-live_rows // rows), 1)
    return max(rows, -(-stored_rows // units))


def cut_units(slices: Iterable[Slice], capacity: int) -> Iterator[tuple[Slice, ...]]:
    """Group small slices and split large ones, in order, into units of ``capacity`` stored rows."""
    unit: list[Slice] = []
    room = capacity
    for piece in slices:
        start = piece.start
        while start < piece.stop:
            stop = min(start + room, piece.stop)
            unit.append(piece.part(start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield tuple(unit)
                unit, room = [], capacity
    if unit:
        yield tuple(unit)
