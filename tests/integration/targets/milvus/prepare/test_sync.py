"""Sync: an existing collection is made equal to the source, and only what differs is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from airflow_provider_milvusdm.manifests import CreatedCollection
from airflow_provider_milvusdm.model.rows import RowPolicies, VectorBatch
from airflow_provider_milvusdm.report import FAILED, PLANNED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus.prepare.sync import Changes
from airflow_provider_milvusdm.targets.milvus.server import queries
from airflow_provider_milvusdm.targets.milvus.server.requests import WriteRequests
from tests.support.chain import Chain
from tests.support.collections_2x import insert, is_lite, load_all, make_collection, marker, stored
from tests.support.directories import random_rows, random_vectors, write_directory
from tests.support.killed import create
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import CLOCK, HAMMING

DIMENSION = 8
YOUNGER = 1_614_924_440_000_000_000
"""Name of a segment that was begun seconds after those that the directory names."""


@dataclass(frozen=True)
class Growth:
    """A 1.x server in use: it deletes rows of `rows`, replaces others under their id, and adds new ones."""

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
                vectors = self._vectors(len(new), number + 5, binary)
                directory.segment(table, new, vectors, segment_id=str(YOUNGER + number))
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
    [("lite", 10_000, False), ("server", 40_000, False), ("server", 10_000, True)],
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
    assert report.notes[-1] == f"{growth.added} rows to insert, {growth.deleted} deleted, {growth.replaced} to repair"
    assert report.sampled == numbers(report)[1]
    assert marker(client, "news")["state"] == "complete"
    check_stored(client, later)
    assert sum(sent) == growth.added + growth.replaced
    sent.clear()
    again = chain.run(mode="sync", verify="full")["news"]
    assert sent == []
    assert (again.status, numbers(again)) == (VERIFIED, (0, numbers(report)[1]))
    assert again.notes[-1] == "0 rows to insert, 0 deleted, 0 to repair"


@pytest.mark.parametrize(
    ("target_uri", "binary"), [("lite", False), ("server", False), ("server", True)], indirect=["target_uri"]
)
def test_rows_replaced_under_their_id_are_repaired(client: MilvusClient, tmp_path: Path, binary: bool) -> None:
    growth = Growth(10_000)
    first = growth.write(tmp_path / "first", later=False, binary=binary)
    assert Chain(first.path, client).run()["news"].status == VERIFIED
    later = growth.write(tmp_path / "later", later=True, binary=binary)
    report = Chain(later.path, client).run(mode="sync", verify="counts")["news"]
    assert (report.status, numbers(report)[0]) == (VERIFIED, growth.added + growth.replaced)
    assert report.notes[-1] == f"{growth.added} rows to insert, {growth.deleted} deleted, {growth.replaced} to repair"
    check_stored(client, later)


def test_rows_that_others_made_are_compared(lite_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(lite_client, "news", {"_default": random_rows([1, 2, 3], 1), "a": random_rows([9], 2)})
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [2, 3, 4], "b": [5]}}, seed=7)
    report = Chain(directory.path, lite_client).run(mode="sync", verify="counts")["news"]
    assert (report.status, report.notes) == (
        VERIFIED,
        (
            "2 rows to insert, 1 deleted, 2 to repair",
            "partitions that the source does not have were left as they are: a",
        ),
    )
    assert stored(lite_client, "news") == {
        "_default": directory.live("news"),
        "a": random_rows([9], 2),
        "b": directory.live("news", "b"),
    }


def one_id_twice(path: Path, *, other: bool = False, created_on: int = CLOCK, tag: str = "a") -> Milvus1xDirectory:
    """Id 5 is in two segments; all vectors differ where the source is another server's."""
    directory = Milvus1xDirectory(path)
    news = directory.collection("news", dimension=DIMENSION, created_on=created_on)
    table = directory.partition(news, tag)
    for number, ids in enumerate([range(10), [5]]):
        vectors = random_vectors(len(ids), number + 3 + 10 * other, DIMENSION)
        directory.segment(table, ids, vectors, segment_id=str(YOUNGER + number))
    directory.write()
    return directory


