"""The sample that is read of a partition: which rows, and how many files stay open."""

from __future__ import annotations

import os

import numpy as np
import pytest

from airflow_provider_milvusdm.targets.milvus.verify.sample import SAMPLED_ROWS, _sample
from tests.support.chain import inspect_directory, plan_groups
from tests.support.milvus1x_directory import Milvus1xDirectory


def sampled_ids(directory: Milvus1xDirectory) -> list[int]:
    [plan] = plan_groups(inspect_directory(directory.write()))
    before = len(os.listdir("/proc/self/fd"))
    sample = _sample(plan, plan.partitions[0])
    assert len(os.listdir("/proc/self/fd")) < before + 10
    return [row_id for batch in sample for row_id in batch.ids.tolist()]


@pytest.mark.parametrize("segments", [1, 300])
def test_all_rows_of_a_small_partition_are_compared(directory: Milvus1xDirectory, segments: int) -> None:
    news = directory.collection("news", dimension=4)
    for ids in np.split(np.arange(SAMPLED_ROWS - SAMPLED_ROWS % segments), segments):
        directory.segment(news, ids.tolist(), np.ones((len(ids), 4)), deleted=[0])
    assert sorted(sampled_ids(directory)) == sorted(directory.live("news"))


def test_of_a_large_partition_single_rows_are_compared(directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("news", dimension=4), range(5000), np.ones((5000, 4)))
    ids = sampled_ids(directory)
    assert SAMPLED_ROWS // 2 < len(ids) <= SAMPLED_ROWS
    assert len(set(ids)) == len(ids)
