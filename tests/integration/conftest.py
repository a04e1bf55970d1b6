"""Clients of each kind of target."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from pymilvus import MilvusClient
from pymilvus.client import grpc_handler

from airflow_provider_milvusdm.targets.milvus.prepare import publish
from tests.support.targets import milvus_client

POLL_SECONDS = 0.1


@pytest.fixture(autouse=True, scope="session")
def short_polls() -> Iterator[None]:
    """pymilvus looks every half second whether a flush or an index is done, which with few rows is soon."""
    clock = SimpleNamespace(time=time.time, sleep=lambda seconds: time.sleep(min(seconds, POLL_SECONDS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpc_handler, "time", clock)
        yield


@pytest.fixture(autouse=True)
def without_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads a collection while it is replaced; tests with readers wait for them."""
    monkeypatch.setattr(publish, "READERS_SECONDS", 0)


@pytest.fixture
def client(target_uri: str) -> Iterator[MilvusClient]:
    """A client of an empty target, of each kind in turn."""
    with milvus_client(target_uri) as client:
        yield client


@pytest.fixture
def server_client(empty_milvus_server_uri: str) -> Iterator[MilvusClient]:
    """A client of an empty server, for what Milvus Lite can't."""
    with milvus_client(empty_milvus_server_uri) as client:
        yield client


@pytest.fixture
def lite_client(milvus_lite_uri: str) -> Iterator[MilvusClient]:
    """A client of an empty Milvus Lite file."""
    with milvus_client(milvus_lite_uri) as client:
        yield client
