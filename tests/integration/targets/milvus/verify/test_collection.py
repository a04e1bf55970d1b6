"""Verification finds what is not as it was read, says where, and leaves the collection as it's wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pymilvus import MilvusClient, MilvusException

from airflow_provider_milvusdm.exceptions import VerificationError
from airflow_provider_milvusdm.report import FAILED, VERIFIED
from tests.support.chain import Chain
from tests.support.collections_2x import called, insert, is_lite, make_collection, marker
from tests.support.directories import random_rows, random_vectors, write_directory
from tests.support.loaded import Loaded
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_segment import Damage
from tests.support.side_by_side import migrate

PARTITIONS = {
    "_default": range(20),
    "lost": range(100, 120),
    "extra": range(200, 220),
    "changed": range(300, 320),
}


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": PARTITIONS})


def test_rows_lost_added_and_changed_behind_its_back_are_found(
    client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    loaded = Loaded(client, directory.path)
    client.delete(called(client, "news"), ids=[110], partition_name="lost")
    insert(client, called(client, "news"), "extra", random_rows([999], 7))
    ids, vectors = PARTITIONS["changed"], random_vectors(20, 8)
    rows = [{"id": row_id, "embedding": vector} for row_id, vector in zip(ids, vectors, strict=True)]
    client.upsert(called(client, "news"), rows, partition_name="changed")
    report = loaded.verify()
    assert report.status == FAILED
    expected = "expected 0 rows from before and 20 loaded, counted"
    assert f"partition 'lost' (target 'lost'): {expected} 19 in the target" in report.faults
    assert f"partition 'extra' (target 'extra'): {expected} 21 in the target" in report.faults
    assert "partition 'lost': 1 of 20 sampled rows are missing or differ in the target: ids 110" in report.faults
    assert report.faults[-1].startswith("partition 'changed': 20 of 20 sampled rows are missing or differ")
    assert len(report.faults) == 4
    assert marker(client, "news")["state"] == "loading"


def test_a_zero_that_lost_its_sign_is_found(lite_client: MilvusClient, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    directory.segment(directory.collection("news", dimension=2), [7], [[-0.0, 1]])
    directory.write()
    loaded = Loaded(lite_client, directory.path)
    assert loaded.verify().status == VERIFIED
    lite_client.upsert(called(lite_client, "news"), [{"id": 7, "embedding": [0.0, 1.0]}])
    [fault] = loaded.verify().faults
    assert "1 of 1 sampled rows are missing or differ in the target: ids 7" in fault


def test_a_partition_with_few_live_rows_is_sampled_too(lite_client: MilvusClient, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=8)
    directory.segment(news, range(9000), random_vectors(9000, 1), deleted=[*range(4500), *range(4501, 9000)])
    directory.write()
    report = Loaded(lite_client, directory.path).verify()
    assert (report.status, report.sampled) == (VERIFIED, 1)


def test_counting_alone_reads_no_rows_back(lite_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    report = Loaded(lite_client, directory.path).verify(verify="counts")
    assert (report.status, report.sampled) == (VERIFIED, 0)


def test_a_unit_that_was_not_loaded_is_a_fault(lite_client: MilvusClient, directory: Milvus1xDirectory) -> None:
    loaded = Loaded(lite_client, directory.path, unit_bytes=20 * 8 * 4)
    del loaded.loads[1:]
    report = loaded.verify(faults=["the disk is full"])
    assert (report.status, report.faults) == (FAILED, ("the disk is full", "3 of 4 load units were not loaded"))
    assert marker(lite_client, "news")["state"] == "loading"


def test_a_flush_that_does_not_end_is_told_with_its_cure(
    lite_client: MilvusClient, directory: Milvus1xDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Loaded(lite_client, directory.path)

    def wait_in_vain(name: str, timeout: float) -> None:
        raise MilvusException(message=f"wait for flush timeout, collection: {name}, flusht_ts: 1")

    monkeypatch.setattr(lite_client, "flush", wait_in_vain)
    with pytest.raises(VerificationError, match=r"not flushed after 1800 s.*mode overwrite"):
        loaded.verify()
    assert marker(lite_client, "news")["state"] == "loading"


def test_without_an_index_rows_are_counted_and_compared_all_the_same(
    client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    report = Loaded(client, directory.path).verify(create_index=False)
    assert (report.status, report.sampled, report.target_index) == (VERIFIED, 80, "none")
    assert client.list_indexes("news") == []
    if not is_lite(client):
        assert client.get_load_state("news")["state"].name == "NotLoad"


def test_a_collection_that_was_indexed_and_not_loaded_stays_so_without_create_index(
    server_client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    make_collection(server_client, "news", {"_default": random_rows([1000], 1)}, metric="L2")
    report = Loaded(server_client, directory.path, {"news": ["lost"]}).verify(create_index=False)
    assert (report.status, report.target_index) == (VERIFIED, "FLAT")
    assert server_client.list_indexes("news") == ["embedding"]
    assert server_client.get_load_state("news")["state"].name == "NotLoad"


def test_a_damaged_collection_leaves_those_beside_it_alone(client: MilvusClient, tmp_path: Path) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    before, damaged, behind = (directory.collection(name, dimension=8) for name in ("before", "damaged", "behind"))
    for collection in (before, behind):
        directory.segment(collection, range(20), random_vectors(20, 1))
    segment = directory.segment(damaged, range(20), random_vectors(20, 1), damage=Damage(rv_bytes=2**60))
    directory.write()
    reports = migrate(Chain(directory.path, client))
    assert {name: report.status for name, report in reports.items()} == {
        "before": VERIFIED,
        "damaged": FAILED,
        "behind": VERIFIED,
    }
    [fault] = reports["damaged"].faults
    assert str(segment.rv) in fault
    assert sorted(client.list_collections()) == ["before", "behind"]


def test_empty_collections_alone_are_made_and_verified(client: MilvusClient, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"nothing": {"_default": []}, "parts": {"_default": [], "a": []}})
    reports = migrate(Chain(directory.path, client))
    assert [report.status for report in reports.values()] == [VERIFIED, VERIFIED]
    assert set(client.list_partitions("parts")) == {"_default", "a"}


def test_without_verification_what_was_acknowledged_is_taken_for_loaded(
    lite_client: MilvusClient, directory: Milvus1xDirectory
) -> None:
    loaded = Loaded(lite_client, directory.path, unit_bytes=20 * 8 * 4)
    lite_client.delete(called(lite_client, "news"), ids=[110])
    report = loaded.verify(verify="none")
    assert (report.status, {part.counted for part in report.partitions}) == (VERIFIED, {None})
    assert marker(lite_client, "news")["state"] == "complete"
    loaded.loads[0] = replace(loaded.loads[0], rows={"_default": 19})
    [fault] = loaded.verify(verify="none").faults
    assert fault == "partition '_default' (target '_default'): 20 rows were to be loaded and 19 were"
