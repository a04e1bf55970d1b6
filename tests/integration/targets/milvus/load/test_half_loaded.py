"""A killed load continues in the same run or in a new one: no row is stored twice, none is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.manifests import CollectionPlan
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.targets.milvus.load import writer
from airflow_provider_milvusdm.targets.milvus.units import address_units
from tests.support.chain import Chain
from tests.support.collections_2x import (
    called,
    is_lite,
    load_all,
    make_collection,
    marker,
    own_names,
    stored,
    stored_in_all,
)
from tests.support.directories import random_rows, write_directory
from tests.support.killed import create, load

PARTITIONS = {"_default": range(8), "a": range(8), "b": range(8)}
"""Partitions with the same ids."""
UNITS = [{"_default": 8}, {"a": 8, "b": 4}, {"b": 4}]
"""Rows of each load unit by partition."""
MOMENTS = range(1, 21)
"""More than loading the second unit has."""
SERVER_MOMENTS = MOMENTS[1::3]
"""A server needs seconds for each collection."""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of four rows, and a checkpoint before every second migration."""
    monkeypatch.setattr(writer, "BATCH_ROWS", 4)
    monkeypatch.setattr(writer, "STRIDE_BATCHES", 2)


class Migrations:
    """Collections with the same rows; each load is killed at another moment."""

    def __init__(self, client: MilvusClient, path: Path, count: int) -> None:
        names = [f"c{number:02}" for number in range(count)]
        self.client = client
        self.directory = write_directory(path / "milvus", dict.fromkeys(names, PARTITIONS))
        self.chain = Chain(self.directory.path, client, unit_bytes=1, max_tasks=4 * count, id_scope="partition")
        self.plans: list[CollectionPlan] = self.chain.plan()

    def create(self, mode: str = "skip") -> list[list[LoadUnit]]:
        """Create the collections, and return the load units of each."""
        created, faults = self.chain.create(self.plans, mode)
        assert not faults
        units = [list(address_units([plan], created)) for plan in self.plans]
        assert [[row_slice.stored_rows for row_slice in unit.slices] for unit in units[0]] == [[8], [8, 4], [4]]
        return units

    def check_stored(self) -> None:
        assert stored_in_all(self.client, [plan.name for plan in self.plans]) == {
            plan.name: {tag: self.directory.live(plan.name, tag) for tag in PARTITIONS} for plan in self.plans
        }


def moments_of(client: MilvusClient) -> range:
    """The moments to be killed at while the second unit is loaded."""
    return MOMENTS if is_lite(client) else SERVER_MOMENTS


@pytest.fixture
def migrations(client: MilvusClient, tmp_path: Path) -> Migrations:
    return Migrations(client, tmp_path, len(moments_of(client)))


@pytest.fixture
def migration(client: MilvusClient, tmp_path: Path) -> Migrations:
    return Migrations(client, tmp_path, 1)


def rows(client: MilvusClient, unit: LoadUnit, checkpoints: dict[str, Any], moment: int = 0) -> dict[str, int] | None:
    """Load a unit; returns the rows by partition, or None where the load was killed."""
    loaded = load(client, unit, checkpoints, moment)
    return dict(loaded.rows) if loaded else None


def test_a_unit_killed_at_any_moment_is_finished_by_a_retry_after_the_others(
    client: MilvusClient, migrations: Migrations
) -> None:
    killed, moments = 0, moments_of(client)
    for moment, units in zip(moments, migrations.create(), strict=True):
        checkpoints: dict[str, Any] = {}
        found = rows(client, units[1], checkpoints, moment)
        assert [rows(client, units[0], {}), rows(client, units[2], {})] == [UNITS[0], UNITS[2]]
        if found is None:
            killed += 1
            found = rows(client, units[1], checkpoints)
        assert found == UNITS[1]
    assert len(moments) // 2 < killed < len(moments)
    migrations.check_stored()


def test_a_new_run_continues_without_the_checkpoints_of_the_killed_one(
    client: MilvusClient, migrations: Migrations
) -> None:
    moments = moments_of(client)
    killed = [
        load(client, units[1], {}, moment) is None for moment, units in zip(moments, migrations.create(), strict=True)
    ]
    assert len(moments) // 2 < sum(killed) < len(moments)
    for units in migrations.create():
        assert [rows(client, unit, {}) for unit in units] == UNITS
    migrations.check_stored()


def test_a_unit_that_is_killed_again_and_again_is_finished(client: MilvusClient, migration: Migrations) -> None:
    for unit, expected in zip(migration.create()[0], UNITS, strict=True):
        checkpoints: dict[str, Any] = {}
        attempts = [rows(client, unit, checkpoints, moment) for moment in (3, 5, 7, 8, 9, 10, 0)]
        assert attempts[0] is None
        assert attempts[-1] == expected
    migration.check_stored()


def test_a_run_that_continues_can_be_killed_too(client: MilvusClient, migration: Migrations) -> None:
    load(client, migration.create()[0][1], {}, moment=13)
    for unit, expected in zip(migration.create()[0], UNITS, strict=True):
        checkpoints: dict[str, Any] = {}
        assert rows(client, unit, checkpoints, moment=5) is None
        assert rows(client, unit, checkpoints) == expected
    migration.check_stored()


