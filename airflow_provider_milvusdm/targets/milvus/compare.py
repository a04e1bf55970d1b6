"""Compare rows of a source with those of the target, one by one: ids and every byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.rows import VectorBatch, rows_within
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.key_ranges import ChosenRanges
from airflow_provider_milvusdm.rows.reader import read_keys, read_slices
from airflow_provider_milvusdm.targets.milvus.server.queries import (
    IDS_A_QUERY,
    map_concurrently,
    read_rows,
    rows_of,
    stream_ids,
)

if TYPE_CHECKING:
    from pymilvus import MilvusClient

Ids = npt.NDArray[np.int64]
WINDOW_IDS = 4 << 20
"""Ids that are held at a time; while the source is compared with them, they take 70 MB."""


class TargetIds:
    """The ids that a partition of the target holds, sorted; those of the source are crossed off.

    It keeps 9 bytes an id, and 16 while they are read.
    """

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self._crossed = np.zeros(len(ids), np.bool_)

    @classmethod
    def read(cls, client: MilvusClient, target: TargetCollection, partition: str, within: ChosenRanges) -> TargetIds:
        """Read the ids of a partition in some ranges."""

        def read_range(bounds: tuple[int, int]) -> Ids:
            return np.concatenate(list(stream_ids(client, target, partition, *bounds)))

        found = map_concurrently(client, read_range, within.bounds())
        return cls(np.concatenate([np.empty(0, np.int64), *found]))

    def cross_off(self, keys: Ids) -> npt.NDArray[np.bool_]:
        """Which of ``keys`` are there."""
        if not len(self.ids):
            return np.zeros(len(keys), np.bool_)
        places = np.minimum(np.searchsorted(self.ids, keys), len(self.ids) - 1)
        there: npt.NDArray[np.bool_] = self.ids[places] == keys
        self._crossed[places[there]] = True
        return there

    @property
    def extra(self) -> Ids:
        """Those that were not crossed off."""
        return self.ids[~self._crossed]


def unexpected_ids(
    client: MilvusClient,
    target: TargetCollection,
    partition: str,
    units: Sequence[LoadUnit],
    within: ChosenRanges,
) -> Iterator[Ids]:
    """Ids in some ranges that the partition holds and the source doesn't, in their order.

    A window of them is held at a time, and the ids of the source are read for each window.
    """
    batches = (ids for bounds in within.bounds() for ids in stream_ids(client, target, partition, *bounds))
    for window in _windows(batches):
        there = TargetIds(window)
        for unit in units:
            for row_slice in unit.slices:
                if row_slice.partition == partition:
                    for _, keys in read_keys(unit.source, unit.collection, row_slice):
                        there.cross_off(keys[(keys >= window[0]) & (keys <= window[-1])])
        yield there.extra


def _windows(batches: Iterable[Ids]) -> Iterator[Ids]:
    """Batches of ids joined to windows of at least :data:`WINDOW_IDS`, the last one smaller; none is empty."""
    held: list[Ids] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= WINDOW_IDS:
            yield np.concatenate(held)
            held = []
    if any(map(len, held)):
        yield np.concatenate(held)


@dataclass(frozen=True)
class ComparedRows:
    """The result for a batch of rows: the ids that the target lacks, and those that it holds with other bytes.

    ``end``: number of stored rows up to its end.
    """

    end: int
    partition: str
    rows: int
    missing: list[int]
    different: list[int]


def compare_rows(
    client: MilvusClient,
    target: TargetCollection,
    units: Iterable[LoadUnit],
    done: int = 0,
    within: Mapping[str, ChosenRanges] | None = None,
) -> Iterator[ComparedRows]:
    """Compare all rows of ``units``, whose partitions are the target's, in stored order.

    The first ``done`` stored rows are skipped, and rows outside of the ranges that ``within`` has of a partition.
    """
    position = 0
    for unit in units:
        rows = min(rows_within(unit.collection), IDS_A_QUERY)
        batches = read_slices(unit.source, unit.collection, unit.slices, rows, done - position)
        for end, partition, batch in batches:
            if within and partition in within:
                batch = batch.where(within[partition].holds(batch.ids))
            yield _compare(client, target, position + end, partition, batch)
        position += unit.stored_rows


def _compare(
    client: MilvusClient, target: TargetCollection, end: int, partition: str, batch: VectorBatch
) -> ComparedRows:
    wanted = rows_of(batch)
    found = read_rows(client, target, partition, list(wanted), list(batch.columns), IDS_A_QUERY)
    missing = [row_id for row_id in wanted if row_id not in found]
    different = [row_id for row_id, row in wanted.items() if found.get(row_id, row) != row]
    return ComparedRows(end, partition, len(wanted), missing, different)
