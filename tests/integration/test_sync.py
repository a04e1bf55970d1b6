"""Sync: an existing collection becomes what the source is, and only what differs is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.report import FAILED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets import milvus_rows
from airflow_provider_milvusdm.targets.milvus_requests import WriteRequests
from airflow_provider_milvusdm.vectors import CreatedCollection, RowPolicies, VectorBatch
from tests.chain import Chain
from tests.collections_2x import load_all, make_collection, mark, stored
from tests.directories import random_rows, random_vectors, write_directory
from tests.integration.killed import create
from tests.milvus1x_directory import Milvus1xDirectory
from tests.milvus1x_rows import HAMMING

DIMENSION = 8


@dataclass(frozen=True)
class Growth:
    """A 1.x server that goes on: of `rows` some are deleted, some replaced under their id, others added."""

    rows: int

    @property
    def added(self) -> int:
        return self.rows // 100

    @property
    def deleted(self) -> int:
        return self.rows // 200

    @property
    def replaced(self) -> int:
        return self.rows // 500

    def write(self, path: Path, *, later: bool, binary: bool = False) -> Milvus1xDirectory:
        directory = Milvus1xDirectory(path)
        options = {"dimension": 16, "metric": HAMMING} if binary else {"dimension": DIMENSION}
        news = directory.collection("news", **options)
        tables = [news, directory.partition(news, "a")]
        for number, table in enumerate(tables):
            ids = np.arange(self.rows // 2) * 7 + number
            gone = np.arange(self.deleted // 2) * 10
            changed = np.arange(self.replaced // 2) * 20 + 1
            deleted = [*gone.tolist(), *changed.tolist()] if later else []
            directory.segment(table, ids, self._vectors(len(ids), number, binary), deleted=deleted)
            if later:
                new = [*ids[changed].tolist(), *range(10**15 + number, 10**15 + self.added + number, 2)]
                directory.segment(table, new, self._vectors(len(new), number + 5, binary))
        directory.write()
        return directory

    def _vectors(self, rows: int, seed: int, binary: bool) -> np.ndarray:
        if binary:
            return np.random.default_rng(seed).integers(0, 256, (rows, 2), np.uint8)
        return random_vectors(rows, seed, DIMENSION)


def numbers(report: CollectionReport) -> tuple[int, int]:
    """Rows loaded, rows counted."""
    return sum(part.loaded for part in report.partitions), sum(part.counted or 0 for part in report.partitions)


def check_stored(client: MilvusClient, directory: Milvus1xDirectory) -> None:
    assert stored(client, "news") == {tag: directory.live("news", tag) for tag in ("_default", "a")}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each write request, as they are sent."""
    rows: list[int] = []
    write = WriteRequests._write

    def counted(requests: WriteRequests, send: Any, method: str, partition: str, batch: VectorBatch) -> Any:
        rows.append(len(batch))
        return write(requests, send, method, partition, batch)

    monkeypatch.setattr(WriteRequests, "_write", counted)
    return rows


@pytest.mark.parametrize(
    ("target_uri", "rows", "binary"),
    [("lite", 10_000, False), ("server", 100_000, False), ("server", 10_000, True)],
    indirect=["target_uri"],
)
def test_only_what_differs_is_written(
    client: MilvusClient, sent: list[int], tmp_path: Path, rows: int, binary: bool
) -> None:
    growth = Growth(rows)
    first = Chain(growth.write(tmp_path / "first", later=False, binary=binary).path, client)
    assert first.run(mode="sync")["news"].action == "created"
    assert sum(sent) == rows
    sent.clear()
    later = growth.write(tmp_path / "later", later=True, binary=binary)
    chain = Chain(later.path, client, unit_bytes=rows * 8)
    report = chain.run(mode="sync", verify="full")["news"]
    assert (report.status, report.action, report.faults) == (VERIFIED, "synced", ())
    assert numbers(report) == (growth.added + growth.replaced, rows + growth.added - growth.deleted)
    assert report.notes[-1] == f"{growth.added} rows to insert, {growth.deleted} deleted, {growth.replaced} to mend"
    assert report.sampled == numbers(report)[1]
    assert mark(client, "news")["state"] == "complete"
    check_stored(client, later)
    assert sum(sent) == growth.added + growth.replaced
    sent.clear()
    again = chain.run(mode="sync", verify="full")["news"]
    assert sent == []
    assert (again.status, numbers(again)) == (VERIFIED, (0, numbers(report)[1]))
    assert again.notes[-1] == "0 rows to insert, 0 deleted, 0 to mend"