@pytest.mark.parametrize(
    ("later", "policy", "rename"),
    [
        ({}, "keep_last", {}),
        ({"tag": "b"}, "keep_first", {"news/b": "a"}),
        ({"other": True}, "keep_first", {}),
        ({"other": True, "created_on": CLOCK - 1}, "keep_first", {}),
    ],
    ids=["another-policy", "another-partition", "other-rows", "another-server"],
)
def test_rows_of_another_source_or_policy_are_compared(
    lite_client: MilvusClient, tmp_path: Path, later: dict[str, Any], policy: str, rename: dict[str, str]
) -> None:
    first = one_id_twice(tmp_path / "first").path
    assert Chain(first, lite_client, policies=RowPolicies("keep_first")).run()["news"].status == VERIFIED
    directory = one_id_twice(tmp_path / "later", **({"other": True} if rename else {}), **later)
    chain = Chain(directory.path, lite_client, policies=RowPolicies(policy))
    report = chain.run(mode="sync", rename=rename, verify="counts")["news"]
    assert report.status == VERIFIED
    rows = directory.live_rows("news", later.get("tag", "a"))
    load_all(lite_client, ["news"])
    assert stored(lite_client, "news")["a"] == dict(rows if policy == "keep_last" else reversed(rows))


def merged(path: Path, *, later: bool) -> Milvus1xDirectory:
    """300 ids on two rows each; later the first of them are in a segment that a merge made, behind the others."""
    directory = Milvus1xDirectory(path)
    news = directory.collection("news", dimension=DIMENSION)
    segments = {str(YOUNGER): random_vectors(300, seed=1), str(YOUNGER + 1): random_vectors(300, seed=2)}
    if later:
        segments[str(YOUNGER + 2)] = segments.pop(str(YOUNGER))
    for name, vectors in segments.items():
        directory.segment(news, range(300), vectors, segment_id=name)
    directory.write()
    return directory


@pytest.mark.parametrize("policy", ["keep_first", "keep_last"])
def test_another_row_that_a_merge_made_the_one_to_keep_is_compared(
    lite_client: MilvusClient, tmp_path: Path, policy: str
) -> None:
    policies = RowPolicies(policy)
    Chain(merged(tmp_path / "before", later=False).path, lite_client, policies=policies).run()
    later = merged(tmp_path / "later", later=True)
    report = Chain(later.path, lite_client, policies=policies).run(mode="sync", verify="counts")["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    rows = later.live_rows("news")
    load_all(lite_client, ["news"])
    assert stored(lite_client, "news")["_default"] == dict(rows if policy == "keep_last" else rows[::-1])


LOWEST = -(2**63)


def test_named_partitions_and_the_lowest_id_are_synced(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "IDS_A_QUERY", 2)
    monkeypatch.setattr(queries, "LITE_IDS_A_QUERY", 2)
    there = {"_default": random_rows([70, 71], 3), "a": random_rows([LOWEST, 1, 2, 3, 4, 5], 4)}
    make_collection(client, "news", there)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [8], "a": [-5, 2, 5]}})
    report = Chain(directory.path, client).run({"news": ["a"]}, "sync", verify="full")["news"]
    assert (report.status, numbers(report)) == (VERIFIED, (3, 3))
    load_all(client, ["news"])
    assert stored(client, "news") == {"_default": there["_default"], "a": directory.live("news", "a")}


def test_an_id_may_be_in_several_partitions_on_a_server(server_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(server_client, "news", dict.fromkeys(["_default", "a"], random_rows(range(10), 3)))
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [3], "a": [4, 11]}})
    assert Chain(directory.path, server_client).run(mode="sync", verify="full")["news"].status == VERIFIED
    check_stored(server_client, directory)


def test_milvus_lite_refuses_to_delete_what_is_in_another_partition(lite_client: MilvusClient, tmp_path: Path) -> None:
    there = {"_default": random_rows(range(5), 3), "a": random_rows([2, 3], 4)}
    make_collection(lite_client, "news", there, loaded=True)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1], "a": [3]}})
    report = Chain(directory.path, lite_client).run(mode="sync")["news"]
    assert report.status == FAILED
    [fault] = report.faults
    assert "1 rows that sync would delete are in another partition, too" in fault
    assert "partition '_default'" in fault
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
    assert "keys made from positions (duplicate_ids: remap)" in fault


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
        found: CreatedCollection | None = create(client, chain.plan(name)[0], "sync", moment, max_deletions=1)
        killed += found is None
        assert chain.run(name, "sync", verify="full")[name].status == VERIFIED
        assert stored(client, name) == {tag: directory.live(name, tag) for tag in ("_default", "b")}
    assert 4 <= killed < len(names)


