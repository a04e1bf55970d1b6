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
"""Stored rows that are read at once to find a live one."""


def compare_sample(client: MilvusClient, plan: CollectionPlan, partitions: Iterable[str]) -> tuple[int, list[str]]:
    """Number of rows compared, and a fault for each partition with rows that are missing or differ.

    ``partitions``: those of the target that were loaded.
    """
    loaded, names = set(partitions), plan.partition_names
    sampled = [part for part in plan.partitions if part.rows and names[part.tag] in loaded]
    compared = map_concurrently(client, partial(_compare, client, plan), sampled)
    return sum(rows for rows, _ in compared), [fault for _, fault in compared if fault]


def _compare(client: MilvusClient, plan: CollectionPlan, partition: ResolvedPartition) -> tuple[int, str]:
    """Number of rows compared of a partition, and what is wrong with them."""
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
    """Rows of a partition, at least one and the same each time, as batches of one row."""
    slices = [
        (unit, row_slice) for unit in plan.units for row_slice in unit.slices if row_slice.partition == partition.tag
    ]
    random = np.random.default_rng(int(partition.fingerprint[:16], 16))
    weights = np.array([row_slice.stored_rows for _, row_slice in slices], float)
    picks = max(SAMPLED_ROWS // len(plan.partitions), 4)
    shares = random.multinomial(picks, weights / weights.sum())
    sample: list[VectorBatch] = []
    for (unit, row_slice), share in zip(slices, shares.tolist(), strict=True):
        starts = np.sort(random.integers(0, row_slice.stored_rows, share)).tolist()
        if starts:
            sample += _first_rows(read_windows(unit.source, unit.collection, row_slice, starts, SAMPLED_WINDOW))
    for unit, row_slice in slices:
        sample = sample or _first_rows(islice(_live_batches(unit, row_slice), 1))
    return sample


def _live_batches(unit: LoadUnit, row_slice: Slice) -> Iterator[VectorBatch]:
    batches = (batch for _, _, batch in read_slices(unit.source, unit.collection, [row_slice], SAMPLED_WINDOW))
    return filter(len, batches)


def _first_rows(batches: Iterable[VectorBatch]) -> list[VectorBatch]:
    """The first row of each batch that has rows, as a batch of one row."""
    return [batch.part(0, 1) for batch in batches if len(batch)]
