"""What each mode does where a user has created the collection, some partitions, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.archive.record import verified_rows
from airflow_provider_milvusdm.exceptions import LateError
from airflow_provider_milvusdm.report import FAILED, SKIPPED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus.fence import REQUEST_SECONDS, Fence
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot
from tests.support.chain import Chain
from tests.support.collections_2x import make_collection, stored, stored_in_all
from tests.support.directories import random_rows, write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory

THERE = {"_default": random_rows(range(30), 1), "a": random_rows(range(100, 130), 2), "b": random_rows([], 3)}
"""What the target holds at first."""
NEIGHBOUR = {"_default": random_rows(range(5), 4)}
"""Another collection of the target, which must stay as it is."""


@dataclass
class Existing:
    """A target that holds `THERE` as collection `news`, and a source of the same name to load into it."""

    client: MilvusClient
    path: Path
    loaded: bool = False

    def __post_init__(self) -> None:
        make_collection(self.client, "news", THERE, metric="L2", loaded=self.loaded)
        make_collection(self.client, "neighbour", NEIGHBOUR)

    def source(self, partitions: Mapping[str, Sequence[int]]) -> Milvus1xDirectory:
        return write_directory(self.path / "milvus", {"news": partitions}, seed=9)

    def migrate(self, directory: Milvus1xDirectory, selection: Any, mode: str) -> CollectionReport:
        return Chain(directory.path, self.client, id_scope="partition").run(selection, mode)["news"]

    def stored(self) -> dict[str, dict[int, bytes]]:
        self.client.load_collection("news")
        return stored(self.client, "news")

    def stored_with_neighbour(self) -> dict[str, dict[str, dict[int, bytes]]]:
        return stored_in_all(self.client, ["news", "neighbour"])


@pytest.fixture
def existing(client: MilvusClient, tmp_path: Path) -> Existing:
    """With an index, but not loaded."""
    return Existing(client, tmp_path)


@pytest.fixture
def existing_loaded(client: MilvusClient, tmp_path: Path) -> Existing:
    return Existing(client, tmp_path, loaded=True)


def numbers(report: CollectionReport) -> dict[str, tuple[int, int, int, int | None]]:
    """Live, loaded, former and counted rows by target partition."""
    return {part.target: (part.live, part.loaded, part.before, part.counted) for part in report.partitions}


@pytest.mark.parametrize("mode", ["skip", "append", "overwrite"])
def test_a_collection_that_is_not_there_is_created_in_every_mode(
    client: MilvusClient, tmp_path: Path, mode: str
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(3), "a": [7]}})
    chain = Chain(directory.path, client)
    plans = chain.plan()
    [created], faults = chain.create(plans, mode)
    assert (created.action, created.before, created.upsert, faults) == ("created", {"_default": 0, "a": 0}, False, {})
    [load] = chain.load(plans, [created])
    assert load.rows == {"_default": 3, "a": 1}


@pytest.mark.parametrize("selection", ["news", {"news": ["_default", "a"]}])
def test_skip_leaves_what_exists_and_says_how_it_compares(existing_loaded: Existing, selection: Any) -> None:
    directory = existing_loaded.source({"_default": range(1000, 1030), "a": range(2000, 2007)})
    report = existing_loaded.migrate(directory, selection, "skip")
    assert (report.status, report.action) == (SKIPPED, "skipped")
    assert numbers(report) == {"_default": (30, 0, 0, 30), "a": (7, 0, 0, 30)}
    assert report.notes == ("exists: skipped, though the counts of a differ",)
    assert existing_loaded.stored() == THERE


def test_skip_says_that_what_is_not_loaded_could_not_be_counted(server_client: MilvusClient, tmp_path: Path) -> None:
    existing = Existing(server_client, tmp_path)
    report = existing.migrate(existing.source({"_default": [1]}), "news", "skip")
    assert (report.status, numbers(report)) == (SKIPPED, {"_default": (1, 0, 0, None)})
    assert "exists: skipped, and not loaded, so it could not be counted" in report.notes


def test_skip_counts_the_partitions_that_are_loaded(server_client: MilvusClient, tmp_path: Path) -> None:
    existing = Existing(server_client, tmp_path, loaded=True)
    server_client.release_partitions("news", ["a"])
    report = existing.migrate(existing.source({"_default": [1], "a": [1]}), "news", "skip")
    assert (report.status, numbers(report)) == (SKIPPED, {"_default": (1, 0, 0, 30), "a": (1, 0, 0, None)})


def test_skip_adds_the_named_partitions_that_are_missing_alone(existing: Existing) -> None:
    directory = existing.source({"_default": [1], "a": [2], "c": range(5)})
    report = existing.migrate(directory, {"news": ["a", "c"]}, "skip")
    assert (report.status, report.action) == (VERIFIED, "added")
    assert numbers(report) == {"a": (1, 0, 0, 30), "c": (5, 5, 0, 5)}
    assert "partitions that exist already were skipped: a" in report.notes
    assert [part.partition for part in report.partitions if part.left_alone] == ["a"]
    assert verified_rows(report) == 5
    assert existing.stored() == THERE | {"c": directory.live("news", "c")}


def test_append_adds_other_ids_to_every_partition(existing_loaded: Existing) -> None:
    directory = existing_loaded.source({"_default": range(30, 50), "a": [*range(130, 140), 0], "c": [5]})
    report = existing_loaded.migrate(directory, "news", "append")
    assert (report.status, report.action) == (VERIFIED, "appended")
    assert numbers(report) == {"_default": (20, 20, 30, 50), "a": (11, 11, 30, 41), "c": (1, 1, 0, 1)}
    assert existing_loaded.stored() == {
        "_default": THERE["_default"] | directory.live("news"),
        "a": THERE["a"] | directory.live("news", "a"),
        "b": {},
        "c": directory.live("news", "c"),
    }


def test_append_adds_to_the_named_partitions_alone(existing: Existing) -> None:
    directory = existing.source({"_default": [1], "a": [1], "b": [1, 2]})
    report = existing.migrate(directory, {"news": ["a", "b"]}, "append")
    assert (report.status, report.action) == (VERIFIED, "appended")
    assert numbers(report) == {"a": (1, 1, 30, 31), "b": (2, 2, 0, 2)}
    assert existing.stored() == THERE | {
        "a": THERE["a"] | directory.live("news", "a"),
        "b": directory.live("news", "b"),
    }


def test_append_of_an_id_that_is_there_is_refused_before_anything_is_written(existing: Existing) -> None:
    directory = existing.source({"_default": range(40, 50), "a": [*range(200, 300), 129, 100], "c": [1]})
    before = existing.client.get_load_state("news")
    report = existing.migrate(directory, "news", "append")
    [fault] = report.faults
    assert report.status == FAILED
    assert "to append are in the target already" in fault
    assert "collection 'news', partition 'a'" in fault
    assert "found ids 100, 129." in fault
    assert "Use mode overwrite, or rename" in fault
    assert existing.client.describe_collection("news")["properties"] == {}
    assert existing.client.get_load_state("news") == before
    assert existing.stored() == THERE


def test_a_refused_append_leaves_no_index_behind(client: MilvusClient, tmp_path: Path) -> None:
    make_collection(client, "news", THERE)
    before = client.get_load_state("news")
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [3]}})
    assert (
        "are in the target already"
        in Chain(directory.path, client, id_scope="partition").run("news", "append")["news"].faults[0]
    )
    assert (client.list_indexes("news"), client.get_load_state("news")) == ([], before)
    assert stored_in_all(client, ["news"]) == {"news": THERE}


def test_overwrite_drops_the_collection_and_all_that_is_in_it(existing: Existing) -> None:
    directory = existing.source({"_default": range(10, 15), "c": [1]})
    report = existing.migrate(directory, "news", "overwrite")
    assert (report.status, report.action) == (VERIFIED, "overwritten")
    assert numbers(report) == {"_default": (5, 5, 0, 5), "c": (1, 1, 0, 1)}
    assert existing.stored_with_neighbour() == {
        "news": {tag: directory.live("news", tag) for tag in ("_default", "c")},
        "neighbour": NEIGHBOUR,
    }


def test_overwrite_drops_the_rows_of_the_named_partitions_alone(existing_loaded: Existing) -> None:
    directory = existing_loaded.source({"_default": [1], "a": range(110, 160), "c": [5]})
    report = existing_loaded.migrate(directory, {"news": ["a", "c"]}, "overwrite")
    assert (report.status, report.action) == (VERIFIED, "overwritten")
    assert numbers(report) == {"a": (50, 50, 0, 50), "c": (1, 1, 0, 1)}
    assert existing_loaded.stored_with_neighbour() == {
        "news": THERE | {tag: directory.live("news", tag) for tag in ("a", "c")},
        "neighbour": NEIGHBOUR,
    }


def test_overwrite_of_partitions_needs_no_loaded_collection(existing: Existing) -> None:
    directory = existing.source({"a": [1, 100]})
    report = existing.migrate(directory, {"news": ["a"]}, "overwrite")
    assert (report.status, report.action) == (VERIFIED, "overwritten")
    assert existing.stored() == THERE | {"a": directory.live("news", "a")}


def test_overwrite_of_the_default_partition_alone_empties_it_on_a_server(
    server_client: MilvusClient, tmp_path: Path
) -> None:
    lowest, many = -(2**63), random_rows([-(2**63), *range(20_000)], 5)
    make_collection(server_client, "news", {"_default": many, "a": random_rows([lowest, 1, 2], 6)})
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": [lowest, 3], "a": [9]}})
    report = Chain(directory.path, server_client, id_scope="partition").run({"news": ["_default"]}, "overwrite")["news"]
    assert (report.status, report.action) == (VERIFIED, "overwritten")
    assert numbers(report) == {"_default": (2, 2, 0, 2)}
    assert stored(server_client, "news") == {
        "_default": directory.live("news"),
        "a": random_rows([lowest, 1, 2], 6),
    }


@pytest.mark.parametrize("partitions", ["keep", "partition_key"])
def test_an_overwrite_that_slept_empties_nothing_that_another_run_loaded(
    server_client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: str
) -> None:
    first = write_directory(tmp_path / "first", {"news": {"_default": range(50), "a": range(100, 110)}})
    assert Chain(first.path, server_client, partitions=partitions).run()["news"].status == VERIFIED
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(20, 40)}}, seed=9)
    chain, selection, asleep = Chain(directory.path, server_client, partitions=partitions), {"news": ["_default"]}, [1]

    def sleep(fence: Fence) -> float:
        fence.look()
        if asleep:
            asleep.clear()
            assert chain.run(selection, "overwrite")["news"].status == VERIFIED
            return seconds_since_boot() - 1
        return seconds_since_boot() + REQUEST_SECONDS

    monkeypatch.setattr(Fence, "check", sleep)
    with pytest.raises(LateError):
        chain.create(chain.plan(selection), "overwrite")
    found = server_client.query("news", "id < 100", output_fields=["id"], consistency_level="Strong")
    assert sorted(row["id"] for row in found) == list(range(20, 40))


def test_overwrite_of_the_default_partition_alone_is_refused_by_milvus_lite(
    lite_client: MilvusClient, tmp_path: Path
) -> None:
    existing = Existing(lite_client, tmp_path)
    directory = existing.source({"_default": [1], "a": [2]})
    report = existing.migrate(directory, {"news": ["a", "_default"]}, "overwrite")
    [fault] = report.faults
    assert "of collection 'news' can't be emptied alone" in fault
    assert "Overwrite the whole collection, or use a Milvus 2.x server." in fault
    assert existing.stored() == THERE


@pytest.mark.parametrize(("mode", "action"), [("skip", "skipped"), ("append", "kept"), ("overwrite", "overwritten")])
def test_a_second_run_finds_what_the_first_one_finished(
    lite_client: MilvusClient, tmp_path: Path, mode: str, action: str
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(20), "a": range(20)}})
    assert Chain(directory.path, lite_client, id_scope="partition").run()["news"].status == VERIFIED
    report = Chain(directory.path, lite_client, id_scope="partition").run("news", mode)["news"]
    assert (report.action, report.faults) == (action, ())
    assert stored(lite_client, "news") == {tag: directory.live("news", tag) for tag in ("_default", "a")}


def test_an_append_that_is_run_again_is_verified_and_kept(existing: Existing) -> None:
    directory = existing.source({"_default": [500], "a": [501]})
    assert existing.migrate(directory, "news", "append").action == "appended"
    there = existing.stored()
    report = existing.migrate(directory, "news", "append")
    assert (report.status, report.action) == (VERIFIED, "kept")
    assert numbers(report)["a"] == (1, 0, 30, 31)
    assert existing.stored() == there
    existing.client.delete("news", ids=[501], partition_name="a")
    report = existing.migrate(directory, "news", "append")
    assert report.status == FAILED
    assert "expected 30 rows from before and 1 loaded, counted 30" in report.faults[0]


@pytest.mark.parametrize(("mode", "tags"), [("append", None), ("append", ["a"]), ("sync", None), ("overwrite", ["a"])])
def test_a_collection_of_which_some_partitions_are_loaded_is_read_as_a_whole(
    server_client: MilvusClient, tmp_path: Path, mode: str, tags: list[str] | None
) -> None:
    there = {"_default": random_rows(range(3), 1), "a": random_rows(range(10, 14), 2), "b": random_rows([20], 3)}
    make_collection(server_client, "news", there, metric="L2")
    server_client.load_partitions("news", ["b"])
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(30, 35), "a": range(40, 45)}})
    report = Chain(directory.path, server_client).run({"news": tags}, mode)["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    for tag in tags or ["_default", "a"]:
        there[tag] = (there[tag] if mode == "append" else {}) | directory.live("news", tag)
    assert stored(server_client, "news") == there


def test_a_refused_append_leaves_partitions_as_they_were(server_client: MilvusClient, tmp_path: Path) -> None:
    there = {"_default": {}, "a": random_rows(range(10, 14), 2)}
    make_collection(server_client, "news", there, metric="L2")
    server_client.load_partitions("news", ["_default"])
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(5), "a": [10]}})
    [fault] = Chain(directory.path, server_client).run(mode="append")["news"].faults
    assert "ds to append are in the target already" in fault
    states = {name: str(server_client.get_load_state("news", name)["state"]) for name in there}
    assert states == {"_default": "Loaded", "a": "NotLoad"}


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_an_append_does_not_take_what_a_skip_left_alone_for_its_rows(existing_loaded: Existing) -> None:
    """Of the same partitions: `skip` loads those that are missing, and leaves the others as they are."""
    directory = existing_loaded.source({"a": range(200, 210), "c": range(300, 310)})
    chain, selection = Chain(directory.path, existing_loaded.client), {"news": ["a", "c"]}
    plans = chain.plan(selection)
    created, _ = chain.create(plans, "skip")
    _, faults = chain.create(plans, "append")
    assert "half loaded by a run with mode skip" in faults["news"][0]
    assert "found partitions that it leaves as they are: a" in faults["news"][0]
    report = chain.verify(plans, created, chain.load(plans, created))["news"]
    assert (report.status, report.action) == (VERIFIED, "added")
    [fault] = existing_loaded.migrate(directory, selection, "append").faults
    assert "ds to append are in the target already" in fault
    assert existing_loaded.migrate(directory, {"news": ["a"]}, "append").status == VERIFIED
    assert existing_loaded.stored() == THERE | {
        "a": THERE["a"] | directory.live("news", "a"),
        "c": directory.live("news", "c"),
    }