def test_a_copy_that_lacks_most_rows_deletes_nothing(client: MilvusClient, tmp_path: Path) -> None:
    whole = write_directory(tmp_path / "whole", {"news": {"_default": range(1000), "a": range(5000, 5100)}})
    assert Chain(whole.path, client).run()["news"].status == VERIFIED
    before = marker(client, "news")
    lacking = write_directory(tmp_path / "bad", {"news": {"_default": range(50), "a": range(5000, 5050)}})
    bad = Chain(lacking.path, client)
    reports = [bad.run(mode="sync", max_deletions=0.1, plan_only=dry)["news"] for dry in (True, False)]
    for report in reports:
        assert report.status == FAILED
        [fault] = report.faults
        assert "1000 of the 1100 rows of collection 'news'" in fault
        assert "at most 110 (max_deletions: 0.1)" in fault
        assert "'_default': 950 of 1000, 'a': 50 of 100" in fault
        assert "meta.sqlite-wal" in fault
    assert marker(client, "news") == before
    check_stored(client, whole)
    [note] = [note for note in bad.run(mode="sync", max_deletions=1, plan_only=True)["news"].notes if "deleted" in note]
    assert note.endswith("1000 deleted, 0 to repair")
    assert bad.run(mode="sync", max_deletions=0.95)["news"].status == VERIFIED


def test_the_share_is_of_the_partitions_asked_for(lite_client: MilvusClient, tmp_path: Path) -> None:
    there = {"_default": random_rows(range(1000), 3), "a": random_rows(range(5000, 5020), 4)}
    make_collection(lite_client, "news", there)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1], "a": range(5000, 5017)}})
    [fault] = Chain(directory.path, lite_client).run({"news": ["a"]}, "sync", max_deletions=0.1)["news"].faults
    assert "3 of the 20 rows of collection 'news'" in fault


@pytest.mark.parametrize(("share", "left", "goes"), [(0.1, 2, True), (0.1, 1, False), (0, 2, False), (1, 0, True)])
def test_of_a_tiny_collection_one_row_may_go_and_never_the_last(
    lite_client: MilvusClient, tmp_path: Path, share: float, left: int, goes: bool
) -> None:
    directories = [write_directory(tmp_path / str(rows), {"news": {"_default": range(rows)}}) for rows in (3, left)]
    whole, later = (Chain(directory.path, lite_client) for directory in directories)
    assert whole.run()["news"].status == VERIFIED
    report = later.run(mode="sync", max_deletions=share)["news"]
    assert (report.status == VERIFIED) == goes


def test_the_only_row_is_not_deleted_without_being_asked(lite_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(lite_client, "news", {"_default": random_rows([1], 3)})
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [2]}})
    [fault] = Chain(directory.path, lite_client).run(mode="sync", max_deletions=0.9)["news"].faults
    assert "1 of the 1 rows of collection 'news'" in fault


def test_the_share_is_of_all_partition_keys_asked_for(client: MilvusClient, tmp_path: Path) -> None:
    partitions = {"_default": range(100), "a": range(500, 600)}
    chain = Chain(write_directory(tmp_path / "whole", {"news": partitions}).path, client, partitions="partition_key")
    assert chain.run()["news"].status == VERIFIED
    bad = write_directory(tmp_path / "bad", {"news": partitions | {"a": range(500, 579)}})
    chain = Chain(bad.path, client, partitions="partition_key")
    [fault] = chain.run(mode="sync", max_deletions=0.1)["news"].faults
    assert "21 of the 200 rows of collection 'news'" in fault
    assert chain.run(mode="sync", max_deletions=0.11)["news"].status == VERIFIED


def test_a_dry_run_says_where_it_could_not_look(server_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(server_client, "news", {"_default": random_rows(range(10), 3)})
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [1]}})
    report = Chain(directory.path, server_client).run(mode="sync", max_deletions=0.1, plan_only=True)["news"]
    assert report.status == PLANNED
    assert any("is not loaded" in note and "max_deletions: 0.1" in note for note in report.notes)
    assert not server_client.list_indexes("news")


def test_ids_that_others_stored_twice_are_stored_once(server_client: MilvusClient, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(20), "a": range(50, 60)}})
    assert Chain(directory.path, server_client).run()["news"].status == VERIFIED
    insert(server_client, "news", "_default", random_rows([3, 4], 9))
    dry, report = (
        Chain(directory.path, server_client).run(mode="sync", verify="counts", plan_only=dry)["news"]
        for dry in (True, False)
    )
    assert report.status == VERIFIED
    for notes in (dry.notes, report.notes):
        assert "ids were on several rows, so all were loaded again: '_default' (22 rows, 20 ids)" in notes
    check_stored(server_client, directory)


