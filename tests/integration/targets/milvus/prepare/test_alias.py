"""Readers by alias see the old rows or the new ones; an alias is switched only to a verified collection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.config.target_settings import TargetSettings
from airflow_provider_milvusdm.exceptions import LateError, VerificationError
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.operators.milvus import foresee
from airflow_provider_milvusdm.report import FAILED, PLANNED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus.prepare.alias import aliased
from tests.support.chain import Chain
from tests.support.collections_2x import called, make_collection, stored
from tests.support.directories import random_rows, write_directory
from tests.support.killed import Checkpoints, Sleeping, create, wake
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.processes import wait_until
from tests.support.targets import milvus_client

OLD, NEW = range(50), range(100, 170)


def source(path: Path, ids: range = NEW, seed: int = 1) -> Milvus1xDirectory:
    return write_directory(path, {"news": {"_default": ids}}, seed=seed)


def migrate(client: MilvusClient, directory: Milvus1xDirectory, **options: Any) -> CollectionReport:
    return Chain(directory.path, client).run(alias="articles", **options)["news"]


def seen(client: MilvusClient) -> set[int]:
    """Ids that a reader finds by the alias."""
    return {row["id"] for row in client.query("articles", filter="id >= 0", output_fields=["id"], limit=1000)}


@contextmanager
def reader(uri: str, found: list[Any]) -> Iterator[None]:
    """Reads by alias until told to stop, and adds what it sees, or the error, to `found`."""
    ended = threading.Event()

    def read() -> None:
        with milvus_client(uri) as client:
            while not ended.is_set():
                try:
                    found.append(frozenset(seen(client)))
                except Exception as error:  # noqa: BLE001 - the test compares whatever came
                    found.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_reader_sees_the_old_rows_or_the_new(
    server_client: MilvusClient, empty_milvus_server_uri: str, tmp_path: Path
) -> None:
    migrate(server_client, source(tmp_path / "old", OLD))
    found: list[Any] = []
    with reader(empty_milvus_server_uri, found):
        wait_until(lambda: bool(found), 60, lambda: "nothing is read")
        report = migrate(server_client, source(tmp_path / "new"), mode="overwrite", verify="full")
        count = len(found)
        wait_until(lambda: len(found) >= count + 3, 60, lambda: f"{len(found)} of {count + 3} reads")
    assert report.status == VERIFIED
    assert set(found) == {frozenset(OLD), frozenset(NEW)}
    assert sorted(found, key=min) == found


def test_the_former_collection_stays_and_the_report_says_how_to_switch_back(
    client: MilvusClient, tmp_path: Path
) -> None:
    first = migrate(client, source(tmp_path / "old", OLD))
    assert (first.status, first.action, seen(client)) == (VERIFIED, "created", set(OLD))
    assert first.target.startswith("news_")
    assert first.notes[-1] == (
        f"alias articles stands for {first.target} now; client.drop_alias('articles') removes it"
    )
    second = migrate(client, source(tmp_path / "new"))
    assert (second.status, seen(client)) == (VERIFIED, set(NEW))
    assert sorted(client.list_collections()) == sorted([first.target, second.target])
    back = f"client.alter_alias('{first.target}', 'articles')"
    assert back in second.notes[-1]
    eval(back, {"client": client})  # noqa: S307 - as the report's reader would do
    assert seen(client) == set(OLD)


def test_an_alias_of_a_collection_that_was_dropped_is_taken(client: MilvusClient, tmp_path: Path) -> None:
    client.drop_collection(migrate(client, source(tmp_path / "old", OLD)).target)
    assert migrate(client, source(tmp_path / "new")).status == VERIFIED
    assert seen(client) == set(NEW)


@pytest.mark.parametrize("mode", ["skip", "overwrite"])
def test_a_second_run_leaves_what_readers_use_and_verifies_it(
    lite_client: MilvusClient, tmp_path: Path, mode: str
) -> None:
    directory = source(tmp_path / "milvus")
    first = migrate(lite_client, directory)
    second = migrate(lite_client, directory, mode=mode)
    assert (second.status, second.action, second.target) == (VERIFIED, "kept", first.target)
    assert second.notes[-1] == f"alias articles stands for {first.target} already"
    assert stored(lite_client, first.target) == {"_default": directory.live("news")}


def test_switching_an_alias_to_a_collection_that_is_there_needs_approval(
    lite_client: MilvusClient, tmp_path: Path
) -> None:
    """Nothing is loaded, but readers get other rows."""
    new = source(tmp_path / "new")
    first = migrate(lite_client, new).target
    second = migrate(lite_client, source(tmp_path / "old", OLD)).target
    chain = Chain(new.path, lite_client)
    [plan] = chain.plan(alias="articles")
    [created], _ = chain.create([plan], plan_only=True)
    foreseen = foresee(plan, created)
    assert (foreseen.action, foreseen.target, foreseen.aliased) == (Action.KEPT, first, second)
    assert not foreseen.is_harmless
    lite_client.alter_alias(first, "articles")
    [created], _ = chain.create([plan], plan_only=True)
    assert foresee(plan, created).is_harmless


def test_an_approved_alias_is_switched_from_the_collection_that_was_shown_and_from_no_other(
    lite_client: MilvusClient, tmp_path: Path
) -> None:
    """Somebody switches it while the rows are loaded."""
    shown = migrate(lite_client, source(tmp_path / "old", OLD)).target
    chain = Chain(source(tmp_path / "new").path, lite_client)
    plans = chain.plan(alias="articles")
    [created], _ = chain.create(plans)
    loaded = chain.load(plans, [created])
    make_collection(lite_client, "newer", {}, loaded=True)
    lite_client.alter_alias("newer", "articles")
    with pytest.raises(VerificationError, match=f"switched after the plan was approved. Expected {shown}.*found newer"):
        chain.verify(plans, [replace(created, approved_aliased=shown)], loaded)
    assert aliased(lite_client, "articles") == "newer"
    [report] = chain.verify(plans, [replace(created, approved_aliased="newer")], loaded).values()
    assert (report.status, aliased(lite_client, "articles")) == (VERIFIED, plans[0].target.name)


def test_a_killed_run_is_continued_under_the_same_name(lite_client: MilvusClient, tmp_path: Path) -> None:
    directory = source(tmp_path / "milvus")
    [plan] = Chain(directory.path, lite_client).plan(alias="articles")
    created = create(lite_client, plan, "skip")
    report = migrate(lite_client, directory)
    assert created is not None
    assert (report.status, report.action, report.target) == (VERIFIED, "resumed", plan.target.name)
    assert seen(lite_client) == set(NEW)


def test_a_failed_verification_leaves_the_alias(client: MilvusClient, tmp_path: Path) -> None:
    old = migrate(client, source(tmp_path / "old", OLD))
    directory = source(tmp_path / "new")
    [plan] = Chain(directory.path, client).plan(alias="articles")
    report = migrate(
        client,
        directory,
        before_verify=lambda: client.delete(called(client, plan.target.name), ids=[NEW[3]], partition_name="_default"),
    )
    assert report.status == FAILED
    assert (aliased(client, "articles"), seen(client)) == (old.target, set(OLD))


def test_an_alias_that_is_a_collection_is_refused_before_anything_is_touched(
    client: MilvusClient, tmp_path: Path
) -> None:
    make_collection(client, "articles", {"_default": random_rows(OLD, 1)})
    report = migrate(client, source(tmp_path / "milvus"))
    [fault] = report.faults
    assert "Alias 'articles' is the name of a collection of the target" in fault
    assert client.list_collections() == ["articles"]
    eval(fault.split("first: ")[1].rstrip("."), {"client": client})  # noqa: S307 - the cure
    assert migrate(client, source(tmp_path / "again")).status == VERIFIED


@pytest.mark.parametrize(
    ("options", "settings"), [({"create_index": False}, TargetSettings()), ({}, TargetSettings(load=False))]
)
def test_a_collection_that_readers_could_not_search_is_refused(
    lite_client: MilvusClient, tmp_path: Path, options: dict[str, Any], settings: TargetSettings
) -> None:
    chain = Chain(source(tmp_path / "milvus").path, lite_client, settings=settings)
    [fault] = chain.run(alias="articles", **options)["news"].faults
    assert "would give readers a collection that can't be searched" in fault
    assert lite_client.list_collections() == []


def test_a_dry_run_says_what_would_be_switched(lite_client: MilvusClient, tmp_path: Path) -> None:
    report = migrate(lite_client, source(tmp_path / "milvus"), plan_only=True)
    assert report.status == PLANNED
    assert f"alias articles would be switched to {report.target}" in report.notes
    assert lite_client.list_collections() == []


@pytest.mark.parametrize("target_uri", ["lite"], indirect=True)
def test_a_verification_that_is_repeated_alone_does_not_undo_a_newer_cut_over(
    client: MilvusClient, tmp_path: Path
) -> None:
    older = Chain(source(tmp_path / "old", OLD).path, client)
    plans, options = older.plan(alias="articles"), {"store": Checkpoints(), "step_input": "first"}
    created, _ = older.create(plans)
    loaded = older.load(plans, created)
    assert older.verify(plans, created, loaded, **options)["news"].status == VERIFIED
    assert older.verify(plans, created, loaded, **options)["news"].notes[-1].endswith("already")
    assert migrate(client, source(tmp_path / "new")).status == VERIFIED
    again = older.verify(plans, created, loaded, **options)["news"]
    assert again.status == VERIFIED
    assert "it was switched after this run had switched it" in again.notes[-1]
    assert seen(client) == set(NEW)
    older.verify(plans, created, loaded, **options | {"step_input": "cleared from the first task"})
    assert seen(client) == set(OLD)


@pytest.mark.parametrize("method", ["create_alias", "alter_alias"])
def test_a_verification_that_slept_before_it_switches_the_alias_does_not_undo_a_newer_cut_over(
    client: MilvusClient, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "alter_alias":
        assert migrate(client, source(tmp_path / "oldest", range(200, 210))).status == VERIFIED
    older = Chain(source(tmp_path / "old", OLD).path, client)
    plans, options = older.plan(alias="articles"), {"store": Checkpoints(), "step_input": "first"}
    created, _ = older.create(plans)
    loaded = older.load(plans, created)

    def sleep() -> None:
        assert older.verify(plans, created, loaded, **options)["news"].status == VERIFIED
        assert migrate(client, source(tmp_path / "new")).status == VERIFIED
        wake(monkeypatch)

    slow = Chain(older.directory, Sleeping(client, method, sleep))  # type: ignore[arg-type]
    with pytest.raises(LateError, match="was not sent"):
        slow.verify(plans, created, loaded, **options)
    assert seen(client) == set(NEW)
