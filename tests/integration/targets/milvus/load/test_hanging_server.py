"""A server hangs, or makes no progress: each step ends with a clear error, and a retry is exact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import NoAnswerError, StalledError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.model.collections import Metric, TargetCollection
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.server import waiting
from airflow_provider_milvusdm.targets.milvus.server.index import make_searchable
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from tests.support.chain import Chain
from tests.support.collections_2x import make_collection, stored_in_all
from tests.support.directories import random_rows, write_directory
from tests.support.grpc_proxy import HoldingProxy, holding_proxy
from tests.support.killed import Checkpoints
from tests.support.milvus1x_directory import Milvus1xDirectory

SECONDS = 5


@pytest.fixture
def proxy(empty_milvus_server_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[HoldingProxy]:
    with holding_proxy(empty_milvus_server_uri) as proxy:
        fields = {"conn_type": "milvus", "extra": {"uri": proxy.uri}}
        monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps(fields))
        yield proxy


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": {"_default": range(1000), "a": range(1000, 1100)}})


def with_a_server_that_hangs(proxy: HoldingProxy, method: str, step: Callable[[MilvusClient], object]) -> None:
    """The request of a step is held back, and the step ends; then the request continues, and ends too."""
    proxy.held = {method}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "REQUEST_SECONDS", SECONDS)
        patch.setattr("airflow_provider_milvusdm.targets.milvus.verify.collection.FLUSH_SECONDS", SECONDS)
        with (
            pytest.raises(NoAnswerError, match=f"Milvus does not answer: {proxy.uri}.*continues"),
            MilvusHook().client() as held,
        ):
            step(held)
    proxy.release()


@pytest.mark.parametrize("method", ["DescribeCollection", "CreateCollection", "CreatePartition", "CreateIndex"])
def test_a_creation_ends_and_is_repeated(proxy: HoldingProxy, directory: Milvus1xDirectory, method: str) -> None:
    with_a_server_that_hangs(proxy, method, lambda client: Chain(directory.path, client).run())
    with MilvusHook().client() as client:
        assert Chain(directory.path, client).run()["news"].faults == ()
        assert stored_in_all(client, ["news"])["news"] == directory_rows(directory)


def directory_rows(directory: Milvus1xDirectory) -> dict[str, dict[int, bytes]]:
    return {tag: dict(directory.live("news", tag)) for tag in ("_default", "a")}


def test_a_load_ends_and_is_continued(proxy: HoldingProxy, directory: Milvus1xDirectory) -> None:
    with MilvusHook().client() as client:
        chain = Chain(directory.path, client, max_tasks=2)
        plans = chain.plan()
        [unit] = address_units(plans, chain.create(plans)[0])
        checkpoints = Checkpoints()
        with_a_server_that_hangs(proxy, "Insert", lambda held: load_unit(held, unit, checkpoints))
        assert load_unit(client, unit, checkpoints).rows == {"_default": 1000, "a": 100}
        assert stored_in_all(client, ["news"])["news"] == directory_rows(directory)


@pytest.mark.parametrize(
    "method", ["Flush", "GetFlushState", "DescribeIndex", "LoadCollection", "GetLoadingProgress", "Query"]
)
def test_a_verification_ends_and_is_repeated(proxy: HoldingProxy, directory: Milvus1xDirectory, method: str) -> None:
    with MilvusHook().client() as client:
        chain = Chain(directory.path, client)
        plans = chain.plan()
        created, _ = chain.create(plans)
        loads = chain.load(plans, created)
        with_a_server_that_hangs(
            proxy, method, lambda held: verify_collection(held, plans[0], created[0], loads, verify="full")
        )
        assert verify_collection(client, plans[0], created[0], loads, verify="full").faults == ()


def test_an_index_that_is_not_built_is_given_up(server_client: MilvusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    make_collection(server_client, "news", {"_default": random_rows(range(20_000), 1)})
    server_client.flush("news")
    target, index = TargetCollection("news"), IndexSpec("HNSW", Metric.L2, {"M": 32, "efConstruction": 500})
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "STALLED_SECONDS", 0)
        with pytest.raises(StalledError, match=r"index 'embedding' of collection 'news'|loading collection 'news'"):
            make_searchable(server_client, target, index)
    make_searchable(server_client, target, index)
    assert server_client.query("news", "id == 7", output_fields=["id"]) == [{"id": 7}]
