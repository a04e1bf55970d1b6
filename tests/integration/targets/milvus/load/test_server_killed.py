"""The server killed while rows are loaded, and started again on its data: each row is there once in the end.

But a server of 2.3.5 that is killed between storing an import's rows and flushing them can't be flushed any more:
that is said, and loading anew is exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import pytest
from pymilvus import MilvusClient, MilvusException

from airflow_provider_milvusdm.exceptions import ImportFailedError, VerificationError
from airflow_provider_milvusdm.report import VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus.load import writer
from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.milvus.verify import collection
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from tests.support.bulk_imports import disk, load_to_the_end
from tests.support.chain import Chain
from tests.support.collections_2x import stored_in_all
from tests.support.directories import write_directory
from tests.support.killed import Checkpoints, WatchedCheckpoints
from tests.support.milvus_servers import MilvusServer, running_milvus_server
from tests.support.targets import milvus_client
from tests.support.tcp_proxy import CuttingProxy, cutting_proxy

PARTITIONS = {"_default": range(-10_000, 10_000), "a": range(10_000, 20_000)}
BATCH_ROWS, STRIDE_BATCHES = 500, 2
NOTES = {"insert": (1, 30), "bulk_import": (3, 7)}
"""Any of thirty checkpoints; those at which the two jobs are requested, and known."""
SECONDS = {"insert": 0.1, "bulk_import": 3}
"""Meanwhile a batch is written, or the jobs are done."""
Done = TypeVar("Done")
MOMENTS = [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 7))]


class FailingServer:
    """A server that is killed and started again; its address stays the same."""

    def __init__(self, server: MilvusServer, proxy: CuttingProxy) -> None:
        self.server, self.proxy, self.uri = server, proxy, proxy.uri
        self.thread = ThreadPoolExecutor(1)
        self.back: Future[None] = Future()
        self.starts = 0

    def fail_in(self, seconds: float) -> None:
        self.back = self.thread.submit(self._fail, seconds)

    def _fail(self, seconds: float) -> None:
        time.sleep(seconds)
        self.server.close()
        self.server.start()
        self.starts += 1
        self.proxy.target = self.server.address.uri

    def await_start(self) -> None:
        self.back.result(timeout=300)

    def retry(self, step: Callable[[MilvusClient], Done]) -> Done:
        """Retry as Airflow does, some time after the server's start: at first its parts are not ready."""
        for _ in range(12):
            with suppress(MilvusException, grpc.RpcError, ImportFailedError), milvus_client(self.uri) as client:
                return step(client)
            self.await_start()
            time.sleep(5)
        with milvus_client(self.uri) as client:
            return step(client)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingServer]:
    """A server of its own; after a restart it notices soon that its former sessions have ended."""
    with ExitStack() as started:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COMMON_SESSION_TTL", "10")
            server = started.enter_context(running_milvus_server(tmp_path_factory.mktemp("failing")))
        yield FailingServer(server, started.enter_context(cutting_proxy(server.address.uri)))


@dataclass
class Migration:
    """A collection that one unit loads."""

    server: FailingServer
    chain: Chain
    store: ImportStore

    def run(self, method: str, checkpoints: Checkpoints, mode: str = "skip") -> CollectionReport:
        plans = self.chain.plan()
        created, _ = self.chain.create(plans, mode)
        [unit] = address_units(plans, created)
        loaded = self.server.retry(lambda client: load_to_the_end(method, client, unit, checkpoints, self.store))
        self.server.await_start()
        return self.server.retry(
            lambda client: verify_collection(client, plans[0], created[0], [loaded], verify="full")
        )


@pytest.mark.parametrize("seed", MOMENTS)
@pytest.mark.parametrize("method", ["insert", "bulk_import"])
def test_the_target_is_exact_after_the_server_was_killed_at_any_moment_of_a_load(
    server: FailingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, seed: int
) -> None:
    monkeypatch.setattr(writer, "BATCH_ROWS", BATCH_ROWS)
    monkeypatch.setattr(writer, "STRIDE_BATCHES", STRIDE_BATCHES)
    monkeypatch.setattr(collection, "FLUSH_SECONDS", 30)
    random = np.random.default_rng(seed)
    note, seconds = int(random.integers(*NOTES[method])), random.uniform(0, SECONDS[method])
    name = f"{method}_{seed}"
    directory = write_directory(tmp_path / "milvus", {name: PARTITIONS})
    with milvus_client(server.uri) as client:
        chain, starts = Chain(directory.path, client, max_tasks=2), server.starts
        migration = Migration(server, chain, disk(tmp_path / "import"))
        try:
            report = migration.run(method, WatchedCheckpoints(note, lambda: server.fail_in(seconds)))
        except VerificationError as error:
            if method == "insert" or "is not flushed" not in str(error):
                raise
            report = migration.run("insert", Checkpoints(), "overwrite")
    assert server.starts == starts + 1
    assert (report.status, report.faults, report.sampled) == (VERIFIED, (), 30_000)
    with milvus_client(server.uri) as client:
        assert stored_in_all(client, [name]) == {name: {tag: directory.live(name, tag) for tag in PARTITIONS}}
        client.drop_collection(name)
