"""A new collection has a name of its own until it is verified: readers see all of its rows or none."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient, MilvusException

from airflow_provider_milvusdm.config.target_settings import TargetSettings
from airflow_provider_milvusdm.exceptions import LateError, TargetError, VerificationError
from airflow_provider_milvusdm.report import FAILED, SKIPPED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus.fence import new_deadline
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.marker import MAPPED_LENGTH
from airflow_provider_milvusdm.targets.milvus.prepare import publish
from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection
from airflow_provider_milvusdm.targets.milvus.prepare.lost import count_exactly
from airflow_provider_milvusdm.targets.milvus.prepare.publish import READERS_SECONDS
from airflow_provider_milvusdm.targets.milvus.runs import Run
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.milvus.verify import collection
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from airflow_provider_milvusdm.targets.milvus.verify.full import compare_all
from tests.support.chain import Chain
from tests.support.collections_2x import insert, is_lite, make_collection, marker, own_names, stored, stored_in_all
from tests.support.directories import random_rows, write_directory
from tests.support.killed import Checkpoints, Fuse, FusedClient, KilledError, Sleeping, wake
from tests.support.milvus_servers import milvus_server, running_milvus_server
from tests.support.processes import wait_until
from tests.support.targets import drop_all_collections, milvus_client

IDS = {"_default": range(20), "a": range(100, 110)}
OLD = {"_default": random_rows(range(50, 60), 7)}
"""What the target holds at first; it has aliases."""
ALIASES = ["readers", "searchers"]
COLLECTION_NOT_FOUND = 100
"""Milvus's error code."""


class Migration:
    """A source of collection `news`, and the steps of its migration."""

    def __init__(self, client: MilvusClient, path: Path, ids: Any = IDS, name: str = "news", **options: Any) -> None:
        self.client = client
        self.directory = write_directory(path, {name: ids})
        self.chain = Chain(self.directory.path, client, **options)
        [self.plan] = self.chain.plan()
        self.expected = {tag: self.directory.live(name, tag) for tag in ids}

    def load(self, mode: str = "overwrite", **options: Any) -> tuple[Any, Any]:
        """Create and load; returns what was created and loaded."""
        created, faults = self.chain.create([self.plan], mode, **options)
        assert faults == {}
        return created[0], self.chain.load([self.plan], created)

    def verify(self, created: Any, loaded: Any, client: Any = None) -> CollectionReport:
        return verify_collection(client or self.client, self.plan, created, loaded)

    def run(self, mode: str = "overwrite", **options: Any) -> CollectionReport:
        return self.verify(*self.load(mode, **options))


def moments(client: MilvusClient) -> range:
    """Moments to be killed at: all with Milvus Lite, a few with a server, which needs seconds for each."""
    return range(1, 40) if is_lite(client) else range(2, 40, 7)


def make_old(client: MilvusClient) -> None:
    make_collection(client, "news", OLD, loaded=True)
    for alias in ALIASES:
        client.create_alias("news", alias)


@pytest.fixture
def overwriting(client: MilvusClient, tmp_path: Path) -> Migration:
    """A migration into a target that exists, with aliases."""
    make_old(client)
    return Migration(client, tmp_path / "milvus")


def aliases(client: MilvusClient) -> dict[str, str]:
    return {alias: client.describe_collection(alias)["collection_name"] for alias in ALIASES}


def test_until_it_is_verified_nobody_finds_it_by_its_name(client: MilvusClient, tmp_path: Path) -> None:
    migration = Migration(client, tmp_path / "milvus")
    created, loaded = migration.load("skip")
    assert client.list_collections() == [created.own_name]
    assert migration.verify(created, loaded).status == VERIFIED
    assert client.list_collections() == ["news"]
    assert stored(client, "news") == migration.expected


