"""Divide partitions into what one resolve task takes, and segments into what one load task takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from airflow_provider_milvusdm.vectors import PartitionSpec, Slice


def group_sizes(partitions: Sequence[int], limit: int) -> list[int]:
    """How many groups each collection gets, given its number of partitions; at most ``limit`` in all.

    One a partition where they fit; else shared out in proportion, at least one a collection.
    """
    if sum(partitions) <= limit:
        return [max(count, 1) for count in partitions]
    spare = limit - len(partitions)
    return [max(min(count, 1 + spare * count // sum(partitions)), 1) for count in partitions]


def split_evenly(partitions: Sequence[PartitionSpec], groups: int) -> list[tuple[PartitionSpec, ...]]:
    """Split into ``groups`` runs of nearly the same length, in order."""
    bounds = [len(partitions) * number // groups for number in range(groups + 1)]
    return [tuple(partitions[start:stop]) for start, stop in zip(bounds, bounds[1:], strict=False)]


def unit_bytes_within(total_bytes: int, groups: int, limit: int, wanted: int) -> int:
    """Size of a load unit so that the whole run has at most ``limit`` of them, not less than ``wanted``.

    Each group ends with one unit that may be small, so the others get what is left of the limit.
    """
    return max(wanted, -(-total_bytes // max(limit - groups, 1)))


def cut_units(slices: Iterable[Slice], capacity: int) -> Iterator[tuple[Slice, ...]]:
    """Group small slices and split large ones, in order, into units of ``capacity`` stored rows."""
    unit: list[Slice] = []
    room = capacity
    for piece in slices:
        start = piece.start
        while start < piece.stop:
            stop = min(start + room, piece.stop)
            unit.append(replace(piece, start=start, stop=stop))
            room -= stop - start
            start = stop
            if not room:
                yield tuple(unit)
                unit, room = [], capacity
    if unit:
        yield tuple(unit)
