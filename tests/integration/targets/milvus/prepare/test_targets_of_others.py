"""A target that is not the one this migration made: half loaded by another, made again, dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CollectionPlan, to_json
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.operators.milvus import MilvusLoadOperator
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from tests.support.chain import Chain
from tests.support.collections_2x import called, load_all, make_collection, marker, stored
from tests.support.directories import random_rows, write_directory
from tests.support.killed import Checkpoints, load
from tests.support.xcom import XComs

PARTITIONS = {"_default": range(20), "a": range(20)}
PARTITION_BYTES = 20 * 8 * 4
"""A load unit has the rows of one partition."""


class Migration:
    """A new collection, and the units to load into it."""

    def __init__(
        self, client: MilvusClient, path: Path, *, ids: range = range(20), tags: Sequence[str] = tuple(PARTITIONS)
    ) -> None:
        self.client = client
        self.directory = write_directory(path, {"news": dict.fromkeys(tags, ids)})
        self.chain = Chain(self.directory.path, client, id_scope="partition", unit_bytes=PARTITION_BYTES)
        self.plans: list[CollectionPlan] = self.chain.plan()

    def create(self, mode: str = "skip") -> list[LoadUnit]:
        created, faults = self.chain.create(self.plans, mode)
        assert not faults
        return address_units(self.plans, created)

    def expected(self) -> dict[str, dict[int, bytes]]:
        return {tag: self.directory.live("news", tag) for tag in PARTITIONS}


@pytest.fixture
def migration(client: MilvusClient, tmp_path: Path) -> Migration:
    return Migration(client, tmp_path / "milvus")


THERE = {"_default": random_rows(range(50, 60), 1), "a": {}}
"""What the collection holds to which rows are added."""


@pytest.mark.parametrize(
    ("mode", "selection"),
    [
        ("skip", {"news": ["b"]}),
        ("append", "news"),
        ("append", {"news": ["a"]}),
        ("overwrite", {"news": ["a"]}),
    ],
)
def test_a_collection_that_another_source_left_half_appended_is_refused(
    client: MilvusClient, tmp_path: Path, migration: Migration, mode: str, selection: Any
) -> None:
    make_collection(client, "news", THERE)
    migration.create("append")
    before = client.describe_collection("news")
    other = Migration(client, tmp_path / "other", ids=range(100, 120), tags=("_default", "a", "b"))
    created, faults = other.chain.create(other.chain.plan(selection), mode)
    assert created == []
    [fault] = faults["news"]
    assert "ollection 'news' of the target is half loaded, from another source or selection" in fault
    assert f"its marker names source {migration.plans[0].fingerprint}" in fault
    assert "milvusdm abandon" in fault
    assert client.describe_collection("news") == before


def test_what_another_source_left_half_loaded_makes_room(
    client: MilvusClient, tmp_path: Path, migration: Migration
) -> None:
    load_unit(client, migration.create()[0], Checkpoints())
    left = called(client, "news")
    other = Migration(client, tmp_path / "other", ids=range(100, 120))
    for unit in other.create():
        load_unit(client, unit, Checkpoints())
    assert [called(client, "news")] == client.list_collections() != [left]
    assert marker(client, "news")["source"] == other.plans[0].fingerprint
    load_all(client, ["news"])
    assert stored(client, "news") == other.expected()


@pytest.mark.parametrize("moment", [0, 5], ids=["finished", "killed"])
def test_checkpoints_for_a_target_that_was_made_again_are_ignored(
    client: MilvusClient, migration: Migration, moment: int
) -> None:
    stores = [Checkpoints(), Checkpoints()]
    for unit, store in zip(migration.create(), stores, strict=True):
        load(client, unit, store, moment)
        assert store
    for unit, store in zip(migration.create("overwrite"), stores, strict=True):
        assert sum(load_unit(client, unit, store).rows.values()) == 20
    load_all(client, ["news"])
    assert stored(client, "news") == migration.expected()


def test_a_checkpoint_for_other_rows_is_thrown_away(client: MilvusClient, migration: Migration) -> None:
    first, second = migration.create()
    store = Checkpoints()
    load_unit(client, first, store)
    load_unit(client, second, store)
    load_all(client, ["news"])
    assert stored(client, "news") == migration.expected()


def drop(client: MilvusClient, path: Path) -> None:
    client.drop_collection(called(client, "news"))


def make_by_hand(client: MilvusClient, path: Path) -> None:
    name = called(client, "news")
    client.drop_collection(name)
    make_collection(client, name, {"a": {}})


def make_by_another_migration(client: MilvusClient, path: Path) -> None:
    Migration(client, path / "other", ids=range(7)).create()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (drop, "found no such collection"),
        (make_by_hand, "found no marker"),
        (make_by_another_migration, "found no such collection"),
    ],
)
def test_a_load_into_a_target_that_something_else_made_again_is_refused(
    client: MilvusClient, tmp_path: Path, migration: Migration, change: Callable[[MilvusClient, Path], None], found: str
) -> None:
    units = migration.create()
    store = Checkpoints()
    load(client, units[0], store, 5)
    change(client, tmp_path)
    with pytest.raises(TargetError) as error:
        load_unit(client, units[0], store)
    assert f"{units[0].target.name!r} of the target is not the one that was made for this load" in str(error.value)
    assert f"xpected a marker with source {migration.plans[0].fingerprint}" in str(error.value)
    assert found in str(error.value)
    assert "repeat the create step and the steps after it, or start a new run." in str(error.value)


def test_a_finished_unit_that_is_cleared_changes_nothing(client: MilvusClient, migration: Migration) -> None:
    """The collection has its final name by now; with its checkpoint the task knows that there is nothing to do."""
    created, _ = migration.chain.create(migration.plans)
    loads = migration.chain.load(migration.plans, created)
    report = verify_collection(client, migration.plans[0], created[0], loads)
    assert (report.status, marker(client, "news")["state"]) == (VERIFIED, "complete")
    assert migration.chain.load(migration.plans, created) == [replace(load, seconds=0) for load in loads]
    again = verify_collection(client, migration.plans[0], created[0], loads)
    assert (again.status, marker(client, "news")["state"]) == (VERIFIED, "complete")
    assert stored(client, "news") == migration.expected()
    client.drop_collection("news")
    for stores in (migration.chain.stores, {}):
        migration.chain.stores = stores
        with pytest.raises(TargetError, match="found no such collection"):
            migration.chain.load(migration.plans, created)


def test_a_finished_unit_without_its_checkpoint_is_refused_once_the_collection_has_its_name(
    client: MilvusClient, migration: Migration
) -> None:
    created, _ = migration.chain.create(migration.plans)
    verify_collection(client, migration.plans[0], created[0], migration.chain.load(migration.plans, created))
    migration.chain.stores.clear()
    with pytest.raises(TargetError, match="found no such collection"):
        migration.chain.load(migration.plans, created)
    assert stored(client, "news") == migration.expected()


def test_a_finished_unit_of_an_append_that_is_cleared_changes_nothing(
    client: MilvusClient, migration: Migration
) -> None:
    """With its checkpoint it writes nothing; without it, each row replaces itself."""
    make_collection(client, "news", THERE)
    created, _ = migration.chain.create(migration.plans, "append")
    loads = migration.chain.load(migration.plans, created)
    report = verify_collection(client, migration.plans[0], created[0], loads)
    assert (report.status, marker(client, "news")["state"]) == (VERIFIED, "complete")
    assert migration.chain.load(migration.plans, created) == [replace(load, seconds=ANY) for load in loads]
    migration.chain.stores.clear()
    migration.chain.load(migration.plans, created)
    assert stored(client, "news") == {tag: THERE[tag] | rows for tag, rows in migration.expected().items()}


def test_a_load_task_tried_again_whose_notes_are_lost_doubles_nothing(
    server_client: MilvusClient, empty_milvus_server_uri: str, tmp_path: Path
) -> None:
    migration, xcoms = Migration(server_client, tmp_path), XComs()
    for unit in migration.create():
        for attempt in (1, 2, 3):
            operator = MilvusLoadOperator(task_id="load", units=[to_json(unit)], dest_uri=empty_milvus_server_uri)
            [loaded] = xcoms.manifests(xcoms.run(operator, try_number=attempt))
            assert sum(loaded["rows"].values()) == unit.stored_rows
    load_all(server_client, ["news"])
    assert stored(server_client, "news") == migration.expected()


def test_a_load_of_a_run_that_another_has_continued_is_refused(client: MilvusClient, migration: Migration) -> None:
    units, store = migration.create(), Checkpoints()
    load(client, units[0], store, 5)
    others = migration.create()
    with pytest.raises(TargetError, match="found no such collection"):
        load_unit(client, units[0], store)
    for unit in others:
        load_unit(client, unit, Checkpoints())
    load_all(client, ["news"])
    assert stored(client, "news") == migration.expected()
