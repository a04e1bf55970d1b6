"""Rows that Milvus 1.x accepts and 2.x refuses, as they arrive in each target with each policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.report import FAILED, VERIFIED
from airflow_provider_milvusdm.targets.milvus.server.queries import vector_bytes
from tests.support.chain import Chain
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING

LOWEST_ID = -(2**63)
RANDOM = np.random.default_rng(20_210_305)
FACES = [7, 7, 8, 7, 9, 7, 8, 8, 9, 9, 7, -3, 7, 8]
"""14 vectors with 4 ids."""


@pytest.fixture
def faces(tmp_path: Path) -> Milvus1xDirectory:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    faces = directory.collection("faces", dimension=8)
    directory.segment(faces, FACES[:9], RANDOM.random((9, 8)))
    directory.segment(faces, FACES[9:], RANDOM.random((5, 8)))
    directory.write()
    return directory


def stored(client: MilvusClient, collection: str, fields: list[str]) -> list[tuple[Any, ...]]:
    """Values of all rows, those of the vector field last."""
    rows = client.query(
        collection, filter="id > -9223372036854775807", output_fields=[*fields, "embedding"], consistency_level="Strong"
    )
    return sorted((*(row[name] for name in fields), vector_bytes(row["embedding"])) for row in rows)


def test_every_row_arrives_with_a_new_key(client: MilvusClient, faces: Milvus1xDirectory) -> None:
    chain = Chain(faces.path, client, policies=RowPolicies("remap"))
    report = chain.run()["faces"]
    assert (report.status, report.faults) == (VERIFIED, ())
    [partition] = report.partitions
    assert (partition.live, partition.excluded, partition.loaded, partition.counted) == (14, 0, 14, 14)
    rows = faces.live_rows("faces")
    assert stored(client, "faces", ["source_id"]) == sorted(rows)
    keys = stored(client, "faces", ["id"])
    for row_id, vector in rows:
        [[hit]] = client.search(
            "faces", [np.frombuffer(vector, np.float32).tolist()], limit=1, output_fields=["source_id"]
        )
        assert (hit["entity"]["source_id"], hit["distance"]) == (row_id, pytest.approx(0, abs=1e-6))
    assert [name for name in client.list_indexes("faces") if "source_id" in str(client.describe_index("faces", name))]
    chain.run(mode="overwrite")
    assert stored(client, "faces", ["id"]) == keys


@pytest.mark.parametrize("policy", ["keep_first", "keep_last"])
def test_one_row_of_each_id_arrives(client: MilvusClient, faces: Milvus1xDirectory, policy: str) -> None:
    report = Chain(faces.path, client, policies=RowPolicies(policy)).run()["faces"]
    [partition] = report.partitions
    assert (report.status, partition.live, partition.excluded, partition.counted) == (VERIFIED, 14, 10, 4)
    rows = faces.live_rows("faces")
    assert stored(client, "faces", ["id"]) == sorted(dict(rows if policy == "keep_last" else rows[::-1]).items())
    assert f"10 rows excluded: another row with their id was kept (duplicate_ids: {policy})" in "\n".join(report.notes)


def test_the_default_refuses_them_before_the_target_is_touched(client: MilvusClient, faces: Milvus1xDirectory) -> None:
    report = Chain(faces.path, client).run()["faces"]
    assert report.status == FAILED
    assert "3 ids are on rows with different vectors" in report.faults[0]
    assert client.list_collections() == []


@pytest.mark.parametrize("policy", ["keep_first", "keep_last", "remap"])
def test_binary_rows_under_each_policy(server_client: MilvusClient, tmp_path: Path, policy: str) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    faces = directory.collection("faces", dimension=16, metric=HAMMING)
    directory.segment(faces, [1, 2, 1, 2], np.array([[1, 0], [2, 0], [0, 0], [2, 0]], np.uint8))
    report = Chain(directory.write(), server_client, policies=RowPolicies(policy)).run()["faces"]
    assert (report.status, report.faults) == (VERIFIED, ())
    rows = directory.live_rows("faces")
    if policy == "remap":
        assert stored(server_client, "faces", ["source_id"]) == sorted(rows)
    else:
        assert stored(server_client, "faces", ["id"]) == sorted(
            dict(rows if policy == "keep_last" else rows[::-1]).items()
        )


def test_valid_rows_arrive_without_the_invalid_ones(client: MilvusClient, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    vectors = RANDOM.random((10, 8)).astype(np.float32)
    vectors[[2, 7], [0, 5]] = np.nan, np.inf
    directory.segment(directory.collection("news", dimension=8), range(10), vectors)
    policies = RowPolicies(invalid_vectors="skip", skipped_rows_dir=str(tmp_path / "skipped"))
    report = Chain(directory.write(), client, policies=policies).run()["news"]
    [partition] = report.partitions
    assert (report.status, partition.live, partition.excluded, partition.counted) == (VERIFIED, 10, 2, 8)
    assert stored(client, "news", ["id"]) == [row for row in directory.live_rows("news") if row[0] not in (2, 7)]
    assert str(tmp_path / "skipped" / "news" / "_default.h5") in "\n".join(report.notes)


def test_rows_with_new_keys_are_only_appended_to_such_rows(client: MilvusClient, faces: Milvus1xDirectory) -> None:
    Chain(faces.path, client, policies=RowPolicies("keep_first")).run()
    report = Chain(faces.path, client, policies=RowPolicies("remap")).run(mode="append")["faces"]
    assert "source_id is not an INT64 field" in report.faults[0]


def write_tags(path: Path, tags: dict[str, list[int]]) -> Milvus1xDirectory:
    """A collection with these ids by tag; the first 100 vectors of a tag are always the same."""
    directory = Milvus1xDirectory(path)
    news = directory.collection("news", dimension=8)
    for tag, ids in tags.items():
        seed = sum(tag.encode())
        vectors = np.concatenate([np.random.default_rng(seed + part).random((100, 8)) for part in range(3)])
        directory.segment(directory.partition(news, tag), ids, vectors[: len(ids)])
    directory.write()
    return directory


def test_rows_whose_keys_have_changed_in_the_source_are_not_appended_again(
    client: MilvusClient, tmp_path: Path
) -> None:
    """Keys are made of the number of the partition, which changes if one before it is dropped."""
    ids = [7] * 60 + [LOWEST_ID] * 40
    before = write_tags(tmp_path / "before", {"a": [1], "b": ids})
    after = write_tags(tmp_path / "after", {"b": [*ids, 7, 7]})
    policies = RowPolicies("remap")
    assert Chain(before.path, client, policies=policies).run({"news": ["b"]})["news"].status == VERIFIED
    rows = stored(client, "news", ["id", "source_id"])
    [fault] = Chain(after.path, client, policies=policies).run({"news": ["b"]}, "append")["news"].faults
    assert "rows to append are in the target already, under other keys: 100 or more" in fault.lower()
    assert f"source_id {LOWEST_ID}, " in fault
    assert stored(client, "news", ["id", "source_id"]) == rows
    other = Milvus1xDirectory(tmp_path / "other")
    news = other.collection("news", dimension=8)
    other.segment(other.partition(news, "b"), ids, np.random.default_rng(99).random((100, 8)))
    other.write()
    assert Chain(other.path, client, policies=policies).run({"news": ["b"]}, "append")["news"].status == VERIFIED
