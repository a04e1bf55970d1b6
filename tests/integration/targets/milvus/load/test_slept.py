"""Load processes that are suspended (SIGSTOP), and continue after others have finished their work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.report import VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus import fence
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.runs import Run
from airflow_provider_milvusdm.targets.milvus.units import address_units
from tests.support.chain import Chain
from tests.support.collections_2x import make_collection, stored
from tests.support.directories import random_vectors, write_directory
from tests.support.loads import REQUEST_SECONDS, Sleeper, TryStore, loading
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.tcp_proxy import cutting_proxy

DIMENSION = 512
SETTLED_SECONDS = 1
"""In which all that is sent arrives."""
ROWS = 6_000
OLD = {"_default": dict(enumerate(map(bytes, random_vectors(50, 7, DIMENSION)), 10**6))}
"""What the target of an append holds at first."""
BATCHES = [128 << 10, 512 << 10, 1 << 20]
"""Bytes in a request: a large one is sent in parts, each after the server has received the one before."""
TRIES = [pytest.param(number, marks=pytest.mark.long if number else ()) for number in range(20)]


class OtherRun:
    """What a run knows about a suspended one: it is over, and may wake."""

    own = Run("dag", "second")

    def is_over(self, run: Run) -> bool:
        return True

    def may_wake(self, run: Run) -> bool:
        return True


class Slept:
    """A migration whose load is a process that is suspended at a moment that depends on `number`."""

    def __init__(self, uri: str, client: MilvusClient, directory: Milvus1xDirectory, noted: TryStore) -> None:
        self.uri, self.client, self.directory, self.noted = uri, client, directory, noted
        self.chain = Chain(directory.path, client)
        [self.plan] = self.chain.plan()
        self.made: Any = None

    @contextmanager
    def asleep(self, mode: str, number: int, uri: str = "", then: Callable[[], object] = bool) -> Iterator[Sleeper]:
        """`uri`: where the process reaches the target; `then` is called just before it is suspended."""
        if mode == "append":
            make_collection(self.client, "news", OLD, dimension=DIMENSION, loaded=True)
        [self.made] = self.create(mode)
        [unit] = address_units([self.plan], [self.made])
        batch_bytes = BATCHES[number % len(BATCHES)]
        with loading(uri or self.uri, unit, self.noted, batch_bytes) as sleeper:
            sleeper.stop(int(np.random.default_rng(number).integers(1, ROWS * 2 // 3)), then)
            yield sleeper

    def create(self, mode: str, **options: Any) -> Any:
        created, faults = self.chain.create([self.plan], mode, **options)
        assert faults == {}
        return created

    def retry(self) -> Any:
        """Load in this process, as a second attempt of the same task."""
        [unit] = address_units([self.plan], [self.made])
        return [load_unit(self.client, unit, self.noted.given_up())]

    def verify(self, loaded: Any) -> CollectionReport:
        return self.chain.verify([self.plan], [self.made], loaded, verify="full")["news"]

    def assert_exact(self, mode: str) -> None:
        """Each row is stored once, bit for bit."""
        old = OLD["_default"] if mode == "append" else {}
        assert stored(self.client, "news") == {"_default": {**old, **self.directory.live("news")}}
        assert self.client.list_collections() == ["news"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Milvus1xDirectory:
    path = tmp_path_factory.mktemp("slept") / "milvus"
    return write_directory(path, {"news": {"_default": range(ROWS)}}, dimension=DIMENSION)


@pytest.fixture
def slept(
    server_client: MilvusClient,
    empty_milvus_server_uri: str,
    directory: Milvus1xDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Slept:
    monkeypatch.setattr(fence, "REQUEST_SECONDS", REQUEST_SECONDS)
    return Slept(empty_milvus_server_uri, server_client, directory, TryStore(tmp_path))


@pytest.mark.parametrize("mode", ["skip", "append"])
@pytest.mark.parametrize("number", TRIES)
def test_a_load_that_slept_writes_nothing_into_what_another_run_finished(slept: Slept, mode: str, number: int) -> None:
    """Including the request that was half sent when it was suspended."""
    with slept.asleep(mode, number) as sleeper:
        [slept.made] = slept.create(mode, runs=OtherRun())
        assert slept.made.action == "resumed"
        slept.chain.stores.clear()
        assert slept.verify(slept.chain.load([slept.plan], [slept.made])).status == VERIFIED
        said = sleeper.wake()
    assert sleeper.process.returncode == 1
    assert any(error in said for error in ("Error", "MilvusException", "DescribeCollectionException"))
    slept.assert_exact(mode)


@pytest.mark.parametrize(("mode", "woken"), [("skip", "loaded"), ("append", "verified")])
@pytest.mark.parametrize("number", TRIES)
def test_an_attempt_that_slept_writes_nothing_once_its_retry_has_begun(
    slept: Slept, mode: str, woken: str, number: int
) -> None:
    """Airflow gives an attempt up after minutes; a request that was half sent is refused by then."""
    with slept.asleep(mode, number) as sleeper:
        time.sleep(REQUEST_SECONDS)
        loaded = slept.retry()
        if woken == "verified":
            assert slept.verify(loaded).status == VERIFIED
        said = sleeper.wake()
    assert sleeper.process.returncode == 1
    assert "TargetError" in said or "DEADLINE_EXCEEDED" in said
    if woken == "loaded":
        assert slept.verify(loaded).status == VERIFIED
    slept.assert_exact(mode)


@pytest.mark.parametrize("number", TRIES)
def test_requests_that_a_network_held_back_write_nothing_once_a_retry_has_begun(slept: Slept, number: int) -> None:
    """They arrive whole, and a server counts the seconds of a request from its arrival."""

    def hold_back() -> None:
        proxy.hold()
        time.sleep(SETTLED_SECONDS)

    with cutting_proxy(slept.uri) as proxy, slept.asleep("append", number, proxy.uri, hold_back) as sleeper:
        time.sleep(REQUEST_SECONDS)
        assert slept.verify(slept.retry()).status == VERIFIED
        proxy.release()
        time.sleep(SETTLED_SECONDS)
        sleeper.wake()
    assert sleeper.process.returncode == 1
    slept.assert_exact("append")
