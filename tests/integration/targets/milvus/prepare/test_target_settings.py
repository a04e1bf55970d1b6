"""A real target accepts the settings in `target`, or the run ends before a row is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.config.target_settings import TargetSettings
from airflow_provider_milvusdm.report import FAILED, VERIFIED, CollectionReport
from tests.support.chain import Chain
from tests.support.collections_2x import stored
from tests.support.directories import write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory

HNSW = {"index_type": "HNSW", "index_params": {"M": 8, "efConstruction": 50}}


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": {"_default": range(100), "a": [107]}})


def migrate(
    client: MilvusClient, directory: Milvus1xDirectory, settings: dict[str, Any], mode: str = "skip"
) -> CollectionReport:
    return Chain(directory.path, client, settings=TargetSettings(**settings)).run(mode=mode)["news"]


def check_exact(client: MilvusClient, directory: Milvus1xDirectory) -> None:
    assert client.list_collections() == ["news"]
    assert stored(client, "news") == {tag: directory.live("news", tag) for tag in ("_default", "a")}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"index_type": "NOPE"}, "invalid index type: NOPE"),
        ({"index_type": "BIN_FLAT"}, "binary vector is only supported"),
        ({"index_type": "HNSW", "index_params": {"M": 1_000_000, "efConstruction": 8}}, "M out of range"),
        ({"index_type": "IVF_FLAT", "index_params": {"nlist": 0}}, "nlist out of range"),
        ({"index_type": "IVF_FLAT"}, "nlist out of range"),
        ({"replicas": 2}, "nodes not enough"),
        ({"shards": 64}, "maximum shards's number should be limited to 16"),
    ],
    ids=str,
)
def test_what_a_server_refuses_ends_before_a_row_is_written(
    server_client: MilvusClient,
    directory: Milvus1xDirectory,
    settings: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = migrate(server_client, directory, settings)
    assert (report.status, report.partitions) == (FAILED, ())
    [fault] = report.faults
    assert "he target refuses the collection for the rows of 'news'" in fault
    assert reason in fault
    assert "Traceback" not in caplog.text
    assert server_client.list_collections() == []


def test_a_refused_overwrite_leaves_the_target_as_it_was(
    server_client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    assert migrate(server_client, directory, HNSW).status == VERIFIED
    before = server_client.describe_collection("news")
    assert migrate(server_client, directory, {"index_type": "NOPE"}, "overwrite").status == FAILED
    assert server_client.describe_collection("news") == before
    check_exact(server_client, directory)


def test_an_overwrite_takes_the_new_settings(server_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    assert migrate(server_client, directory, HNSW).target_index == "HNSW"
    report = migrate(server_client, directory, {"index_type": "SCANN", "index_params": {"nlist": 16}}, "overwrite")
    assert (report.status, report.target_index) == (VERIFIED, "SCANN")
    check_exact(server_client, directory)


def test_a_wrong_index_is_not_tried_where_none_is_wanted(
    server_client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    chain = Chain(directory.path, server_client, settings=TargetSettings(index_type="NOPE"))
    assert chain.run(create_index=False)["news"].status == VERIFIED
    assert server_client.list_indexes("news") == []


def test_mmap_and_one_replica_are_taken_by_a_server(server_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    assert migrate(server_client, directory, {"mmap": True, "replicas": 1}).status == VERIFIED
    assert server_client.describe_collection("news")["properties"]["mmap.enabled"] == "true"
    check_exact(server_client, directory)


def test_autoindex_is_taken_by_every_target(client: MilvusClient, directory: Milvus1xDirectory) -> None:
    report = migrate(client, directory, {"index_type": "AUTOINDEX"})
    assert (report.status, report.target_index) == (VERIFIED, "AUTOINDEX")
    [hits] = client.search("news", [np.frombuffer(directory.live("news")[5], "<f4").tolist()], limit=1)
    assert hits[0]["id"] == 5
    check_exact(client, directory)
