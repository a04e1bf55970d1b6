"""What a dry run reports about memory and writing time, compared with a real server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2

from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.verify.estimate import (
    ROWS_A_SECOND,
    available_memory,
    estimate_target,
    free_memory,
)
from tests.support.chain import Chain
from tests.support.directories import write_directory

FLAT = IndexSpec("FLAT", Metric.L2)
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def system_info(server_client: MilvusClient) -> dict[str, Any]:
    """The server's own description."""
    request = milvus_pb2.GetMetricsRequest(request=json.dumps({"metric_type": "system_info"}))
    answer = server_client._get_connection()._stub.GetMetrics(request, timeout=10)
    found: dict[str, Any] = json.loads(answer.response)
    return found


def test_free_memory_is_that_of_the_query_nodes(system_info: dict[str, Any]) -> None:
    free = free_memory(system_info)
    assert free is not None
    assert MEMORY // 100 < free < MEMORY
    nodes = system_info["nodes_info"]
    query_nodes = [node for node in nodes if node["infos"]["type"] == "querynode"]
    assert len(nodes) > len(query_nodes) == 1
    assert free_memory({"nodes_info": nodes + query_nodes}) == 2 * free
    assert free_memory({"nodes_info": [node for node in nodes if node not in query_nodes]}) is None


def test_a_collection_that_does_not_fit_into_memory_is_reported_with_what_helps(server_client: MilvusClient) -> None:
    collection = CollectionSpec("news", 1024, Metric.L2)
    available = available_memory(server_client)
    assert available
    [_, note] = estimate_target(server_client, collection, FLAT, available // collection.vector_bytes * 2)
    assert "of memory free, less than it needs: mmap" in note
    assert len(estimate_target(server_client, collection, FLAT, available // collection.vector_bytes // 4)) == 1


def test_milvus_lite_is_not_asked_for_its_memory(lite_client: MilvusClient) -> None:
    assert available_memory(lite_client) is None
    assert len(estimate_target(lite_client, CollectionSpec("news", 1024, Metric.L2), FLAT, 10**12)) == 1


@pytest.mark.long
def test_the_rate_used_for_estimates_is_that_of_a_server(server_client: MilvusClient, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(400_000)}}, dimension=128)
    chain = Chain(directory.path, server_client)
    plans = chain.plan()
    created, _ = chain.create(plans)
    [loaded] = chain.load(plans, created)
    rate = loaded.rows["_default"] / loaded.seconds
    print(f"{rate:,.0f} rows a second")
    assert ROWS_A_SECOND / 4 < rate < ROWS_A_SECOND * 4