def test_without_full_verification_only_ids_are_compared(lite_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(lite_client, "news", {"_default": random_rows([1, 2, 3], 1), "a": random_rows([9], 2)})
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [2, 3, 4], "b": [5]}}, seed=7)
    report = Chain(directory.path, lite_client).run(mode="sync", verify="counts")["news"]
    assert (report.status, report.notes[-2:]) == (
        VERIFIED,
        (
            "2 rows to insert, 1 deleted, 0 to mend",
            "partitions that the source does not have were left as they are: a",
        ),
    )
    expected, there = directory.live("news"), random_rows([1, 2, 3], 1)
    assert stored(lite_client, "news") == {
        "_default": {2: there[2], 3: there[3], 4: expected[4]},
        "a": random_rows([9], 2),
        "b": directory.live("news", "b"),
    }


LOWEST = -(2**63)


def test_named_partitions_and_the_lowest_id_are_synced(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_rows, "IDS_A_QUERY", 2)
    monkeypatch.setattr(milvus_rows, "LITE_IDS_A_QUERY", 2)
    there = {"_default": random_rows([70, 71], 3), "a": random_rows([LOWEST, 1, 2, 3, 4, 5], 4)}
    make_collection(client, "news", there)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [8], "a": [-5, 2, 5]}})
    report = Chain(directory.path, client).run({"news": ["a"]}, "sync", verify="full")["news"]
    assert (report.status, numbers(report)) == (VERIFIED, (3, 3))
    load_all(client, ["news"])
    assert stored(client, "news") == {"_default": there["_default"], "a": directory.live("news", "a")}


def test_an_id_may_stand_in_several_partitions_on_a_server(server_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(server_client, "news", dict.fromkeys(["_default", "a"], random_rows(range(10), 3)))
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [3], "a": [4, 11]}})
    assert Chain(directory.path, server_client).run(mode="sync", verify="full")["news"].status == VERIFIED
    check_stored(server_client, directory)


def test_milvus_lite_refuses_to_delete_what_stands_in_another_partition(
    lite_client: MilvusClient, tmp_path: Path
) -> None:
    there = {"_default": random_rows(range(5), 3), "a": random_rows([2, 3], 4)}
    make_collection(lite_client, "news", there, loaded=True)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1], "a": [3]}})
    report = Chain(directory.path, lite_client).run(mode="sync")["news"]
    assert report.status == FAILED
    assert "1 rows that partition '_default' of collection 'news' has to lose stand in another, too" in str(
        report.faults
    )
    assert stored(lite_client, "news") == there


def test_milvus_lite_deletes_what_no_partition_is_to_keep(lite_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(lite_client, "news", dict.fromkeys(["_default", "a"], random_rows(range(5), 3)))
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1, 7], "a": [1, 7]}})
    assert (
        Chain(directory.path, lite_client, id_scope="partition").run(mode="sync", verify="full")["news"].status
        == VERIFIED
    )
    check_stored(lite_client, directory)


def test_keys_that_are_not_the_sources_ids_are_refused(lite_client: MilvusClient, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(5)}})
    chain = Chain(directory.path, lite_client, policies=RowPolicies(duplicate_ids="remap"))
    assert chain.run()["news"].status == VERIFIED
    [fault] = chain.run(mode="sync")["news"].faults
    assert "keys made of places (duplicate_ids: remap)" in fault


@pytest.mark.parametrize("target_uri", ["lite", pytest.param("server", marks=pytest.mark.long)], indirect=True)
def test_a_sync_killed_at_any_moment_is_repeated(client: MilvusClient, tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(9)]
    for name in names:
        make_collection(client, name, {"_default": random_rows(range(10), 3)})
    load_all(client, names)
    directory = write_directory(
        tmp_path / "milvus", {name: {"_default": range(5, 15), "b": range(20, 23)} for name in names}
    )
    killed = 0
    for moment, name in enumerate(names, 1):
        chain = Chain(directory.path, client)
        found: CreatedCollection | None = create(client, chain.plan(name)[0], "sync", moment)
        killed += found is None
        assert chain.run(name, "sync", verify="full")[name].status == VERIFIED
        assert stored(client, name) == {tag: directory.live(name, tag) for tag in ("_default", "b")}
    assert 4 <= killed < len(names)
