"""Ids that are on several rows of a target: a server returns one row of each id, but counts all rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_milvusdm.rows.key_ranges import ChosenRanges, Ids
from airflow_provider_milvusdm.targets.milvus.server.queries import count_between, map_concurrently, stream_ids

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.collections import TargetCollection


def find_doubled(
    client: MilvusClient, target: TargetCollection, partition: str, differing: ChosenRanges, most: int
) -> list[int]:
    """Up to ``most`` ids of a partition that are on several rows.

    For ranges that are not ``differing``, the number of ids is known. The ids of the others are read.
    """

    def count(bounds: tuple[int, int]) -> int:
        return count_between(client, target, partition, *bounds)

    found: list[int] = []
    ranges = differing.key_ranges
    bounds = [ranges.bounds(number) for number in range(len(ranges))]
    counted = map_concurrently(client, count, bounds)
    for number, (range_bounds, rows) in enumerate(zip(bounds, counted, strict=True)):
        if rows and len(found) < most and (differing.chosen[number] or rows != ranges.rows[number]):
            ids = np.concatenate(list(stream_ids(client, target, partition, *range_bounds)))
            found += _doubled(count, ids, rows, most - len(found))
    return found


def _doubled(count: Callable[[tuple[int, int]], int], ids: Ids, rows: int, most: int) -> list[int]:
    """Which of the ids, on ``rows`` rows in all, are on several: halves that have too many rows are halved again."""
    if rows == len(ids) or not most:
        return []
    if len(ids) == 1:
        return [int(ids[0])]
    first, second = np.array_split(ids, 2)
    rows_of_first = count((int(first[0]), int(first[-1])))
    found = _doubled(count, first, rows_of_first, most)
    return found + _doubled(count, second, rows - rows_of_first, most - len(found))
