"""Processes that sleep after they have looked at the target, and wake once another run has loaded and verified it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pymilvus.decorators
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import LateError, TargetError
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection
from airflow_provider_milvusdm.targets.milvus.prepare.sync import Changes
from tests.support.chain import Chain
from tests.support.collections_2x import load_all, make_collection, marker, stored
from tests.support.directories import random_rows, write_directory
from tests.support.grpc_proxy import HoldingProxy, holding_proxy
from tests.support.killed import Sleeping, wake
from tests.support.targets import milvus_client

IDS = {"_default": range(50), "a": range(100, 130)}


class Loaded:
    """A collection that is loaded, and a later copy of its source."""

    def __init__(self, client: MilvusClient, path: Path) -> None:
        self.client = client
        first = write_directory(path / "first", {"news": IDS})
        assert Chain(first.path, client).run()["news"].status == VERIFIED
        self.later = write_directory(path / "later", {"news": IDS}, seed=9)
        self.chain = Chain(self.later.path, client)

    def overwrite(self, tag: str) -> None:
        run = self.chain.run({"news": [tag]}, "overwrite", create_index=False)
        assert run["news"].status == VERIFIED

    def assert_overwritten(self, tag: str) -> None:
        load_all(self.client, ["news"])
        assert stored(self.client, "news").get(tag) == self.later.live("news", tag)
        assert marker(self.client, "news")["state"] == "complete"


@pytest.fixture
def existing(server_client: MilvusClient, tmp_path: Path) -> Loaded:
    return Loaded(server_client, tmp_path)


def test_a_partition_that_was_released_before_the_process_slept_is_not_dropped(
    existing: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing.client.release_collection("news")  # a server drops no partition that another run has loaded

    def sleep() -> None:
        existing.overwrite("a")
        wake(monkeypatch)

    [plan] = existing.chain.plan({"news": ["a"]})
    slow: Any = Sleeping(existing.client, "drop_partition", sleep)
    with pytest.raises(LateError, match="was not sent"):
        create_collection(slow, plan, "overwrite", create_index=False)
    existing.assert_overwritten("a")


def sleep_between_attempts(
    proxy: HoldingProxy, method: str, meanwhile: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let pymilvus repeat a request that no server took, and sleep before that."""
    proxy.refused[method] = grpc.StatusCode.UNAVAILABLE

    def sleep(seconds: float) -> None:
        monkeypatch.undo()
        proxy.refused.clear()
        meanwhile()
        wake(monkeypatch)

    monkeypatch.setattr(pymilvus.decorators.time, "sleep", sleep)


def test_a_deletion_that_is_repeated_has_the_deadline_of_its_first_attempt(
    existing: Loaded, empty_milvus_server_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [plan] = existing.chain.plan({"news": ["_default"]})
    with holding_proxy(empty_milvus_server_uri) as proxy, milvus_client(proxy.uri) as client:
        sleep_between_attempts(proxy, "Delete", lambda: existing.overwrite("_default"), monkeypatch)
        with pytest.raises(LateError, match="was not sent"):
            create_collection(client, plan, "overwrite")
    existing.assert_overwritten("_default")


def append_left_half_done(existing: Loaded, path: Path) -> tuple[Chain, dict[int, bytes]]:
    """An append of which no row was written yet, and its rows."""
    more = write_directory(path / "more", {"news": {"_default": range(1000, 1010)}})
    chain = Chain(more.path, existing.client)
    create_collection(existing.client, chain.plan()[0], "append")
    return chain, more.live("news")


def assert_appended(existing: Loaded, rows: dict[int, bytes]) -> None:
    assert rows.items() <= stored(existing.client, "news")["_default"].items()
    assert marker(existing.client, "news")["state"] == "complete"


def test_an_abandon_that_slept_while_it_loaded_the_collection_removes_nothing_that_another_run_has_loaded(
    existing: Loaded, tmp_path: Path
) -> None:
    chain, rows = append_left_half_done(existing, tmp_path)
    existing.client.release_collection("news")

    def sleep() -> None:
        assert chain.run(mode="append")["news"].status == VERIFIED

    slow: Any = Sleeping(existing.client, "load_collection", sleep)
    with pytest.raises(TargetError, match="Another run or program has changed collection 'news'"):
        create_collection(slow, chain.plan()[0], "abandon")
    assert_appended(existing, rows)


def test_an_abandon_that_slept_before_it_sets_its_marker_sets_none_over_that_of_a_newer_run(
    existing: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, rows = append_left_half_done(existing, tmp_path)

    def sleep() -> None:
        assert chain.run(mode="append")["news"].status == VERIFIED
        wake(monkeypatch)

    slow: Any = Sleeping(existing.client, "alter_collection_properties", sleep)
    with pytest.raises(LateError, match="was not sent"):
        create_collection(slow, chain.plan()[0], "abandon")
    assert_appended(existing, rows)


def test_a_sync_that_slept_leaves_the_index_that_another_run_verified_and_loaded(
    server_client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the collection without an index, and the first one creates it."""
    make_collection(server_client, "news", {"_default": random_rows(range(5), 7)})
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100, 120)}})
    chain, find = Chain(directory.path, server_client), Changes.find
    [plan] = chain.plan()

    def sleep(changes: Changes) -> None:
        find(changes)
        monkeypatch.undo()
        assert chain.run(mode="sync")["news"].status == VERIFIED

    monkeypatch.setattr(Changes, "find", sleep)
    with pytest.raises(TargetError, match="Another run or program has changed collection 'news'"):
        create_collection(server_client, plan, "sync", max_deletions=1)
    assert stored(server_client, "news") == {"_default": directory.live("news")}
