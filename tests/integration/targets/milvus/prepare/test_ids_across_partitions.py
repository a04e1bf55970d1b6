"""One id in two partitions: a query or search over the whole collection returns one of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.report import FAILED, VERIFIED, CollectionReport
from tests.support.chain import Chain, GroupsChain
from tests.support.collections_2x import insert, make_collection, stored
from tests.support.directories import DIMENSION, random_rows, random_vectors
from tests.support.hdf5_inputs import inspect as inspect_hdf5
from tests.support.hdf5_inputs import write_hdf5
from tests.support.milvus1x_directory import Milvus1xDirectory

SAME = random_rows(range(100), 1)
"""The vector of each id, where it is the same in all partitions."""
OTHERS = random_rows(range(100), 2)
REFUSED = "on rows with different vectors"
THERE = {"_default": {}, "a": {row_id: SAME[row_id] for row_id in range(10)}, "b": {20: OTHERS[20]}}
"""What the target holds at first."""


def write(path: Path, partitions: Mapping[str, Mapping[int, bytes]]) -> Milvus1xDirectory:
    directory = Milvus1xDirectory(path / "milvus")
    news = directory.collection("news", dimension=DIMENSION)
    for tag, rows in partitions.items():
        table = news if tag == "_default" else directory.partition(news, tag)
        vectors = np.frombuffer(b"".join(rows.values()), np.float32).reshape(-1, DIMENSION)
        directory.segment(table, list(rows), vectors)
    directory.write()
    return directory


def chosen(rows: Mapping[int, bytes], ids: Any) -> dict[int, bytes]:
    return {row_id: rows[row_id] for row_id in ids}


def hits(client: MilvusClient, collection: str = "news") -> int:
    """Number of rows that a query over the whole collection returns."""
    return len(client.query(collection, filter="id >= 0", output_fields=["id"], consistency_level="Strong"))


def test_different_rows_of_one_id_are_refused_before_the_target_is_touched(
    client: MilvusClient, tmp_path: Path
) -> None:
    rows = {"_default": chosen(SAME, range(50)), "b": chosen(OTHERS, range(30, 80)), "c": chosen(OTHERS, [90])}
    chain = Chain(write(tmp_path, rows).path, client)
    for dry_run in (True, False):
        report = chain.run(plan_only=dry_run)["news"]
        assert report.status == FAILED
        [fault] = report.faults
        assert fault.startswith(f"20 ids or more are in several partitions of collection 'news', {REFUSED}: id 30 in")
        assert "partitions '_default', 'b' of the source" in fault
        assert "duplicate_ids: remap" in fault
        assert "id_scope: partition" in fault
    assert client.list_collections() == []


@pytest.mark.parametrize("policy", ["keep_first", "keep_last"])
def test_rows_of_two_partitions_are_never_one_row(client: MilvusClient, tmp_path: Path, policy: str) -> None:
    rows = {"_default": chosen(SAME, range(5)), "b": chosen(OTHERS, range(5))}
    report = Chain(write(tmp_path, rows).path, client, policies=RowPolicies(policy)).run()["news"]
    assert REFUSED in report.faults[0]


def test_equal_rows_of_one_id_are_loaded_and_told(client: MilvusClient, tmp_path: Path) -> None:
    rows = {"_default": chosen(SAME, range(50)), "b": chosen(SAME, range(30, 80))}
    report = Chain(write(tmp_path, rows).path, client).run(verify="full")["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    assert "20 ids are in several partitions of the source, with the same vectors" in "\n".join(report.notes)
    assert stored(client, "news") == rows
    assert hits(client) == 80


def test_an_application_that_names_its_partition_gets_every_row(client: MilvusClient, tmp_path: Path) -> None:
    rows = {"_default": chosen(SAME, range(50)), "b": chosen(OTHERS, range(50))}
    chain = Chain(write(tmp_path, rows).path, client, unit_bytes=10 * 4 * DIMENSION, id_scope="partition")
    plans = chain.plan()
    created, _ = chain.create(plans)
    chain.load(plans, created)
    chain.stores.clear()  # all is upserted
    report = chain.run(verify="full")["news"]
    assert (report.status, report.action, report.faults) == (VERIFIED, "resumed", ())
    assert stored(client, "news") == rows
    assert hits(client) == 50, "this is what it's refused for by default"


def test_every_row_is_returned_under_a_key_of_its_own(client: MilvusClient, tmp_path: Path) -> None:
    rows = {"_default": chosen(SAME, range(50)), "b": chosen(OTHERS, range(50))}
    report = Chain(write(tmp_path, rows).path, client, policies=RowPolicies("remap")).run()["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    assert hits(client) == 100


@pytest.fixture
def there(client: MilvusClient) -> MilvusClient:
    make_collection(client, "news", THERE, metric="L2")
    return client


Load = Callable[[MilvusClient, Path, Mapping[int, bytes]], CollectionReport]


def load(mode: str, tag: str, *others: str) -> Load:
    """Load rows into a partition, and one more row into each of the others."""

    def run(client: MilvusClient, path: Path, rows: Mapping[int, bytes]) -> CollectionReport:
        partitions = {tag: rows} | {other: {60: SAME[60]} for other in others}
        return Chain(write(path, partitions).path, client).run({"news": list(partitions)}, mode)["news"]

    return run


WAYS = {
    "append to a partition that is there": load("append", "b"),
    "append to a new one": load("append", "c"),
    "append to one of two": load("append", "_default", "c"),
    "a partition that is added": load("skip", "c"),
    "a partition that is overwritten": load("overwrite", "b"),
    "sync of a partition": load("sync", "b"),
    "sync of a new partition": load("sync", "c"),
}


def rows_there(client: MilvusClient) -> dict[str, dict[int, bytes]]:
    client.load_collection("news")
    return stored(client, "news")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_rows_in_other_partitions_of_the_target_are_compared(there: MilvusClient, tmp_path: Path, way: Load) -> None:
    """A row that differs is refused; equal rows are loaded and noted."""
    report = way(there, tmp_path / "different", {3: OTHERS[3], 4: SAME[4], 50: OTHERS[50]})
    [fault] = report.faults
    assert fault.startswith(f"1 ids or more are in several partitions of collection 'news', {REFUSED}: id 3 in")
    assert "and 'a' of the target" in fault
    assert rows_there(there) == THERE
    report = way(there, tmp_path / "equal", {4: SAME[4], 50: OTHERS[50]})
    assert (report.status, report.faults) == (VERIFIED, ())
    assert "1 ids to load are in other partitions of the target, with the same vectors" in "\n".join(report.notes)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_rows_that_are_replaced_are_in_nobodys_way(there: MilvusClient, tmp_path: Path, way: Load) -> None:
    """The rows of a partition that is overwritten, or synced; all others have other ids."""
    row_id = 20 if way in (WAYS["a partition that is overwritten"], WAYS["sync of a partition"]) else 51
    report = way(there, tmp_path, {row_id: OTHERS[row_id]})
    assert (report.status, report.faults) == (VERIFIED, ())
    assert "several partitions" not in "\n".join(report.notes)


def test_one_of_several_rows_that_are_there_differs(there: MilvusClient, tmp_path: Path) -> None:
    """A query over both partitions returns one of the two rows, perhaps the equal one."""
    for number, rows in enumerate((SAME, OTHERS, SAME)):
        there.create_partition("news", f"p{number}")
        insert(there, "news", f"p{number}", {70: rows[70]})
    report = WAYS["a partition that is added"](there, tmp_path, {70: SAME[70]})
    assert REFUSED in report.faults[0]


def test_row_numbers_of_a_second_file_into_another_partition(client: MilvusClient, tmp_path: Path) -> None:
    vectors = random_vectors(100, 5)
    paths = [write_hdf5(tmp_path / f"{n}.h5", {"embeddings": part}) for n, part in enumerate(np.split(vectors, 2))]

    def migrate(number: int, **options: Any) -> CollectionReport:
        group = replace(inspect_hdf5(paths[number], partition=f"p{number}", **options), whole=False)
        return GroupsChain([group], client).run(mode="append")["news"]

    assert migrate(0).status == VERIFIED
    [fault] = migrate(1).faults
    assert f"50 ids or more are in several partitions of collection 'news', {REFUSED}" in fault
    assert "Choose an id_offset above the ids in use" in fault
    assert migrate(1, id_offset=50).status == VERIFIED
    assert hits(client) == 100


def test_a_synced_collection_with_a_partition_key_has_an_id_once(client: MilvusClient, tmp_path: Path) -> None:
    rows = {"a": chosen(SAME, range(5)), "b": chosen(SAME, range(5, 10))}
    assert Chain(write(tmp_path / "1", rows).path, client, partitions="partition_key").run()["news"].status == VERIFIED
    later = {"b": chosen(SAME, [3, 5, 6])}
    report = Chain(write(tmp_path / "2", later).path, client, partitions="partition_key").run({"news": ["b"]}, "sync")
    assert "1 rows to write have ids" in report["news"].faults[0]
    assert hits(client) == 10
