"""The ids of a partition of the target, held while a source is compared with them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np

from airflow_provider_milvusdm.targets.milvus import compare
from airflow_provider_milvusdm.targets.milvus.compare import TargetIds
from tests.support.peak_memory import peak_memory

BATCH = 1 << 16


def read_ids(rows: int) -> Any:
    """Those of a partition that serves the ids from 0 on, and an empty batch at last."""
    bounds = [*pairwise(range(0, rows + 1, BATCH)), (rows, rows)]
    batches = (np.arange(*bound) for bound in bounds)
    with patch.object(compare, "stream_ids", lambda *_: batches):
        return TargetIds.read(None, None, "_default").ids  # type: ignore[arg-type]


def last_id(rows: int) -> int:
    return int(read_ids(rows)[-1])


def test_the_ids_of_a_partition_take_nine_bytes_each_while_they_are_read() -> None:
    rows = 256 * BATCH
    last, peak = peak_memory(last_id, rows, imports=["numpy", compare.__name__])
    assert last == rows - 1
    assert peak < 9.5 * rows


def test_ids_are_read_in_their_order_and_an_empty_partition_has_none() -> None:
    assert np.array_equal(read_ids(3 * BATCH), np.arange(3 * BATCH))
    assert read_ids(0).size == 0
