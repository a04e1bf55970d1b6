"""A sample of a collection's rows, read back and compared bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_milvusdm.manifests import CollectionPlan, ResolvedPartition
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.reader import read_slices, read_windows
from airflow_provider_milvusdm.targets.milvus.server.queries import map_concurrently, read_rows, rows_of

if TYPE_CHECKING:
    from pymilvus import MilvusClient

SAMPLED_ROWS = 1024
"""Rows read back of a collection, shared among its partitions."""
SAMPLED_WINDOW = 64
"""Stored rows looked at for a live one, at a time."""


def compare_sample(client: MilvusClient, plan: CollectionPlan, partitions: Iterable[str]) -> tuple[int, list[str]]:
    """Rows compared, and a fault for each partition with rows that are missing or differ.

    ``partitions``: those of the target that were loaded.
    """
    loaded, names = set(partitions), plan.partition_names
    sampled = [part for part in plan.partitions if part.rows and names[part.tag] in loaded]
    compared = map_concurrently(client, partial(_compare, client, plan), sampled)
    return sum(rows for rows, _ in compared), [fault for _, fault in compared if fault]


def _compare(client: MilvusClient, plan: CollectionPlan, partition: ResolvedPartition) -> tuple[int, str]:
    """Rows compared of a partition, and what is wrong with them."""
    sample = _sample(plan, partition)
    wanted = {row_id: row for batch in sample for row_id, row in rows_of(batch).items()}
    name = plan.partition_names[partition.tag]
    found = read_rows(client, plan.target, name, list(wanted), list(sample[0].columns))
    wrong = [row_id for row_id, row in wanted.items() if found.get(row_id) != row]
    if not wrong:
        return len(wanted), ""
    return len(wanted), (
        f"partition {partition.tag!r}: {len(wrong)} of {len(wanted)} sampled rows are missing or "
        f"differ in the target: ids {', '.join(map(str, wrong[:20]))}"
    )


def _sample(plan: CollectionPlan, partition: ResolvedPartition) -> list[VectorBatch]:
    """Some rows of a partition that has any, at least one and the same ones each time; all rows of a small one."""
    pieces = [(unit, piece) for unit in plan.units for piece in unit.slices if piece.partition == partition.tag]
    picks = max(SAMPLED_ROWS // len(plan.partitions), 4)
    if partition.rows <= picks:
        return [batch.copied() for unit, piece in pieces for batch in _live_batches(unit, piece, picks)]
    random = np.random.default_rng(int(partition.fingerprint[:16], 16))
    weights = np.array([piece.stored_rows for _, piece in pieces], float)
    shares = random.multinomial(picks, weights / weights.sum())
    sample: list[VectorBatch] = []
    for (unit, piece), share in zip(pieces, shares.tolist(), strict=True):
        starts = np.sort(random.integers(0, piece.stored_rows, share)).tolist()
        if starts:
            sample += _first_rows(read_windows(unit.source, unit.collection, piece, starts, SAMPLED_WINDOW))
    for unit, piece in pieces:
        sample = sample or _first_rows(islice(_live_batches(unit, piece, SAMPLED_WINDOW), 1))
    return sample


def _live_batches(unit: LoadUnit, piece: Slice, rows: int) -> Iterator[VectorBatch]:
    batches = (batch for _, _, batch in read_slices(unit.source, unit.collection, [piece], rows))
    return filter(len, batches)


def _first_rows(batches: Iterable[VectorBatch]) -> list[VectorBatch]:
    """A batch of the first row alone of each that has one, copied: the files of a batch stay open with it."""
    return [batch.part(0, 1).copied() for batch in batches if len(batch)]