def test_a_half_loaded_collection_is_continued_and_then_marked_as_complete(
    client: MilvusClient, migration: Migrations
) -> None:
    load(client, migration.create()[0][1], {}, moment=9)
    assert not client.has_collection("c00")
    assert marker(client, "c00")["state"] == "loading"
    report = migration.chain.run("*", "append")["c00"]
    assert (report.status, report.action) == (VERIFIED, "resumed")
    assert [(part.before, part.loaded, part.counted) for part in report.partitions] == [(0, 8, 8)] * 3
    assert marker(client, "c00")["state"] == "complete"
    assert own_names(client, "c00") == []
    assert stored(client, "c00") == {tag: migration.directory.live("c00", tag) for tag in PARTITIONS}


def test_overwrite_starts_a_half_loaded_collection_again(client: MilvusClient, migration: Migrations) -> None:
    load(client, migration.create()[0][1], {}, moment=9)
    first = called(client, "c00")
    [created], _ = migration.chain.create(migration.plans, "overwrite")
    assert (created.action, created.upsert) == ("created", False)
    assert created.own_name == called(client, "c00") != first
    assert client.get_collection_stats(created.own_name)["row_count"] == 0


def test_an_append_continues_and_counts_the_rows_from_before_once(client: MilvusClient, tmp_path: Path) -> None:
    there = {"_default": random_rows(range(100, 120), 1), "a": {}, "b": random_rows([50], 2)}
    make_collection(client, "news", there)
    directory = write_directory(tmp_path / "milvus", {"news": PARTITIONS})
    chain = Chain(directory.path, client, id_scope="partition")
    plans = chain.plan()
    created, _ = chain.create(plans, "append")
    load(client, address_units(plans, created)[0], {}, moment=9)
    report = chain.run("*", "append")["news"]
    assert (report.status, report.action) == (VERIFIED, "resumed")
    assert [(part.before, part.counted) for part in report.partitions] == [(20, 28), (0, 8), (1, 9)]
    assert stored(client, "news") == {tag: there[tag] | directory.live("news", tag) for tag in PARTITIONS}


OTHER = {"_default": random_rows(range(100, 110), 1), "a": random_rows(range(5), 2), "d": random_rows([7], 3)}
"""What the target holds where it exists."""


CREATION_MOMENTS = range(1, 23)
"""More than creating a collection has."""


@pytest.mark.parametrize(
    ("target_uri", "moments", "mode", "tags", "kept", "loaded"),
    [
        ("lite", CREATION_MOMENTS, "skip", None, None, ["_default", "a", "b", "c", "d"]),
        ("lite", CREATION_MOMENTS, "skip", ["a", "b"], ["_default", "a", "d"], ["b"]),
        ("lite", CREATION_MOMENTS, "append", ["b", "c"], ["_default", "a", "d"], ["b", "c"]),
        ("lite", CREATION_MOMENTS, "overwrite", None, [], ["_default", "a", "b", "c", "d"]),
        ("lite", CREATION_MOMENTS, "overwrite", ["a", "b"], ["_default", "d"], ["a", "b"]),
        ("server", CREATION_MOMENTS[::3], "skip", None, None, ["_default", "a", "b", "c", "d"]),
        ("server", CREATION_MOMENTS[2::3], "overwrite", ["_default", "a"], ["d"], ["_default", "a"]),
        *(
            pytest.param("server", CREATION_MOMENTS, mode, tags, kept, loaded, marks=pytest.mark.long)
            for mode, tags, kept, loaded in [
                ("skip", None, None, ["_default", "a", "b", "c", "d"]),
                ("overwrite", ["_default", "a"], ["d"], ["_default", "a"]),
            ]
        ),
    ],
    indirect=["target_uri"],
)
def test_a_creation_killed_at_any_moment_is_repeated(
    client: MilvusClient,
    tmp_path: Path,
    moments: Sequence[int],
    mode: str,
    tags: list[str] | None,
    kept: list[str] | None,
    loaded: list[str],
) -> None:
    """A server needs seconds for each moment: it is killed at some of them, or in the long form at all."""
    names = [f"c{moment:02}" for moment in moments]
    directory = write_directory(tmp_path / "milvus", {name: PARTITIONS | {"c": range(3), "d": []} for name in names})
    if kept is not None:
        for name in names:
            make_collection(client, name, OTHER)
        load_all(client, names)
    killed = 0
    for moment, name in zip(moments, names, strict=True):
        chain = Chain(directory.path, client, id_scope="partition")
        plans = chain.plan({name: tags})
        if create(client, plans[0], mode, moment) is None:
            killed += 1
            created, faults = chain.create(plans, mode)
            assert not faults
            report = chain.verify(plans, created, chain.load(plans, created))[name]
            assert report.status == VERIFIED
            assert own_names(client, name) == []
    assert 2 <= killed < len(names)
    assert killed >= 4 or len(names) < len(CREATION_MOMENTS)
    expected = {tag: OTHER[tag] for tag in kept or []}
    assert stored_in_all(client, names[:killed]) == {
        name: expected | {tag: directory.live(name, tag) for tag in loaded} for name in names[:killed]
    }
