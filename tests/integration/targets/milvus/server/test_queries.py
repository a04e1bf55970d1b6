"""Rows of a target queried by id in each partition, including the lowest id, which 2.3 can't parse."""

from __future__ import annotations

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.targets.milvus.server import queries
from airflow_provider_milvusdm.targets.milvus.server.queries import (
    count_rows,
    existing_ids,
    ids_in_any,
    read_rows,
    stream_ids,
)
from tests.support.collections_2x import create_index, insert, make_collection
from tests.support.directories import random_rows

LOWEST, HIGHEST = -(2**63), 2**63 - 2
THERE = {"_default": random_rows([LOWEST, LOWEST + 1, -1, 0, 5, HIGHEST], 1), "a": random_rows([0, 7], 2), "b": {}}
NEWS = TargetCollection("news")
ASKED: list[list[int]] = [
    [],
    [LOWEST],
    [LOWEST + 1],
    [LOWEST, 0, 7],
    [0, LOWEST + 2, 9],
    [HIGHEST, 5, -1, LOWEST + 1, LOWEST, 7],
]


def test_rows_are_found_by_id_and_partition(client: MilvusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "IDS_A_QUERY", 2)
    monkeypatch.setattr(queries, "LITE_IDS_A_QUERY", 2)
    make_collection(client, "news", THERE, loaded=True)
    for partition, rows in THERE.items():
        assert count_rows(client, NEWS, partition) == len(rows)
        streamed = [ids.tolist() for ids in stream_ids(client, NEWS, partition)]
        assert [row_id for ids in streamed for row_id in ids] == sorted(rows)
        assert max(map(len, streamed)) <= 2
        for asked in ASKED:
            expected = {row_id: rows[row_id] for row_id in asked if row_id in rows}
            assert sorted(existing_ids(client, NEWS, partition, asked)) == sorted(expected)
            found = read_rows(client, NEWS, partition, asked, most=2)
            assert found == {row_id: (vector,) for row_id, vector in expected.items()}


def test_rows_are_found_beside_ids_that_several_rows_share(server_client: MilvusClient) -> None:
    rows = random_rows(range(20), 1)
    make_collection(server_client, "news", {"_default": rows}, loaded=True)
    for seed in (2, 3):
        insert(server_client, "news", "_default", random_rows([3, 4], seed))
    assert sorted(existing_ids(server_client, NEWS, "_default", range(25))) == list(range(20))
    found = read_rows(server_client, NEWS, "_default", range(25))
    assert {row_id: found[row_id] for row_id in rows if row_id not in (3, 4)} == {
        row_id: (vector,) for row_id, vector in rows.items() if row_id not in (3, 4)
    }


@pytest.mark.parametrize("asked", ASKED)
def test_ids_are_found_in_any_of_several_partitions(client: MilvusClient, asked: list[int]) -> None:
    make_collection(client, "news", THERE, loaded=True)
    for partitions in (["_default", "a", "b"], ["a", "b"], ["b"]):
        held = {row_id for partition in partitions for row_id in THERE[partition]}
        found = ids_in_any(client, NEWS, partitions, np.array(asked, np.int64))
        assert found.tolist() == sorted(held.intersection(asked))


def test_ids_are_found_in_any_partition_beside_ids_that_several_rows_share(server_client: MilvusClient) -> None:
    rows = random_rows(range(20), 1)
    make_collection(server_client, "news", {"_default": rows, "a": random_rows(range(10), 2)}, loaded=True)
    insert(server_client, "news", "_default", random_rows(range(10), 3))
    for partitions in (["_default"], ["_default", "a"]):
        assert ids_in_any(server_client, NEWS, partitions, np.arange(25)).tolist() == list(rows)


def test_duplicate_rows_hide_no_rows_after_them(server_client: MilvusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server counts all duplicates for the limit of a query, and returns one row for each id."""
    monkeypatch.setattr(queries, "IDS_A_QUERY", 4)
    rows = random_rows(range(20), 1)
    make_collection(server_client, "news", {"_default": rows})
    server_client.flush("news")
    insert(server_client, "news", "_default", dict(list(rows.items())[:9]))
    server_client.flush("news")
    create_index(server_client, "news", "L2")
    server_client.load_collection("news")
    assert np.concatenate(list(stream_ids(server_client, NEWS, "_default"))).tolist() == list(rows)
