"""A million vectors from one file: the memory of a load is bounded by the batch, not by its unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import faiss
import h5py
import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.manifests import Loaded, PartitionGroup
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from tests.support.chain import GroupsChain
from tests.support.faiss_inputs import inspect as inspect_faiss
from tests.support.hdf5_inputs import inspect as inspect_hdf5
from tests.support.peak_memory import load_elsewhere

ROWS, DIMENSION, PART = 1_000_000, 128, 50_000
SMALL, LARGE = 128 << 20, 1 << 30
"""Sizes of a unit: four of them, and all rows in one."""
MOST = 160 << 20
MORE_FOR_LARGE = 40 << 20


def part(start: int) -> np.ndarray:
    """Rows with few different values, so that gzip is fast."""
    return np.random.default_rng(start).integers(-8, 8, (PART, DIMENSION)).astype(np.float32)


def write_gzip(folder: Path) -> Callable[..., PartitionGroup]:
    path = folder / "large.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("embeddings", (ROWS, DIMENSION), "<f4", compression="gzip", compression_opts=1)
        for start in range(0, ROWS, PART):
            dataset[start : start + PART] = part(start)
    return lambda **options: inspect_hdf5(path, **options)


def write_ivf(folder: Path) -> Callable[..., PartitionGroup]:
    path = folder / "large.index"
    index = faiss.index_factory(DIMENSION, "IVF64,Flat")
    index.train(part(0)[:5000])
    for start in range(0, ROWS, PART):
        index.add_with_ids(part(start), np.arange(start, start + PART))
    faiss.write_index(index, str(path))
    return lambda **options: inspect_faiss(path, **options)


def migrate(client: MilvusClient, uri: str, group: PartitionGroup) -> tuple[int, int]:
    """Load the units; returns them and the largest amount of memory that one took."""
    chain = GroupsChain([group], client)
    [plan] = chain.plan()
    [created], faults = chain.create([plan], "overwrite")
    assert faults == {}
    units = address_units([plan], [created])
    loads = [load_elsewhere(uri, unit) for unit in units]
    loaded = [
        Loaded("news", {"_default": rows}, 1.0, unit.digest) for unit, (rows, _) in zip(units, loads, strict=True)
    ]
    report = verify_collection(client, plan, created, loaded)
    assert (report.status, report.faults, report.partitions[0].counted) == (VERIFIED, (), ROWS)
    return len(loads), max(peak for _, peak in loads)


@pytest.mark.long
@pytest.mark.parametrize("write", [write_gzip, write_ivf])
def test_a_million_rows_are_loaded_in_memory_bounded_by_the_batch(
    write, server_client, empty_milvus_server_uri, tmp_path
):
    inspect = write(tmp_path)
    small = migrate(server_client, empty_milvus_server_uri, inspect(unit_bytes=SMALL))
    large = migrate(server_client, empty_milvus_server_uri, inspect(unit_bytes=LARGE))
    assert (small[0], large[0]) == (4, 1)
    assert large[1] < MOST, (small, large)
    assert large[1] - small[1] < MORE_FOR_LARGE, (small, large)