def test_rows_under_keys_that_are_not_synced_are_not_displaced(client: MilvusClient, tmp_path: Path) -> None:
    chains = []
    for name, ids in [("first", [100]), ("later", [100, 7777])]:
        directory = write_directory(tmp_path / name, {"news": {"_default": range(10), "a": ids}})
        chains.append(Chain(directory.path, client, partitions="partition_key"))
    assert chains[0].run()["news"].status == VERIFIED
    client.insert("news", [{"id": 7777, "embedding": [0.5] * DIMENSION, "partition_tag": "of others"}])
    [fault] = chains[1].run(mode="sync")["news"].faults
    assert "holds under partition keys that are not synced" in fault
    assert "found ids 7777" in fault
    [row] = client.query("news", filter="id == 7777", output_fields=["partition_tag"], consistency_level="Strong")
    assert row["partition_tag"] == "of others"


def test_rows_of_others_that_share_their_id_with_a_synced_row_are_not_displaced(
    server_client: MilvusClient, tmp_path: Path
) -> None:
    """Of an id under two keys a server returns one row only: here the one that is synced."""
    chains = []
    for name, ids in [("first", []), ("later", [100])]:
        directory = write_directory(tmp_path / name, {"news": {"_default": range(10), "a": ids}})
        chains.append(Chain(directory.path, server_client, partitions="partition_key"))
    assert chains[0].run()["news"].status == VERIFIED
    row = {"id": 100, "embedding": [0.5] * DIMENSION}
    server_client.insert("news", [row | {"partition_tag": "of others"}])
    server_client.flush("news")
    server_client.insert("news", [row | {"partition_tag": "a"}])
    [fault] = chains[1].run(mode="sync")["news"].faults
    assert "holds under partition keys that are not synced" in fault
    other = server_client.query("news", filter='partition_tag == "of others"', consistency_level="Strong")
    assert [row["id"] for row in other] == [100]


@pytest.mark.parametrize("moment", ["find", "delete_extra"])
def test_a_run_that_slept_deletes_nothing_that_another_has_loaded(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole = write_directory(tmp_path / "whole", {"news": {"_default": range(20), "a": []}})
    lacking = write_directory(tmp_path / "lacking", {"news": {"_default": range(19), "a": []}})
    other, slept = Chain(whole.path, client), Chain(lacking.path, client)
    assert other.run()["news"].status == VERIFIED
    step = getattr(Changes, moment)

    def sleep(changes: Changes, *arguments: str) -> None:
        if moment == "find":
            step(changes, *arguments)
        monkeypatch.undo()
        assert other.run(mode="sync")["news"].status == VERIFIED
        if moment != "find":
            step(changes, *arguments)

    monkeypatch.setattr(Changes, moment, sleep)
    [fault] = slept.run(mode="sync")["news"].faults
    assert "another run or program has changed collection 'news'" in fault.lower()
    check_stored(client, whole)


def test_a_row_that_is_exchanged_during_a_sync_is_found(client: MilvusClient, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(20_000)}})
    chain = Chain(directory.path, client)
    assert chain.run()["news"].status == VERIFIED

    def exchange() -> None:
        client.delete("news", filter="id in [12345]", partition_name="_default")
        insert(client, "news", "_default", random_rows([10**6], 9))

    report = chain.run(mode="sync", before_verify=exchange)["news"]
    assert report.status == FAILED
    assert "partition '_default': 1 rows are in the target and not in the source: ids 1000000" in report.faults


def test_the_report_says_that_repaired_rows_lose_values_of_other_fields(client: MilvusClient, tmp_path: Path) -> None:
    rows = random_rows(range(10), 1)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(10)}}, seed=0)
    assert directory.live("news", "_default") == rows
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=DIMENSION)
    client.create_collection("news", schema=schema)
    changed = rows | random_rows([3], 2)
    vectors = {row_id: np.frombuffer(vector, "<f4") for row_id, vector in changed.items()}
    client.insert("news", [{"id": row_id, "embedding": vector, "title": "t"} for row_id, vector in vectors.items()])
    chain, lost = Chain(directory.path, client), "the rows to repair lose what they have in fields beside the vector"
    load_all(client, ["news"])
    for plan_only in (True, False):
        report = chain.run(mode="sync", plan_only=plan_only)["news"]
        assert f"{lost}: the dynamic field" in report.notes
    titles = client.query("news", filter="", output_fields=["title"], limit=20, consistency_level="Strong")
    lost_ids = {row["id"] for row in titles if row.get("title") != "t"}
    assert lost_ids == {3} or is_lite(client)  # Milvus Lite keeps them when a row is upserted
    assert not any(lost in note for note in chain.run(mode="sync")["news"].notes)
