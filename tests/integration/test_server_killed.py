"""The server killed while rows are loaded, and started again on its data: each row is there once in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import pytest
from pymilvus import MilvusClient, MilvusException

from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.targets import milvus_writer
from airflow_provider_milvusdm.targets.milvus_import import ImportFailedError
from airflow_provider_milvusdm.targets.milvus_units import address_units
from airflow_provider_milvusdm.targets.milvus_verify import verify_collection
from tests.chain import Chain
from tests.collections_2x import stored_in_all
from tests.directories import write_directory
from tests.integration.imports import disk, load_to_the_end
from tests.integration.killed import WatchedCheckpoints
from tests.servers import MilvusServer, restartable_milvus_server
from tests.targets import drop_all_collections, milvus_client

PARTITIONS = {"_default": range(-10_000, 10_000), "a": range(10_000)}
BATCH_ROWS, STRIDE_BATCHES = 500, 2
NOTES = {"insert": (1, 30), "bulk_import": (3, 7)}
"""Any checkpoint of thirty; those that the two jobs are asked for, and known."""
SECONDS = {"insert": 0.1, "bulk_import": 3}
"""A batch is written meanwhile, or the jobs are done."""
Done = TypeVar("Done")
MOMENTS = [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server that nobody else uses."""
    with restartable_milvus_server(tmp_path_factory.mktemp("killed")) as server:
        yield server


class Outage:
    """The server killed some time after it's told so, and started again."""

    def __init__(self, server: MilvusServer, seconds: float) -> None:
        self.server, self.seconds = server, seconds
        self.thread = ThreadPoolExecutor(1)
        self.over: Future[None] = Future()

    def begin(self) -> None:
        self.over = self.thread.submit(self._happen)

    def _happen(self) -> None:
        time.sleep(self.seconds)
        self.server.kill()
        self.server.start()


def tried_again(step: Callable[[MilvusClient], Done], outage: Outage) -> Done:
    """As Airflow tries a task again: some time after the server is back, for it takes a while to find all its parts."""
    for _ in range(12):
        try:
            with milvus_client(outage.server.address.uri) as client:
                return step(client)
        except (MilvusException, grpc.RpcError, ImportFailedError):
            outage.over.result(timeout=300)
            time.sleep(5)
    raise AssertionError("each attempt failed")


@pytest.mark.parametrize("seed", MOMENTS)
@pytest.mark.parametrize("method", ["insert", "bulk_import"])
def test_the_target_is_exact_after_the_server_was_killed_at_any_moment_of_a_load(
    server: MilvusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, seed: int
) -> None:
    monkeypatch.setattr(milvus_writer, "BATCH_ROWS", BATCH_ROWS)
    monkeypatch.setattr(milvus_writer, "STRIDE_BATCHES", STRIDE_BATCHES)
    drop_all_collections(server.address.uri)
    random = np.random.default_rng(seed)
    note, seconds = int(random.integers(*NOTES[method])), random.uniform(0, SECONDS[method])
    directory = write_directory(tmp_path / "milvus", {"news": PARTITIONS})
    with milvus_client(server.address.uri) as client:
        chain = Chain(directory.path, client, most_tasks=2)
        plans = chain.plan()
        created, _ = chain.create(plans)
    [unit] = address_units(plans, created)
    outage, store = Outage(server, seconds), disk(tmp_path / "import")
    checkpoints = WatchedCheckpoints(note, outage.begin)
    loaded = tried_again(lambda client: load_to_the_end(method, client, unit, checkpoints, store), outage)
    outage.over.result(timeout=300)
    report = tried_again(
        lambda client: verify_collection(client, plans[0], created[0], [loaded], verify="full"), outage
    )
    assert (report.status, report.faults, report.sampled) == (VERIFIED, (), 30_000)
    with milvus_client(server.address.uri) as client:
        assert stored_in_all(client, ["news"]) == {"news": {tag: directory.live("news", tag) for tag in PARTITIONS}}
