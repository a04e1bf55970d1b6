"""Connections are cut or slow while requests are in flight: in the end each row is stored once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import Loaded
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options
from airflow_provider_milvusdm.targets.milvus.load import writer
from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import list_jobs
from airflow_provider_milvusdm.targets.milvus.units import address_units
from tests.support.bulk_imports import ASKING, disk, load_to_the_end
from tests.support.chain import Chain, GroupsChain, Steps
from tests.support.collections_2x import called, stored_in_all
from tests.support.directories import random_vectors, write_directory
from tests.support.hdf5_inputs import inspect as inspect_hdf5
from tests.support.hdf5_inputs import write_hdf5
from tests.support.killed import Checkpoints, WatchedCheckpoints
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.targets import milvus_client
from tests.support.tcp_proxy import cutting_proxy

ROWS, BATCH_ROWS, DIMENSION = 20_000, 1_000, 32
BATCH_BYTES = BATCH_ROWS * DIMENSION * 4
IMPORT_BYTES = 3_000
"""Number of bytes; any import sends more to the server."""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty batches, and a checkpoint before every third one."""
    monkeypatch.setattr(writer, "BATCH_ROWS", BATCH_ROWS)
    monkeypatch.setattr(writer, "STRIDE_BATCHES", 3)


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    ids = range(-ROWS // 2, ROWS // 2)
    return write_directory(tmp_path / "milvus", {"news": {"_default": ids}}, dimension=DIMENSION)


def create(chain: Steps) -> LoadUnit:
    """Create the only collection, and return its only load unit."""
    plans = chain.plan()
    created, faults = chain.create(plans)
    assert faults == {}
    [unit] = address_units(plans, created)
    return unit


def check_stored(client: MilvusClient, directory: Milvus1xDirectory) -> None:
    assert stored_in_all(client, ["news"]) == {"news": {"_default": directory.live("news")}}


@pytest.fixture
def store(tmp_path: Path) -> ImportStore:
    return disk(tmp_path / "import")


def load_with_retries(
    uri: str, unit: LoadUnit, store: ImportStore, method: str = "insert", checkpoints: Checkpoints | None = None
) -> Loaded:
    """Retry as Airflow does: pymilvus gives up where the connection is cut while it reconnects."""
    checkpoints = Checkpoints() if checkpoints is None else checkpoints
    for _ in range(3):
        with suppress(MilvusException, grpc.RpcError), milvus_client(uri) as client:
            return load_to_the_end(method, client, unit, checkpoints, store)
    with milvus_client(uri) as client:
        return load_to_the_end(method, client, unit, checkpoints, store)


@pytest.mark.parametrize(
    ("seed", "delay", "unheard"), [(1, 0, False), (2, 0, False), (1, 0, True), (2, 0, True), (3, 0.05, True)]
)
def test_after_a_cut_connection_rows_are_upserted(
    server_client, empty_milvus_server_uri, directory, store, seed, delay, unheard
):
    unit = create(Chain(directory.path, server_client))
    gaps = np.random.default_rng(seed).integers(BATCH_BYTES, 6 * BATCH_BYTES, 3)
    with cutting_proxy(empty_milvus_server_uri, gaps.cumsum().tolist(), unheard=unheard, delay=delay) as proxy:
        loaded = load_with_retries(proxy.uri, unit, store)
        assert proxy.cuts_left == 0
    assert loaded.rows == {"_default": ROWS}
    check_stored(server_client, directory)


@pytest.mark.parametrize(("seed", "delay", "unheard"), [(1, 0, False), (2, 0.05, True)])
def test_a_cut_connection_starts_no_import_twice(
    server_client, empty_milvus_server_uri, directory, store, seed, delay, unheard
):
    unit = create(Chain(directory.path, server_client))
    gaps = np.random.default_rng(seed).integers(1, IMPORT_BYTES // 3, 3)
    with cutting_proxy(empty_milvus_server_uri, gaps.cumsum().tolist(), unheard=unheard, delay=delay) as proxy:
        loaded = load_with_retries(proxy.uri, unit, store, "bulk_import")
        assert proxy.cuts_left == 0
    assert loaded.rows == {"_default": ROWS}
    assert len(list_jobs(server_client, called(server_client, "news"))) == 1
    check_stored(server_client, directory)


def test_an_import_job_whose_number_was_lost_is_not_requested_again(
    server_client, empty_milvus_server_uri, directory, store
):
    unit = create(Chain(directory.path, server_client))
    with cutting_proxy(empty_milvus_server_uri) as proxy:
        checkpoints = WatchedCheckpoints(ASKING, lambda: proxy.cut(unheard=True))
        loaded = load_with_retries(proxy.uri, unit, store, "bulk_import", checkpoints)
    assert loaded.rows == {"_default": ROWS}
    assert len(list_jobs(server_client, called(server_client, "news"))) == 1
    check_stored(server_client, directory)


@pytest.mark.parametrize("unheard", [False, True])
def test_a_retry_continues_after_a_server_that_was_away(server_client, empty_milvus_server_uri, directory, unheard):
    unit = create(Chain(directory.path, server_client))
    checkpoints = Checkpoints()
    with (
        cutting_proxy(empty_milvus_server_uri, [11 * BATCH_BYTES], unheard=unheard, away=True) as proxy,
        milvus_client(proxy.uri, timeout=1) as client,
        pytest.raises(MilvusException),
    ):
        load_unit(client, unit, checkpoints)
    assert 0 < checkpoints["checkpoint"]["done"] < checkpoints["checkpoint"]["intended"] < ROWS
    loaded = load_unit(server_client, unit, checkpoints)
    assert loaded.rows == {"_default": ROWS}
    check_stored(server_client, directory)


def test_rows_without_ids_are_not_sent_twice(server_client, empty_milvus_server_uri, tmp_path):
    path = write_hdf5(tmp_path / "news.h5", {"embeddings": random_vectors(ROWS, 1, DIMENSION)})
    unit = create(GroupsChain([inspect_hdf5(path, options=Hdf5Options(ids="auto"))], server_client))
    checkpoints = Checkpoints()
    with (
        cutting_proxy(empty_milvus_server_uri, [5 * BATCH_BYTES], unheard=True) as proxy,
        milvus_client(proxy.uri) as client,
        pytest.raises(MilvusException, match="no answer to an insert"),
    ):
        load_unit(client, unit, checkpoints)
    with pytest.raises(TargetError, match="Nobody can tell which rows"):
        load_unit(server_client, unit, checkpoints)
