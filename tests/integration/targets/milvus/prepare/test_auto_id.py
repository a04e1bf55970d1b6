"""Collections whose ids the 1.x server made: its application continues to insert rows without ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.targets.milvus.fence import REQUEST_SECONDS
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot
from airflow_provider_milvusdm.targets.milvus.server.queries import count_rows, delete_ids, read_rows
from tests.support.chain import Chain
from tests.support.collections_2x import insert, is_lite, make_collection, stored
from tests.support.directories import random_rows, random_vectors
from tests.support.milvus1x_directory import Milvus1xDirectory

FIRST_ID = 1_614_924_431_171_826_000
IDS_BY_SERVER = 1


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    """Collection `news`, 9 rows in `_default` and 9 with other ids in `a`."""
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8, flag=IDS_BY_SERVER)
    for seed, table in enumerate((news, directory.partition(news, "a"))):
        directory.segment(table, range(FIRST_ID + 9 * seed, FIRST_ID + 9 * seed + 9), random_vectors(9, seed))
    directory.write()
    return directory


def test_ids_are_kept_and_new_ones_made_where_the_target_can(
    client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    report = Chain(directory.path, client).run()["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    kept = {tag: directory.live("news", tag) for tag in ("_default", "a")}
    assert stored(client, "news") == kept
    description = client.describe_collection("news")
    [note] = [note for note in report.notes if "the 1.x server made its ids" in note]
    if not is_lite(client):  # 2.3.5 can't
        assert not description["auto_id"]
        assert "the application has to insert rows with an id of their own" in note
        return
    assert (description["auto_id"], description["properties"]["allow_insert_auto_id"]) == (True, "true")
    assert "so does the target" in note
    vector = random_vectors(1, 7)[0]
    [made] = client.insert("news", [{"embedding": vector}], partition_name="a")["ids"]
    client.flush("news")
    kept["a"][made] = bytes(np.asarray(vector))
    assert len(kept["a"]) == 10
    assert stored(client, "news") == kept


def test_off_makes_a_collection_like_any_other(lite_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    chain = Chain(directory.path, lite_client)
    created, _ = chain.create(chain.plan(auto_id="off"))
    assert not lite_client.describe_collection(created[0].own_name)["auto_id"]
    assert "the target makes none" in created[0].notes[0]


def test_such_a_collection_is_appended_to_and_continued(
    lite_client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    chain = Chain(directory.path, lite_client)
    assert chain.run({"news": ["_default"]})["news"].status == VERIFIED
    plans = chain.plan({"news": ["a"]})
    created, _ = chain.create(plans, "append")
    chain.load(plans, created)
    report = Chain(directory.path, lite_client).run({"news": ["a"]}, "append")["news"]
    assert (report.status, report.action) == (VERIFIED, "resumed")
    assert stored(lite_client, "news") == {tag: directory.live("news", tag) for tag in ("_default", "a")}


def test_rows_that_are_deleted_and_inserted_are_there_once(server_client: MilvusClient) -> None:
    """Rows that may be stored already are deleted and inserted where an upsert would give them new ids."""
    before = random_rows(range(40), 1)
    make_collection(server_client, "news", {"_default": before, "a": before}, metric="L2")
    after, target = random_rows(range(20, 60), 2), TargetCollection("news")
    for _ in range(2):
        delete_ids(server_client, target, "a", list(after), lambda: seconds_since_boot() + REQUEST_SECONDS)
        insert(server_client, "news", "a", after)
    server_client.load_collection("news")
    assert [count_rows(server_client, target, partition) for partition in ("_default", "a")] == [40, 60]
    assert read_rows(server_client, target, "a", range(60)) == {key: (row,) for key, row in (before | after).items()}
    assert read_rows(server_client, target, "_default", range(60)) == {key: (row,) for key, row in before.items()}