def test_nothing_is_asked_that_the_target_answers_with_a_traceback_in_the_log(
    lite_client: MilvusClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Migration(lite_client, tmp_path / "milvus").run("skip").status == VERIFIED
    assert "Traceback" not in caplog.text


def test_an_overwritten_collection_is_there_until_the_new_one_is_verified(overwriting: Migration) -> None:
    created, loaded = overwriting.load()
    assert stored(overwriting.client, "news") == OLD
    report = overwriting.verify(created, loaded)
    assert (report.status, report.action) == (VERIFIED, "overwritten")
    assert overwriting.client.list_collections() == ["news"]
    assert stored(overwriting.client, "news") == overwriting.expected
    assert aliases(overwriting.client) == dict.fromkeys(ALIASES, "news")


def write_to_the_old_one(client: MilvusClient) -> None:
    """What an application does that still uses the collection while the new one is loaded."""
    insert(client, "news", "_default", random_rows(range(9000, 9001), 7))


def test_what_is_written_to_the_old_collection_meanwhile_is_lost_and_reported(overwriting: Migration) -> None:
    created, loaded = overwriting.load()
    write_to_the_old_one(overwriting.client)
    report = overwriting.verify(created, loaded)
    rows = sum(map(len, OLD.values()))
    assert report.status == VERIFIED
    assert f"had {rows} rows when the new one was created, and {rows + 1} when it was replaced" in report.notes[-1]


def test_an_approved_overwrite_does_not_replace_what_was_written_to_afterwards(overwriting: Migration) -> None:
    created, loaded = overwriting.load(is_approved=True)
    write_to_the_old_one(overwriting.client)
    rows = sum(map(len, OLD.values()))
    with pytest.raises(VerificationError, match=rf"Expected {rows} rows, whose loss was approved, found {rows + 1};"):
        overwriting.verify(created, loaded)
    assert sum(map(len, stored(overwriting.client, "news").values())) == rows + 1
    assert aliases(overwriting.client) == dict.fromkeys(ALIASES, "news")


def test_a_failed_overwrite_costs_nothing(overwriting: Migration) -> None:
    created, loaded = overwriting.load()
    overwriting.client.delete(created.own_name, ids=[3], partition_name="_default")
    report = overwriting.verify(created, loaded)
    assert report.status == FAILED
    assert f"left as {created.own_name}" in report.notes[-1]
    assert stored(overwriting.client, "news") == OLD
    assert aliases(overwriting.client) == dict.fromkeys(ALIASES, "news")


@pytest.mark.parametrize("mode", ["overwrite", "skip"])
def test_publishing_that_is_killed_at_any_moment_is_finished_or_undone_by_the_next_run(
    client: MilvusClient, tmp_path: Path, mode: str
) -> None:
    """Readers find all of the old rows or all of the new ones at any time."""
    killed = 0
    for moment in moments(client):
        make_old(client)
        migration = Migration(client, tmp_path / f"milvus-{moment}")
        created, loaded = migration.load()
        fused: Any = FusedClient(client, Fuse(moment))
        try:
            migration.verify(created, loaded, fused)
        except KilledError:
            killed += 1
        else:
            break
        report = migration.chain.run(mode=mode)["news"]
        whole = [migration.expected] if mode == "overwrite" else [OLD, migration.expected]
        assert stored_in_all(client, ["news"])["news"] in whole
        assert report.status == (SKIPPED if mode == "skip" else VERIFIED), (moment, report)
        assert aliases(client) == dict.fromkeys(ALIASES, "news")
        assert own_names(client, "news") == [] or mode == "skip"
        for name in [*ALIASES, *client.list_collections()]:
            (client.drop_alias if name in ALIASES else client.drop_collection)(name)
    assert killed >= (10 if is_lite(client) else 2)


def test_verification_tried_again_after_a_kill_finishes_what_it_began(client: MilvusClient, tmp_path: Path) -> None:
    killed = 0
    for moment in moments(client):
        make_old(client)
        migration = Migration(client, tmp_path / f"milvus-{moment}")
        created, loaded = migration.load()
        fused: Any = FusedClient(client, Fuse(moment))
        try:
            migration.verify(created, loaded, fused)
        except KilledError:
            killed += 1
        else:
            break
        assert migration.verify(created, loaded).status == VERIFIED
        assert client.list_collections() == ["news"]
        assert stored_in_all(client, ["news"]) == {"news": migration.expected}
        assert aliases(client) == dict.fromkeys(ALIASES, "news")
        for alias in ALIASES:
            client.drop_alias(alias)
        client.drop_collection("news")
    assert killed >= (10 if is_lite(client) else 2)


@contextmanager
def reading(uri: str, name: str, *accepted: int) -> Iterator[list[frozenset[int]]]:
    """The ids that a reader of `name` finds while the block runs, each change once; `accepted`: error codes.

    The block begins after the first read.
    """
    seen: list[frozenset[int]] = []
    faults: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        with milvus_client(uri) as client:
            while not (stop.is_set() or faults):
                try:
                    rows = client.query(name, filter="id >= 0", output_fields=["id"], consistency_level="Strong")
                except MilvusException as error:
                    if error.code not in accepted:
                        faults.append(error)
                    continue
                ids = frozenset(row["id"] for row in rows)
                if seen[-1:] != [ids]:
                    seen.append(ids)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        wait_until(lambda: bool(seen or faults), 60, lambda: f"{name} is not read")
        yield seen
    finally:
        stop.set()
        thread.join()
    assert faults == []


def test_a_reader_sees_the_old_rows_and_then_the_new(
    server_client: MilvusClient, empty_milvus_server_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an alias at any time; by its name, a query may be refused between the two renames."""
    monkeypatch.setattr(publish, "READERS_SECONDS", READERS_SECONDS)
    make_old(server_client)
    migration = Migration(server_client, tmp_path / "milvus")
    with (
        reading(empty_milvus_server_uri, "readers") as by_alias,
        reading(empty_milvus_server_uri, "news", COLLECTION_NOT_FOUND) as by_name,
    ):
        old, new = frozenset(OLD["_default"]), frozenset().union(*migration.expected.values())
        assert migration.run().status == VERIFIED
        wait_until(lambda: new in by_alias and new in by_name, 60, lambda: f"{by_alias} and {by_name} are read")
    assert by_alias == by_name == [old, new]


@pytest.fixture
def tenant_client(server_client: MilvusClient, empty_milvus_server_uri: str) -> Iterator[MilvusClient]:
    """A client of a database other than the default one."""
    server_client.create_database("tenant")
    with milvus_client(empty_milvus_server_uri, db_name="tenant") as client:
        yield client
    drop_all_collections(empty_milvus_server_uri, db_name="tenant")
    server_client.drop_database("tenant")


@pytest.mark.parametrize("in_place", [False, True])
def test_in_a_database_beside_the_default_one_it_is_that_database_alone(
    tenant_client: MilvusClient, server_client: MilvusClient, tmp_path: Path, in_place: bool
) -> None:
    make_collection(server_client, "news", {"_default": random_rows([1], 1)}, loaded=True)
    server_client.create_alias("news", "elsewhere")
    before = stored(server_client, "news")
    make_old(tenant_client)
    migration = Migration(tenant_client, tmp_path / "milvus")
    assert migration.run(in_place=in_place).status == VERIFIED
    assert tenant_client.list_collections() == ["news"]
    assert stored(tenant_client, "news") == migration.expected
    assert aliases(tenant_client) == dict.fromkeys(ALIASES, "news")
    assert not tenant_client.has_collection("elsewhere")
    assert stored(server_client, "elsewhere") == before


def test_replicas_index_and_properties_go_along(server_client: MilvusClient, tmp_path: Path) -> None:
    settings = TargetSettings(mmap=True, index_type="HNSW", index_params={"M": 8, "efConstruction": 64})
    migration = Migration(server_client, tmp_path / "milvus", settings=settings)
    created, loaded = migration.load("skip")
    assert verify_collection(server_client, migration.plan, created, loaded, settings=settings.of("news")).faults == ()
    assert server_client.get_load_state("news")["state"].name == "Loaded"
    assert server_client.describe_index("news", "embedding")["index_type"] == "HNSW"
    assert server_client.describe_collection("news")["properties"]["mmap.enabled"] == "true"


def test_what_a_suspended_run_writes_is_refused_by_the_target_itself(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where it does not check the marker itself."""
    migration = Migration(client, tmp_path / "milvus")
    [created], _ = migration.chain.create([migration.plan], "skip")
    [unit, *_] = address_units([migration.plan], [created])
    slept = iter([True])

    def sleep(self: Any) -> float:
        if next(slept, False):
            assert migration.chain.run()["news"].action == "resumed"
        return new_deadline()

    monkeypatch.setattr("airflow_provider_milvusdm.targets.milvus.fence.Fence.check", sleep)
    with pytest.raises(MilvusException) as refused:
        load_unit(client, unit, Checkpoints())
    assert refused.value.code == 100
    assert stored_in_all(client, ["news"]) == {"news": migration.expected}


def test_an_append_that_slept_is_refused_by_the_marker(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection(client, "news", OLD, loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    [created], _ = migration.chain.create([migration.plan], "append")
    [unit, *_] = address_units([migration.plan], [created])
    store = Checkpoints()

    def sleep(key: str, value: Any) -> None:
        """As the first stride begins, another run loads everything; the clock continues."""
        monkeypatch.setattr(store, "set", lambda key, value: None)
        assert migration.chain.run(mode="append")["news"].action == "resumed"

    monkeypatch.setattr(store, "set", sleep)
    with pytest.raises(TargetError, match="is not the one that was made for this load"):
        load_unit(client, unit, store)
    assert stored_in_all(client, ["news"]) == {
        "news": {"a": {}}
        | OLD
        | {"_default": OLD["_default"] | migration.expected["_default"], "a": migration.expected["a"]}
    }


def test_a_collection_of_another_dimension_is_created_again(client: MilvusClient, tmp_path: Path) -> None:
    """What a run left half loaded is continued only where the same collection would be created."""
    migration = Migration(client, tmp_path / "milvus")
    migration.load("skip")
    migration.chain.settings = TargetSettings(dynamic_field=True)
    assert migration.chain.run()["news"].action == "created"
    assert client.list_collections() == ["news"]
    assert client.describe_collection("news")["enable_dynamic_field"]


def test_a_name_that_is_taken_meanwhile_is_reported_and_all_rows_stay(client: MilvusClient, tmp_path: Path) -> None:
    migration = Migration(client, tmp_path / "milvus")
    created, loaded = migration.load("skip")
    make_collection(client, "news", OLD, loaded=True)
    with pytest.raises(VerificationError, match="was made by something else while its rows were loaded") as error:
        migration.verify(created, loaded)
    assert created.own_name in str(error.value)
    assert stored(client, "news") == OLD
    client.drop_collection("news")
    assert migration.verify(created, loaded).status == VERIFIED
    assert stored_in_all(client, ["news"]) == {"news": migration.expected}


@pytest.mark.parametrize(
    ("target_uri", "name"),
    [("lite", "n" * 255), ("lite", "a"), ("lite", "news__milvusdm_0123456789abcdef"), ("server", "n" * 255)],
    indirect=["target_uri"],
    ids=lambda value: value[:40],
)
def test_names_of_any_length_have_room(client: MilvusClient, tmp_path: Path, name: str) -> None:
    make_collection(client, name, OLD, loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    [migration.plan] = migration.chain.plan(rename={"news": name})
    migration.load()
    assert migration.run().status == VERIFIED
    assert client.list_collections() == [name]
    assert stored(client, name) == migration.expected


def test_names_that_begin_alike_do_not_meddle(client: MilvusClient, tmp_path: Path) -> None:
    long, longer = "n" * 240, "n" * 250
    first, second = Migration(client, tmp_path / "first"), Migration(client, tmp_path / "second")
    [first.plan] = first.chain.plan(rename={"news": long})
    [second.plan] = second.chain.plan(rename={"news": longer})
    created, loaded = first.load("skip")
    assert second.run().status == VERIFIED
    assert first.verify(created, loaded).status == VERIFIED
    assert sorted(client.list_collections()) == [long, longer]


def test_overwriting_in_place_drops_the_old_collection_once_the_new_one_can_be_made(overwriting: Migration) -> None:
    client = overwriting.client
    created, loaded = overwriting.load(in_place=True)
    assert client.list_collections() == [created.own_name]
    assert not any(client.has_collection(alias) for alias in ALIASES)
    assert overwriting.verify(created, loaded).status == VERIFIED
    assert stored(client, "news") == overwriting.expected
    assert aliases(client) == dict.fromkeys(ALIASES, "news")


@pytest.mark.parametrize(("selection", "in_place"), [("*", True), ({"news": ["a"]}, False)], ids=["whole", "partition"])
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_source_that_changed_since_it_was_read_costs_no_row(
    lite_client: MilvusClient, tmp_path: Path, selection: Any, in_place: bool, is_gone: bool
) -> None:
    """It may have waited for approval, or for a free worker, for hours."""
    make_old(lite_client)
    migration = Migration(lite_client, tmp_path / "milvus")
    plans = migration.chain.plan(selection)
    if is_gone:
        shutil.rmtree(migration.directory.tables_folder)
    else:
        for file in migration.directory.tables_folder.rglob("*.rv"):
            os.utime(file, (1, 1))
    _, faults = migration.chain.create(plans, "overwrite", in_place=in_place)
    assert ("A segment's folder is gone" if is_gone else "changed since an earlier task read it") in faults["news"][0]
    assert lite_client.list_collections() == ["news"]
    assert stored(lite_client, "news") == OLD


def test_overwriting_in_place_that_is_killed_at_any_moment_is_continued(client: MilvusClient, tmp_path: Path) -> None:
    for moment in moments(client):
        make_old(client)
        migration = Migration(client, tmp_path / f"milvus-{moment}")
        killed = Chain(migration.directory.path, FusedClient(client, Fuse(moment)))  # type: ignore[arg-type]
        try:
            killed.run(mode="overwrite")
        except KilledError:
            pass
        else:
            break
        assert migration.run(in_place=True).status == VERIFIED
        assert client.list_collections() == ["news"]
        assert stored_in_all(client, ["news"]) == {"news": migration.expected}
        assert aliases(client) == dict.fromkeys(ALIASES, "news")
        for alias in ALIASES:
            client.drop_alias(alias)
        client.drop_collection("news")
    assert moment > 15


def test_a_refused_collection_costs_nothing_in_place_either(server_client: MilvusClient, tmp_path: Path) -> None:
    make_old(server_client)
    bad = TargetSettings(index_type="IVF_FLAT", index_params={"nlist": -1})
    migration = Migration(server_client, tmp_path / "milvus", settings=bad)
    _, faults = migration.chain.create([migration.plan], "overwrite", in_place=True)
    assert "refuses the collection" in faults["news"][0]
    assert server_client.list_collections() == ["news"]
    assert stored(server_client, "news") == OLD
    assert aliases(server_client) == dict.fromkeys(ALIASES, "news")


def test_a_target_that_is_an_alias_is_refused_before_anything(overwriting: Migration) -> None:
    client = overwriting.client
    for mode in ("skip", "append", "overwrite", "sync"):
        _, faults = overwriting.chain.create(overwriting.chain.plan(rename={"news": "readers"}), mode)
        assert "he name 'readers' is an alias in the target" in faults["news"][0]
        assert "stands for collection 'news'" in faults["news"][0]
    assert client.list_collections() == ["news"]


def test_an_alias_of_some_partitions_is_refused(client: MilvusClient, tmp_path: Path) -> None:
    chain = Migration(client, tmp_path / "milvus").chain
    _, faults = chain.create(chain.plan({"news": ["a"]}, alias="articles"))
    assert "only some partitions of collection 'news'" in faults["news"][0]
    assert client.list_collections() == []


def test_a_collection_that_others_made_meanwhile_is_not_replaced(server_client: MilvusClient, tmp_path: Path) -> None:
    """The one that was to be replaced has got another name."""
    make_collection(server_client, "news", OLD, loaded=True)
    migration = Migration(server_client, tmp_path / "milvus")
    created, loaded = migration.load("overwrite")
    server_client.rename_collection("news", "kept")
    others = {"_default": random_rows(range(900, 910), 9)}
    make_collection(server_client, "news", others, loaded=True)
    with pytest.raises(VerificationError, match="was made by something else while its rows were loaded") as error:
        migration.verify(created, loaded)
    assert created.own_name in str(error.value)
    assert stored_in_all(server_client, ["news", "kept"]) == {"news": others, "kept": OLD}
    assert migration.run("overwrite").status == VERIFIED
    assert stored_in_all(server_client, ["news", "kept"]) == {"news": migration.expected, "kept": OLD}


def test_a_collection_that_others_made_while_the_old_one_was_counted_is_not_replaced(
    server_client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection(server_client, "news", OLD, loaded=True)
    migration = Migration(server_client, tmp_path / "milvus")
    created, loaded = migration.load("overwrite")
    others = {"_default": random_rows(range(900, 910), 9)}

    def count(*arguments: Any) -> int | None:
        counted = count_exactly(*arguments)
        server_client.rename_collection("news", "kept")
        make_collection(server_client, "news", others, loaded=True)
        return counted

    monkeypatch.setattr(publish, "count_exactly", count)
    with pytest.raises(VerificationError, match="was made by something else while its rows were loaded"):
        migration.verify(created, loaded)
    assert stored_in_all(server_client, ["news", "kept"]) == {"news": others, "kept": OLD}


@pytest.mark.parametrize(
    ("target_uri", "mode"),
    [("lite", "overwrite"), ("lite", "sync"), ("lite", "append"), ("server", "overwrite")],
    indirect=["target_uri"],
)
def test_a_name_that_had_to_be_changed_meets_no_collection_of_others(
    client: MilvusClient, tmp_path: Path, mode: str
) -> None:
    make_collection(client, "my_coll", OLD, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus", {"_default": range(20)}, name="my-coll")
    _, faults = migration.chain.create([migration.plan], mode)
    assert "'my-coll' would become 'my_coll' in the target, which exists" in faults["my-coll"][0]
    assert stored(client, "my_coll") == OLD
    client.drop_collection("my_coll")
    assert migration.run("skip").status == VERIFIED
    assert migration.run("overwrite").status == VERIFIED
    assert migration.chain.create(migration.chain.plan(rename={"my-coll": "my_coll"}), mode)[1] == {}


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize("mode", ["overwrite", "append", "sync"])
def test_a_collection_meets_none_that_had_to_get_its_name(client: MilvusClient, tmp_path: Path, mode: str) -> None:
    ids = {"my-coll": {"_default": range(10)}, "my_coll": {"_default": range(20, 30)}}
    directory = write_directory(tmp_path / "milvus", ids)
    chain = Chain(directory.path, client)
    assert chain.run("my-coll")["my-coll"].status == VERIFIED
    plans = chain.plan("my_coll")
    _, faults = chain.create(plans, mode)
    assert "found one that was loaded from 'my-coll'" in faults["my_coll"][0]
    assert stored(client, "my_coll")["_default"] == directory.live("my-coll", "_default")
    assert chain.run("my_coll", mode, {"my_coll": "my_coll"})["my_coll"].status == VERIFIED


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_a_name_that_had_to_be_changed_adds_no_partition_to_a_collection_of_others(
    client: MilvusClient, tmp_path: Path
) -> None:
    make_collection(client, "my_coll", OLD, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus", name="my-coll")
    selection = {"my-coll": ["a"]}
    _, faults = migration.chain.create(migration.chain.plan(selection), "skip")
    assert "'my-coll' would become 'my_coll' in the target, which exists" in faults["my-coll"][0]
    assert client.list_partitions("my_coll") == ["_default"]
    renamed = migration.chain.run(selection, "skip", {"my-coll": "my_coll"})["my-coll"]
    assert (renamed.status, renamed.action) == (VERIFIED, "added")


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize("mode", ["skip", "append", "overwrite", "sync"])
def test_a_tag_that_had_to_be_changed_meets_no_partition_of_another_tag(
    client: MilvusClient, tmp_path: Path, mode: str
) -> None:
    tags = {"_default": range(5), "a-b": range(100, 150), "a_b": range(200, 220)}
    directory = write_directory(tmp_path / "milvus", {"news": tags})
    chain = Chain(directory.path, client)
    assert chain.run({"news": ["_default", "a_b"]})["news"].status == VERIFIED
    report = chain.run({"news": ["a-b"]}, mode)["news"]
    assert "two partitions would get the same name in the target: 'a_b' and 'a-b'" in report.faults[0].lower()
    assert stored(client, "news")["a_b"] == directory.live("news", "a_b")
    renamed = chain.run({"news": ["a-b"]}, mode, {"news/a-b": "other"})["news"]
    assert renamed.status == VERIFIED
    assert stored(client, "news") == {
        "_default": directory.live("news", "_default"),
        "a_b": directory.live("news", "a_b"),
        "other": directory.live("news", "a-b"),
    }


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize(
    ("mode", "tags"),
    [("append", ["a-b"]), ("append", ["_default", "a-b"]), ("overwrite", ["a-b"]), ("sync", ["a-b"])],
)
def test_a_tag_that_had_to_be_changed_meets_no_partition_that_no_migration_made(
    client: MilvusClient, tmp_path: Path, mode: str, tags: list[str]
) -> None:
    there = OLD | {"a_b": random_rows(range(70, 75), 8)}
    make_collection(client, "news", there, metric="L2", loaded=True)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(5), "a-b": range(100, 110)}})
    chain, selection = Chain(directory.path, client), {"news": tags}
    _, faults = chain.create(chain.plan(selection), mode)
    assert "'a-b' of collection 'news' would become 'a_b' in the target, which exists" in faults["news"][0]
    assert stored(client, "news") == there
    named = chain.run(selection, mode, {"news/a-b": "a_b"})["news"]
    assert named.status == VERIFIED
    assert chain.run(selection, mode)["news"].status == VERIFIED


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_a_sync_into_a_collection_of_the_user_goes_on_as_tags_are_added(client: MilvusClient, tmp_path: Path) -> None:
    make_collection(client, "news", {"_default": {}}, metric="L2", loaded=True)
    tags: dict[str, range] = {}
    for day in range(1, 4):
        tags[f"2026-11-{day:02}"] = range(day * 10, day * 10 + 5)
        directory = write_directory(tmp_path / str(day), {"news": tags})
        report = Chain(directory.path, client).run({"news": None}, "sync")["news"]
        assert report.status == VERIFIED, report.faults
        assert stored(client, "news")[f"_2026_11_{day:02}"] == directory.live("news", f"2026-11-{day:02}")


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize("mode", ["append", "sync", "overwrite"])
def test_a_partition_that_skip_left_alone_is_not_taken_for_that_of_a_changed_tag(
    client: MilvusClient, tmp_path: Path, mode: str
) -> None:
    there = OLD | {"a_b": random_rows(range(70, 75), 8)}
    make_collection(client, "news", there, metric="L2", loaded=True)
    directory = write_directory(tmp_path / "milvus", {"news": {"a-b": range(100, 110), "c": range(5)}})
    chain, selection = Chain(directory.path, client), {"news": ["a-b", "c"]}
    assert chain.run(selection, "skip")["news"].status == VERIFIED
    _, faults = chain.create(chain.plan(selection), mode)
    assert "'a-b' of collection 'news' would become 'a_b' in the target, which exists" in faults["news"][0]
    assert stored(client, "news")["a_b"] == there["a_b"]


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize("mode", ["append", "sync", "overwrite"])
@pytest.mark.parametrize("made_by", ["a user", "a migration"])
def test_a_tag_that_is_new_in_the_source_meets_no_partition_that_a_user_made(
    client: MilvusClient, tmp_path: Path, mode: str, made_by: str
) -> None:
    of_user = random_rows(range(70, 75), 8)
    if made_by == "a user":
        make_collection(client, "news", OLD, metric="L2", loaded=True)
    first = write_directory(tmp_path / "1", {"news": {"c": range(200)}})
    assert Chain(first.path, client).run({"news": None}, "sync")["news"].status == VERIFIED
    client.create_partition("news", "a_b")
    rows = [{"id": row_id, "embedding": np.frombuffer(vector, np.float32)} for row_id, vector in of_user.items()]
    client.insert("news", rows, partition_name="a_b")
    second = write_directory(tmp_path / "2", {"news": {"c": range(200), "a-b": range(300, 310)}})
    chain = Chain(second.path, client)
    _, faults = chain.create(chain.plan({"news": None if mode == "sync" else ["a-b"]}), mode)
    assert "'a-b' of collection 'news' would become 'a_b' in the target, which exists" in faults["news"][0]
    assert stored(client, "news")["a_b"] == of_user


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize("mode", ["append", "sync", "overwrite"])
@pytest.mark.parametrize("rename", [{}, {"news/a-b": "a_b"}])
def test_a_tag_whose_load_was_abandoned_meets_no_partition_that_a_user_made(
    client: MilvusClient, tmp_path: Path, mode: str, rename: dict[str, str]
) -> None:
    """The run that is abandoned created the partition, or was told to load into that of the user."""
    of_user = random_rows(range(700, 705), 8)
    first = write_directory(tmp_path / "1", {"news": {"c": range(200)}})
    assert Chain(first.path, client).run()["news"].status == VERIFIED
    second = write_directory(tmp_path / "2", {"news": {"c": range(200), "a-b": range(300, 310)}})
    chain, selection = Chain(second.path, client), {"news": ["a-b"]}
    if rename:
        client.create_partition("news", "a_b")
        insert(client, "news", "a_b", of_user)
    _, faults = chain.create(chain.plan(selection, rename), "append")
    assert faults == {}
    assert chain.run(selection, "abandon", rename)["news"].faults == ()
    if not rename:
        client.create_partition("news", "a_b")
        insert(client, "news", "a_b", of_user)
    _, faults = chain.create(chain.plan(selection), mode)
    assert "'a-b' of collection 'news' would become 'a_b' in the target, which exists" in faults["news"][0]
    assert stored(client, "news")["a_b"] == of_user


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_a_sync_follows_tags_that_vanish_and_come_back(client: MilvusClient, tmp_path: Path) -> None:
    make_collection(client, "news", {"_default": {}}, metric="L2", loaded=True)
    days = [["a-b"], ["a-b", "c d"], ["c d"], ["e-f"], ["a-b", "c d", "e-f"], ["a-b"]]
    for number, tags in enumerate(days):
        ids = {tag: range(ord(tag[0]) * 100 + number, ord(tag[0]) * 100 + 10 + number) for tag in tags}
        directory = write_directory(tmp_path / str(number), {"news": ids})
        report = Chain(directory.path, client).run({"news": None}, "sync")["news"]
        assert report.status == VERIFIED, report.faults
        found = stored(client, "news")
        assert all(found[re.sub("[- ]", "_", tag)] == directory.live("news", tag) for tag in tags)
    client.drop_partition("news", "c_d")
    assert Chain(directory.path, client).run({"news": ["a-b"]}, "overwrite")["news"].status == VERIFIED
    assert len(marker(client, "news")["mapped"]) == 2 * MAPPED_LENGTH, "a_b and e_f are left"


def test_the_marker_is_small_for_any_number_of_partitions(client: MilvusClient, tmp_path: Path) -> None:
    tags = {f"{'t' * 240}{number:03}": range(number, number + 1) for number in range(40)}
    migration = Migration(client, tmp_path / "milvus", tags)
    created, loaded = migration.load("skip")
    described = client.describe_collection(created.own_name)["properties"]["milvusdm.migration"]
    assert len(described) < 500
    assert migration.verify(created, loaded).status == VERIFIED


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_a_partition_whose_name_was_changed_takes_eight_characters_of_the_marker(
    client: MilvusClient, tmp_path: Path
) -> None:
    tags = {f"{number:03}{'t' * 240}": range(number, number + 1) for number in range(40)}
    created, _ = Migration(client, tmp_path / "milvus", tags).load("skip")
    described = client.describe_collection(created.own_name)["properties"]["milvusdm.migration"]
    assert len(described) < 500 + 40 * MAPPED_LENGTH


class OtherRuns:
    """What a run knows about others: all of them are `over`, or not."""

    def __init__(self, over: bool | None, own: str = "mine") -> None:
        self.over, self.own = over, Run("dag", own)

    def is_over(self, run: Run) -> bool | None:
        assert run.run_id != self.own.run_id
        return self.over

    def may_wake(self, run: Run) -> bool:
        return False


@pytest.mark.parametrize(
    ("first", "second"), [("skip", "skip"), ("skip", "overwrite"), ("overwrite", "overwrite"), ("append", "append")]
)
@pytest.mark.parametrize(
    ("target_uri", "over"), [("lite", None), ("lite", False), ("server", False)], indirect=["target_uri"]
)
def test_a_second_run_is_refused_while_the_first_may_be_at_work(
    client: MilvusClient, tmp_path: Path, first: str, second: str, over: bool | None
) -> None:
    if first != "skip":
        make_collection(client, "news", OLD, loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    created, _ = migration.chain.create([migration.plan], first, runs=OtherRuns(None, "first"))
    before = {name: client.describe_collection(name)["properties"] for name in client.list_collections()}
    _, faults = migration.chain.create([migration.plan], second, runs=OtherRuns(over))
    assert "nother run is loading collection 'news' of the target" in faults["news"][0]
    assert "run first of DAG dag" in faults["news"][0]
    assert "take_over: true" in faults["news"][0]
    after = {name: client.describe_collection(name)["properties"] for name in client.list_collections()}
    assert after == before
    loaded = migration.chain.load([migration.plan], created)
    assert migration.verify(created[0], loaded).status == VERIFIED


def test_a_second_run_continues_where_the_first_is_dead_and_the_first_can_write_no_more(
    client: MilvusClient, tmp_path: Path
) -> None:
    migration = Migration(client, tmp_path / "milvus")
    first, loaded = migration.load("skip", runs=OtherRuns(None, "first"))
    second, again = migration.load("skip", runs=OtherRuns(over=True))
    assert second.action == "resumed"
    with pytest.raises(TargetError, match="is not the one that was loaded"):
        migration.verify(first, loaded)
    assert migration.verify(second, again).status == VERIFIED
    assert stored_in_all(client, ["news"]) == {"news": migration.expected}


def test_a_step_that_is_retried_in_its_own_run_continues(client: MilvusClient, tmp_path: Path) -> None:
    migration = Migration(client, tmp_path / "milvus")
    migration.load("skip", runs=OtherRuns(None))
    assert migration.run("skip", runs=OtherRuns(None)).status == VERIFIED


def test_an_overwrite_that_is_repeated_after_its_run_has_ended_creates_nothing_again(overwriting: Migration) -> None:
    report = overwriting.run("overwrite", runs=OtherRuns(None))
    [created], _ = overwriting.chain.create([overwriting.plan], "overwrite", runs=OtherRuns(None))
    assert (report.status, created.action) == (VERIFIED, "kept")
    assert overwriting.client.list_collections() == ["news"]
    assert stored(overwriting.client, "news") == overwriting.expected


@pytest.mark.parametrize(
    ("target_uri", "mode"),
    [("lite", "overwrite"), ("server", "overwrite"), ("lite", "append")],
    indirect=["target_uri"],
)
def test_loaded_partitions_stay_when_create_is_repeated_after_its_run_has_ended(
    client: MilvusClient, tmp_path: Path, mode: str
) -> None:
    """Create may be cleared alone: no later step would load again what it empties."""
    make_collection(client, "news", {"a": random_rows([901], 3)}, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    plans, runs = migration.chain.plan({"news": ["a"]}), OtherRuns(None)
    created, _ = migration.chain.create(plans, mode, runs=runs)
    loaded = migration.chain.load(plans, created)
    assert migration.chain.verify(plans, created, loaded)["news"].status == VERIFIED
    before = stored(client, "news")
    again, faults = migration.chain.create(plans, mode, runs=runs)
    assert ([collection.action for collection in again], faults) == (["kept"], {})
    assert stored(client, "news") == before
    assert marker(client, "news")["state"] == "complete"


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize(
    ("mode", "tags", "options"),
    [
        ("overwrite", None, {}),
        ("overwrite", None, {"in_place": True}),
        ("overwrite", ["a"], {}),
        ("sync", None, {"max_deletions": 1}),
        ("append", None, {}),
    ],
)
def test_create_repeated_alone_undoes_nothing_that_another_run_has_loaded_since(
    client: MilvusClient, tmp_path: Path, mode: str, tags: list[str] | None, options: dict[str, Any]
) -> None:
    """No later step would load again what it drops, empties or deletes. With another input it is another attempt."""
    first = Migration(client, tmp_path / "first")
    plans, runs, store = first.chain.plan({"news": tags}), OtherRuns(over=True, own="first"), Checkpoints()
    options |= {"runs": runs, "store": store}
    created, _ = first.chain.create(plans, mode, step_input="plan", **options)
    assert first.chain.verify(plans, created, first.chain.load(plans, created))["news"].status == VERIFIED
    second = Migration(client, tmp_path / "second", {"_default": range(500, 520), "a": range(600, 605)})
    assert second.run("overwrite", runs=OtherRuns(over=True, own="second")).status == VERIFIED
    _, faults = first.chain.create(plans, mode, step_input="plan", **options)
    assert "was changed after this run had prepared it" in faults["news"][0]
    assert "run second of DAG dag" in faults["news"][0]
    assert client.list_collections() == ["news"]
    assert stored(client, "news") == second.expected
    assert marker(client, "news")["state"] == "complete"
    _, faults = first.chain.create(plans, mode, step_input="another plan", **options)
    assert faults == {}


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
@pytest.mark.parametrize("mode", ["overwrite", "sync", "append"])
def test_create_is_repeated_where_its_run_has_not_finished(client: MilvusClient, tmp_path: Path, mode: str) -> None:
    """Killed before it was done, or cleared after a load that failed."""
    options: dict[str, Any] = {"runs": OtherRuns(None), "store": Checkpoints(), "step_input": "plan"}
    if mode == "sync":
        options["max_deletions"] = 1
    make_collection(client, "news", OLD, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    for moment in (1, 2, 4):
        chain = Chain(migration.directory.path, FusedClient(client, Fuse(moment)))  # type: ignore[arg-type]
        with pytest.raises(KilledError):
            chain.create([migration.plan], mode, **options)
    migration.load(mode, **options)
    assert migration.run(mode, **options).status == VERIFIED
    assert stored(client, "news")["a"] == migration.expected["a"]


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_a_sync_that_is_repeated_alone_leaves_no_marker_of_a_load(client: MilvusClient, tmp_path: Path) -> None:
    make_collection(client, "news", OLD, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    options: dict[str, Any] = {"runs": OtherRuns(None), "max_deletions": 1}
    created, loaded = migration.load("sync", **options)
    assert migration.verify(created, loaded).status == VERIFIED
    again, _ = migration.load("sync", **options)
    assert marker(client, "news")["state"] == "complete"
    assert migration.verify(again, []).status == VERIFIED
    client.delete("news", ids=[3], partition_name="_default")
    repaired = migration.run("sync", **options)
    assert (repaired.status, repaired.action) == (VERIFIED, "synced")
    assert stored(client, "news") == migration.expected


@pytest.mark.parametrize(
    ("method", "tags", "in_place"),
    [("rename_collection", None, True), ("list_aliases", None, True), ("list_indexes", ["a"], False)],
)
def test_a_creation_that_slept_drops_and_empties_nothing_of_what_another_run_made(
    server_client: MilvusClient, tmp_path: Path, method: str, tags: list[str] | None, in_place: bool
) -> None:
    make_collection(server_client, "news", OLD | {"a": random_rows([901], 3)}, metric="L2", loaded=True)
    migration = Migration(server_client, tmp_path / "milvus")
    selection = {"news": tags}

    def meanwhile() -> None:
        assert migration.chain.run(selection, "overwrite")["news"].status == VERIFIED

    slept = Chain(migration.directory.path, Sleeping(server_client, method, meanwhile))  # type: ignore[arg-type]
    with pytest.raises((TargetError, MilvusException)):
        create_collection(slept.client, slept.plan(selection)[0], "overwrite", in_place=in_place)
    assert stored_in_all(server_client, ["news"])["news"] == (
        migration.expected if tags is None else OLD | {"a": migration.expected["a"]}
    )


def test_a_verification_that_slept_marks_nothing_of_what_another_run_made(client: MilvusClient, tmp_path: Path) -> None:
    migration = Migration(client, tmp_path / "milvus")
    created, loaded = migration.load("skip")

    def meanwhile() -> None:
        assert migration.chain.run()["news"].status == VERIFIED

    with pytest.raises((TargetError, MilvusException)):
        migration.verify(created, loaded, Sleeping(client, "alter_collection_properties", meanwhile))
    assert stored_in_all(client, ["news"]) == {"news": migration.expected}


def test_an_index_and_a_partition_that_others_make_stay(server_client: MilvusClient, tmp_path: Path) -> None:
    """After a refusal our own index is dropped, and no other."""
    make_collection(server_client, "news", OLD)
    migration = Migration(server_client, tmp_path / "milvus", {"_default": range(55, 65)})
    unhindered = server_client.list_indexes

    class Others:
        """Create an index on the ids while ours exists."""

        def __getattr__(self, name: str) -> Any:
            return getattr(server_client, name)

        def query(self, *arguments: Any, **keywords: Any) -> Any:
            if "id" not in unhindered("news"):
                params = server_client.prepare_index_params()
                params.add_index("id", index_type="STL_SORT", index_name="id")
                server_client.create_index("news", params)
            return server_client.query(*arguments, **keywords)

    migration.chain.client = Others()  # type: ignore[assignment]
    _, faults = migration.chain.create([migration.plan], "append")
    assert "ds to append are in the target already" in faults["news"][0]
    assert server_client.list_indexes("news") == ["id"]


def abandoned(migration: Migration) -> CollectionReport:
    return migration.chain.run(mode="abandon")["news"]


def test_abandon_drops_what_was_loaded_under_a_name_of_its_own(overwriting: Migration) -> None:
    created, _ = overwriting.load()
    report = abandoned(overwriting)
    assert (report.status, report.action) == (SKIPPED, "abandoned")
    assert report.notes == (f"{created.own_name} was dropped",)
    assert overwriting.client.list_collections() == ["news"]
    assert stored(overwriting.client, "news") == OLD
    assert abandoned(overwriting).notes == ("no run had left anything half loaded",)


def test_abandon_removes_what_an_append_added_from_another_state_of_its_source(
    client: MilvusClient, tmp_path: Path
) -> None:
    """The source has new rows since: the run can be neither continued nor undone with it."""
    make_collection(client, "news", OLD | {"a": random_rows([901, 902], 3)}, loaded=True)
    before = stored(client, "news")
    Migration(client, tmp_path / "old").load("append")
    grown = Migration(client, tmp_path / "grown", IDS | {"a": [*IDS["a"], 500]})
    for mode in ("append", "skip"):
        if mode == "append":
            assert "half loaded, from another source" in grown.chain.create([grown.plan], mode)[1]["news"][0]
    report = abandoned(grown)
    assert (report.status, report.faults, report.notes) == (SKIPPED, (), ("30 rows of news were removed",))
    assert stored(client, "news") == before
    assert "milvusdm.migration" not in {
        name for name, value in client.describe_collection("news").get("properties", {}).items() if value
    }
    assert grown.run("append").status == VERIFIED


def test_abandon_restores_the_mark_of_before(client: MilvusClient, tmp_path: Path) -> None:
    first = Migration(client, tmp_path / "first")
    assert first.run("skip").status == VERIFIED
    before = marker(client, "news")
    second = Migration(client, tmp_path / "second", {"_default": range(1000, 1010), "a": range(2000, 2010)})
    second.load("append")
    assert abandoned(second).faults == ()
    after = marker(client, "news")
    assert (after["state"], after["source"]) == ("complete", before["source"])
    _, faults = first.chain.create([first.plan], "append")
    assert "ds to append are in the target already" in faults["news"][0]


@pytest.mark.parametrize(("loads_since", "new_rows"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_abandon_removes_nothing_that_an_earlier_load_has_loaded(
    client: MilvusClient, tmp_path: Path, loads_since: int, new_rows: int
) -> None:
    """With an older copy of as many rows as the run, which may have new rows that were never loaded."""
    first = Migration(client, tmp_path / "first")
    assert first.run("append").status == VERIFIED
    for number in range(loads_since):
        ids = {"_default": range(500, 510), "a": range(600, 610)}
        assert Migration(client, tmp_path / f"since-{number}", ids).run("append").status == VERIFIED
    before = stored(client, "news")
    second = Migration(client, tmp_path / "second", {"_default": range(1000, 1020), "a": range(2000, 2010)})
    second.load("append")
    loaded = stored_in_all(client, ["news"])
    older = Migration(client, tmp_path / "older", {"_default": range(20), "a": range(100, 110 + new_rows)})
    _, faults = older.chain.create([older.plan], "abandon")
    assert "loaded other rows into collection 'news'" in faults["news"][0]
    assert stored_in_all(client, ["news"]) == loaded
    assert abandoned(second).faults == ()
    assert stored(client, "news") == before


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_abandon_drops_the_partitions_that_an_append_created_and_no_others(
    client: MilvusClient, tmp_path: Path, resumed: bool
) -> None:
    """`skip` would take them for finished, and a tag that had to be changed would meet its own partition."""
    make_collection(client, "news", OLD | {"empty": {}}, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus", IDS | {"empty": range(200, 205), "b-1": range(300, 305)})
    for _ in range(1 + resumed):
        migration.load("append")
    assert abandoned(migration).faults == ()
    assert stored(client, "news") == OLD | {"empty": {}}
    assert migration.run("append").status == VERIFIED


def test_abandon_removes_nothing_where_it_cannot_tell(client: MilvusClient, tmp_path: Path) -> None:
    """The source has lost rows that the append wrote: so they can't be told from the rows before."""
    make_collection(client, "news", OLD | {"a": {}}, loaded=True)
    Migration(client, tmp_path / "old").load("append")
    before = stored(client, "news")
    shrunk = Migration(client, tmp_path / "shrunk", IDS | {"a": range(100, 105)})
    _, faults = shrunk.chain.create([shrunk.plan], "abandon")
    assert "can't be identified" in faults["news"][0]
    assert stored(client, "news") == before
    same = Migration(client, tmp_path / "same")
    assert abandoned(same).status == SKIPPED
    assert stored(client, "news") == OLD | {"a": {}}


def test_replaced_partitions_cannot_be_undone_and_are_emptied_by_the_run_that_continues(
    client: MilvusClient, tmp_path: Path
) -> None:
    there = {"_default": random_rows([7], 1), "a": random_rows(range(100, 140), 2)}
    make_collection(client, "news", there, loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    plans, killed, emptying = migration.chain.plan({"news": ["a"]}), 0, 0
    for moment in range(1, 12) if is_lite(client) else range(2, 12, 3):
        fused: Any = FusedClient(client, Fuse(moment))
        chain = Chain(migration.directory.path, fused)
        try:
            chain.create(plans, "overwrite")
        except KilledError:
            killed += 1
        else:
            break
        if '"emptying"' in client.describe_collection("news").get("properties", {}).get("milvusdm.migration", ""):
            _, faults = migration.chain.create(plans, "abandon")
            emptying += 1
            assert "can't be undone" in faults["news"][0]
            assert migration.chain.run({"news": ["a"]}, "skip")["news"].status == VERIFIED
            assert stored_in_all(client, ["news"])["news"] == there | {"a": migration.expected["a"]}
    assert killed >= (4 if is_lite(client) else 2)
    assert emptying


def test_abandon_leaves_no_partition_that_a_later_run_would_skip(client: MilvusClient, tmp_path: Path) -> None:
    """Killed before or after the first partition is created."""
    for moment in (0, 4):
        make_collection(client, "news", OLD, metric="L2", loaded=True)
        migration = Migration(client, tmp_path / f"milvus-{moment}")
        plans, fused = migration.chain.plan({"news": ["a"]}), FusedClient(client, Fuse(moment))
        with suppress(KilledError):
            Chain(migration.directory.path, fused).create(plans, "skip")  # type: ignore[arg-type]
        assert marker(client, "news")["state"] == "loading"
        assert migration.chain.run({"news": ["a"]}, "abandon")["news"].faults == ()
        assert stored(client, "news") == OLD
        assert migration.chain.run({"news": ["a"]}, "skip")["news"].status == VERIFIED
        assert stored(client, "news") == OLD | {"a": migration.expected["a"]}
        client.drop_collection("news")


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_overwriting_leaves_no_partition_that_a_later_run_would_skip(client: MilvusClient, tmp_path: Path) -> None:
    migration, killed = Migration(client, tmp_path / "milvus"), 0
    plans = migration.chain.plan({"news": ["a"]})
    for moment in range(1, 20):
        make_collection(client, "news", OLD, metric="L2", loaded=True)
        fused: Any = FusedClient(client, Fuse(moment))
        try:
            Chain(migration.directory.path, fused).create(plans, "overwrite")
        except KilledError:
            killed += 1
        report = migration.chain.run({"news": ["a"]}, "skip")["news"]
        assert report.status == VERIFIED
        assert stored(client, "news") == OLD | {"a": migration.expected["a"]}
        client.drop_collection("news")
    assert killed >= 6


def test_abandon_removes_nothing_that_another_run_has_finished_meanwhile(client: MilvusClient, tmp_path: Path) -> None:
    make_collection(client, "news", OLD | {"a": {}}, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    migration.load("append")
    other = Chain(migration.directory.path, client)

    def finish() -> None:
        assert other.run(mode="append")["news"].status == VERIFIED

    slow: Any = Sleeping(client, "query", finish)
    _, faults = Chain(migration.directory.path, slow).create([migration.plan], "abandon")
    assert "nother run or program has changed collection 'news'" in faults["news"][0]
    assert stored(client, "news") == OLD | {
        "_default": OLD["_default"] | migration.expected["_default"],
        "a": migration.expected["a"],
    }


@pytest.mark.parametrize(
    ("target_uri", "action"),
    [("lite", "append"), ("lite", "overwrite"), ("server", "overwrite")],
    indirect=["target_uri"],
)
def test_a_sync_of_other_partitions_does_not_hide_what_is_half_loaded(
    client: MilvusClient, tmp_path: Path, action: str
) -> None:
    make_collection(client, "news", {"a": {}, "b": {}}, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus", IDS | {"b": range(200, 230)})
    migration.chain.create(migration.chain.plan({"news": ["a", "b"]}), action)
    half = marker(client, "news")
    _, faults = migration.chain.create(migration.chain.plan({"news": ["a"]}), "sync")
    assert "is half loaded, from another source or selection" in faults["news"][0]
    assert marker(client, "news") == half
    assert migration.chain.run({"news": ["a", "b"]}, "sync")["news"].status == VERIFIED
    assert migration.chain.run(mode="sync")["news"].status == VERIFIED
    assert stored(client, "news") == migration.expected


def test_overwriting_in_place_drops_nothing_that_another_attempt_has_made_meanwhile(overwriting: Migration) -> None:
    """An attempt that slept before it made its own collection."""
    client = overwriting.client
    other = Chain(overwriting.directory.path, client)

    def finish() -> None:
        assert other.run(mode="overwrite")["news"].status == VERIFIED

    slow: Any = Sleeping(client, "create_collection", finish)
    _, faults = Chain(overwriting.directory.path, slow).create([overwriting.plan], "overwrite", in_place=True)
    assert "has changed collection 'news' of the target" in faults["news"][0]
    assert stored(client, "news") == overwriting.expected
    assert aliases(client) == dict.fromkeys(ALIASES, "news")


def test_overwriting_in_place_that_slept_before_it_drops_the_old_collection_drops_no_newer_one(
    overwriting: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = overwriting.client
    other = Chain(overwriting.directory.path, client)

    def sleep() -> None:
        assert other.run(mode="overwrite")["news"].status == VERIFIED
        wake(monkeypatch)

    slow: Any = Sleeping(client, "list_aliases", sleep, call=3)
    with pytest.raises(LateError, match="was not sent"):
        create_collection(slow, overwriting.plan, "overwrite", in_place=True)
    assert stored(client, "news") == overwriting.expected
    assert aliases(client) == dict.fromkeys(ALIASES, "news")


def test_publishing_that_slept_takes_no_name_from_what_another_attempt_has_published(overwriting: Migration) -> None:
    created, loaded = overwriting.load()
    client = overwriting.client
    slow: Any = Sleeping(client, "alter_collection_properties", lambda: overwriting.verify(created, loaded), call=2)
    with pytest.raises(MilvusException):
        overwriting.verify(created, loaded, slow)
    assert client.list_collections() == ["news"]
    assert stored(client, "news") == overwriting.expected
    assert overwriting.verify(created, loaded).status == VERIFIED


def test_publishing_that_slept_before_it_takes_the_name_takes_it_from_no_other(
    overwriting: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    created, loaded = overwriting.load()
    client = overwriting.client

    def sleep() -> None:
        assert overwriting.verify(created, loaded).status == VERIFIED
        wake(monkeypatch)

    slow: Any = Sleeping(client, "rename_collection", sleep)
    with pytest.raises(LateError, match="was not sent"):
        overwriting.verify(created, loaded, slow)
    assert client.list_collections() == ["news"]
    assert stored(client, "news") == overwriting.expected
    assert aliases(client) == dict.fromkeys(ALIASES, "news")


def begin_and_wake(other: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin an append while another process sleeps, which then finds that its deadlines are over."""
    assert other.create(other.plan(), "append")[1] == {}
    wake(monkeypatch)


@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_a_verification_that_slept_before_it_sets_its_marker_marks_nothing_that_another_run_loads(
    lite_client: MilvusClient, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection(lite_client, "news", OLD | {"a": {}}, metric="L2", loaded=True)
    migration = Migration(lite_client, tmp_path / "milvus")
    created, loaded = migration.load(mode)
    other = Chain(write_directory(tmp_path / "other", {"news": {"_default": [1000]}}).path, lite_client)

    def sleep() -> None:
        assert migration.verify(created, loaded).status == VERIFIED
        begin_and_wake(other, monkeypatch)

    calls = {"overwrite": 3, "append": 1}  # that of the former collection, and of the new one with its first name
    slow: Any = Sleeping(lite_client, "alter_collection_properties", sleep, calls[mode])
    with pytest.raises(LateError, match="was not sent"):
        migration.verify(created, loaded, slow)
    assert marker(lite_client, "news")["state"] == "loading"


def test_rows_that_are_kept_are_not_marked_as_complete_while_another_run_replaces_them(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run begins after the rows were compared, and before the end of the verification."""
    make_collection(client, "news", OLD, metric="L2", loaded=True)
    chain, selection = Migration(client, tmp_path / "milvus").chain, {"news": ["a"]}
    assert chain.run(selection, "append")["news"].status == VERIFIED
    plans = chain.plan(selection)
    [created], _ = chain.create(plans, "append")
    assert created.action == "kept"

    def compare(*arguments: Any) -> Any:
        compared = compare_all(*arguments)
        assert chain.create(plans, "overwrite")[1] == {}
        return compared

    monkeypatch.setattr(collection, "compare_all", compare)
    with pytest.raises(TargetError, match="is not the one that was loaded"):
        chain.verify(plans, [created], [], verify="full")
    assert marker(client, "news")["state"] == "loading"


def test_a_creation_that_slept_before_it_sets_its_marker_marks_nothing_that_another_run_has_loaded(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection(client, "news", OLD | {"a": {}}, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus")

    def sleep() -> None:
        assert migration.run("append").status == VERIFIED
        wake(monkeypatch)

    slow: Any = Sleeping(client, "alter_collection_properties", sleep)
    with pytest.raises(LateError, match="was not sent"):
        create_collection(slow, migration.plan, "append")
    assert marker(client, "news")["state"] == "complete"


def test_an_abandon_that_slept_before_it_restores_the_marker_leaves_that_of_a_newer_run(
    client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection(client, "news", OLD | {"a": {}}, metric="L2", loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    create_collection(client, migration.plan, "append")

    def sleep() -> None:
        assert abandoned(migration).faults == ()
        assert migration.run("append").status == VERIFIED
        wake(monkeypatch)

    slow: Any = Sleeping(client, "drop_collection_properties", sleep)
    with pytest.raises(LateError, match="was not sent"):
        create_collection(slow, migration.plan, "abandon")
    assert marker(client, "news")["state"] == "complete"


def test_publishing_that_slept_before_it_drops_the_former_rows_marks_nothing_that_another_run_loads(
    lite_client: MilvusClient, tmp_path: Path
) -> None:
    make_collection(lite_client, "news", OLD, loaded=True)
    overwriting = Migration(lite_client, tmp_path / "milvus")
    created, loaded = overwriting.load()
    other = Chain(write_directory(tmp_path / "other", {"news": {"_default": [1000]}}).path, lite_client)

    def sleep() -> None:
        assert other.create(other.plan(), "append")[1] == {}

    slow: Any = Sleeping(lite_client, "drop_collection", sleep)
    with pytest.raises(TargetError, match="Another run or program has changed collection 'news'"):
        overwriting.verify(created, loaded, slow)
    assert marker(lite_client, "news")["state"] == "loading"
    assert other.run(mode="append")["news"].action == "resumed"


def test_an_alias_that_gets_the_name_meanwhile_leads_where_it_led(client: MilvusClient, tmp_path: Path) -> None:
    """Milvus Lite would rename the collection behind it."""
    make_collection(client, "news", OLD, loaded=True)
    migration = Migration(client, tmp_path / "milvus")
    created, loaded = migration.load()
    client.rename_collection("news", "archive")
    client.create_alias("archive", "news")
    with pytest.raises(VerificationError, match="an alias of 'archive'"):
        migration.verify(created, loaded)
    assert sorted(client.list_collections()) == ["archive", created.own_name]
    client.drop_alias("news")
    assert migration.verify(created, loaded).status == VERIFIED
    assert stored_in_all(client, ["archive", "news"]) == {"archive": OLD, "news": migration.expected}


def test_what_was_left_verified_and_renamed_by_hand_marks_no_other(client: MilvusClient, tmp_path: Path) -> None:
    migration = Migration(client, tmp_path / "milvus")
    created, loaded = migration.load("skip")

    def kill() -> None:
        raise KilledError

    killed: Any = Sleeping(client, "rename_collection", kill)
    with pytest.raises(KilledError):
        migration.verify(created, loaded, killed)
    assert marker(client, "news")["state"] == "verified"
    client.rename_collection(created.own_name, "archive")
    make_collection(client, "news", OLD, loaded=True)
    assert migration.chain.run(rename={"news": "archive"})["news"].status == SKIPPED
    assert not client.describe_collection("news").get("properties")
    assert (marker(client, "archive")["state"], marker(client, "archive")["target"]) == ("complete", "archive")


@pytest.mark.parametrize(
    ("target_uri", "text"),
    [
        ("lite", "{"),
        ("lite", "[]"),
        ("lite", '"x"'),
        ("lite", '{"state": "complete", "before": {"a": 1}}'),
        ("lite", '{"counts": 5}'),
        ("server", "{"),
    ],
    indirect=["target_uri"],
)
def test_a_marker_that_cannot_be_read_is_reported(client: MilvusClient, tmp_path: Path, text: str) -> None:
    make_collection(client, "news", OLD, loaded=True)
    client.alter_collection_properties("news", {"milvusdm.migration": text})
    migration = Migration(client, tmp_path / "milvus")
    for mode in ("skip", "append", "overwrite", "sync", "abandon"):
        _, faults = migration.chain.create([migration.plan], mode)
        assert (
            "a property that a migration set on collection 'news' of the target can't be read"
            in faults["news"][0].lower()
        )
    assert stored(client, "news") == OLD


def test_what_was_left_for_an_alias_of_another_name_stays(client: MilvusClient, tmp_path: Path) -> None:
    first, second = Migration(client, tmp_path / "first"), Migration(client, tmp_path / "second")
    [first.plan] = first.chain.plan(rename={"news": "news_eu"}, alias="readers")
    created, loaded = first.load("skip")
    [second.plan] = second.chain.plan(alias="searchers")
    assert second.run("skip").status == VERIFIED
    assert first.verify(created, loaded).status == VERIFIED


def may_read(uri: str, user: str) -> bool:
    """Whether the server applies the last of the rights that were granted."""
    try:
        with milvus_client(uri, user=user, password="Password1") as client:
            return bool(client.query("news", filter="id >= 0", output_fields=["id"]))
    except MilvusException:
        return False


def test_a_login_that_may_not_rename_list_aliases_or_drop_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    rights = {
        *("CreateCollection", "DropCollection", "RenameCollection", "ShowCollections", "DescribeCollection"),
        *("CreateAlias", "DropAlias", "DescribeAlias", "ListAliases"),
    }
    with (
        milvus_server(tmp_path / "server", "--authorization-enabled", "true", token="root:Milvus") as address,
        milvus_client(address.uri, token="root:Milvus") as root,
    ):
        make_old(root)
        missing = ("RenameCollection", "ListAliases", "DropCollection")
        for right in missing:
            root.create_user(f"no_{right}", "Password1")
            root.create_role(right)
            root.grant_role(f"no_{right}", right)
            for privilege in rights - {right}:
                root.grant_privilege(right, "Global", privilege, "*")
            root.grant_privilege(right, "Collection", "*", "*")
        for right in missing:
            wait_until(lambda user=f"no_{right}": may_read(address.uri, user), 60, lambda: "a grant has no effect")
        for right in missing:
            with milvus_client(address.uri, user=f"no_{right}", password="Password1") as client:
                migration = Migration(client, tmp_path / right)
                for in_place in (False, True):
                    _, faults = migration.chain.create([migration.plan], "overwrite", in_place=in_place)
                    [fault] = faults["news"]
                    assert re.search(f"with the rights .*{right}.*Nothing was changed", fault)
        assert root.list_collections() == ["news"]
        assert stored(root, "news") == OLD
        assert aliases(root) == dict.fromkeys(ALIASES, "news")


def test_markers_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    """A server of 2.3 that is started again has the value of before the last change, if that was no new property."""
    with running_milvus_server(tmp_path / "server") as server:
        with milvus_client(server.address.uri) as client:
            for name in ("news", "loading"):
                make_collection(client, name, OLD, loaded=True)
                assert Migration(client, tmp_path / name, name=name).run("append").status == VERIFIED
            more = Migration(client, tmp_path / "more", {"_default": range(30, 40)}, "loading")
            more.load("append")
            markers = {name: marker(client, name) for name in ("news", "loading")}
        server.close()
        server.start()
        with milvus_client(server.address.uri) as client:
            assert {name: marker(client, name) for name in markers} == markers
        assert [marker["state"] for marker in markers.values()] == ["complete", "loading"]
