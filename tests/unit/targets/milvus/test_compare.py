"""The ids of a partition of the target, held while a source is compared with them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from airflow_provider_milvusdm.rows.key_ranges import ChosenRanges, KeyRanges
from airflow_provider_milvusdm.targets.milvus import compare
from airflow_provider_milvusdm.targets.milvus.compare import TargetIds
from airflow_provider_milvusdm.targets.milvus.server import queries
from tests.support.peak_memory import peak_memory

BATCH = 1 << 16


def read_ids(rows: int) -> Any:
    """Those of a partition that has the ids from 0 on, in ranges of 4 batches; each ends with an empty batch."""
    firsts = np.arange(0, max(rows, 1), 4 * BATCH)
    within = ChosenRanges(KeyRanges(firsts), np.ones(len(firsts), np.bool_))

    def stream(_client: Any, _target: Any, _partition: Any, first: int, last: int) -> Any:
        bounds = pairwise([*range(max(first, 0), min(last + 1, rows), BATCH), min(last + 1, rows)])
        return (np.arange(*bound) for bound in [*bounds, (0, 0)])

    concurrent = patch.object(queries, "serves_requests_concurrently", lambda _: True)
    with concurrent, patch.object(compare, "stream_ids", stream):
        return TargetIds.read(None, None, "_default", within).ids  # type: ignore[arg-type]


def last_id(rows: int) -> int:
    return int(read_ids(rows)[-1])


@pytest.mark.slow
def test_the_ids_of_a_partition_take_sixteen_bytes_each_while_they_are_read() -> None:
    rows = 256 * BATCH
    last, peak = peak_memory(last_id, rows, imports=["numpy", compare.__name__])
    assert last == rows - 1
    assert peak < 19 * rows


def test_ids_are_read_in_their_order_and_an_empty_partition_has_none() -> None:
    assert np.array_equal(read_ids(3 * BATCH), np.arange(3 * BATCH))
    assert read_ids(0).size == 0
