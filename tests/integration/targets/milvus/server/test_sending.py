"""Requests that are held up: this process is suspended where nothing can look at a clock, or the target hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import LateError
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot
from airflow_provider_milvusdm.targets.milvus.server.queries import delete_all, delete_ids
from airflow_provider_milvusdm.targets.milvus.server.requests import WriteRequests
from airflow_provider_milvusdm.targets.milvus.server.sending import is_connected, sent_before
from tests.support.collections_2x import make_collection, stored
from tests.support.grpc_proxy import holding_proxy
from tests.support.processes import wait_until
from tests.support.targets import milvus_client
from tests.support.tcp_proxy import cutting_proxy

SECONDS = 2.0
ROWS = {1: np.full(8, 0.5, "<f4").tobytes()}
BATCH = VectorBatch(np.array([2], np.int64), np.full((1, 8), 0.25, np.float32))
TARGET = TargetCollection("news")


class SuspendedChannel:
    """A connection whose process is suspended between asking for a request's timeout and sending the request."""

    def __init__(self, channel: Any) -> None:
        self.channel, self.asleep = channel, True

    def __getattr__(self, kind: str) -> Any:
        return lambda *args, **kwargs: Suspended(self, getattr(self.channel, kind)(*args, **kwargs))


class Suspended:
    def __init__(self, channel: SuspendedChannel, call: Any) -> None:
        self.channel, self.call = channel, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.sleep()
        return self.call(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        self.sleep()
        return self.call.future(*args, **kwargs)

    def sleep(self) -> None:
        if self.channel.asleep:
            time.sleep(SECONDS + 0.5)
            self.channel.asleep = False


class ReplacedChannel:
    """A connection that is replaced by another while its first request is sent; notes the methods of its requests."""

    def __init__(self, handler: Any) -> None:
        self.handler, self.channel, self.methods = handler, handler._final_channel, list[str]()

    def __getattr__(self, kind: str) -> Any:
        def make_call(method: str, **kwargs: Any) -> Any:
            self.methods.append(method.rpartition("/")[2])
            if len(self.methods) == 1:
                self.handler.reconnect()
            return getattr(self.channel, kind)(method, **kwargs)

        return make_call


def deadline() -> float:
    return seconds_since_boot() + SECONDS


def in_a_minute() -> float:
    return seconds_since_boot() + 60


def insert(client: MilvusClient) -> None:
    WriteRequests(client, TARGET, deadline).insert("_default", BATCH)


def upsert(client: MilvusClient) -> None:
    WriteRequests(client, TARGET, deadline).upsert("_default", BATCH)


def delete(client: MilvusClient) -> None:
    delete_ids(client, TARGET, "_default", [1], deadline)


def empty(client: MilvusClient) -> None:
    delete_all(client, TARGET, "_default", deadline)


def drop(client: MilvusClient) -> None:
    with sent_before(client, deadline()) as timeout:
        client.drop_collection("news", timeout=timeout)


WRITES = [insert, upsert, delete, empty, drop]


@pytest.mark.parametrize("write", WRITES)
def test_a_request_of_a_process_that_was_suspended_while_sending_it_changes_nothing(
    client: MilvusClient, write: Callable[[MilvusClient], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection(client, "news", {"_default": ROWS}, loaded=True)
    handler = client._get_connection()
    monkeypatch.setattr(handler, "_final_channel", SuspendedChannel(handler._final_channel))
    with pytest.raises(LateError, match="a deadline that was over"):
        write(client)
    assert stored(client, "news") == {"_default": ROWS}


@pytest.mark.parametrize("write", WRITES)
def test_a_request_in_time_has_its_effect(client: MilvusClient, write: Callable[[MilvusClient], None]) -> None:
    make_collection(client, "news", {"_default": ROWS}, loaded=True)
    write(client)
    assert not client.has_collection("news") or stored(client, "news") != {"_default": ROWS}


def test_a_message_follows_its_headers_on_their_connection_even_if_pymilvus_replaces_it_in_between(
    client: MilvusClient,
) -> None:
    make_collection(client, "news", {"_default": ROWS}, loaded=True)
    handler = client._get_connection()
    requests = WriteRequests(client, TARGET, in_a_minute)
    handler._final_channel = channel = ReplacedChannel(handler)
    requests.insert("_default", BATCH)
    assert channel.methods == ["Insert", "GetVersion"]


def test_headers_are_sent_once_a_broken_connection_is_replaced(
    server_client: MilvusClient, empty_milvus_server_uri: str
) -> None:
    """What waits for a connection is sent in any order."""
    make_collection(server_client, "news", {"_default": ROWS})
    with (
        holding_proxy(empty_milvus_server_uri) as target,
        cutting_proxy(target.uri) as proxy,
        milvus_client(proxy.uri) as client,
    ):
        requests, handler = WriteRequests(client, TARGET, in_a_minute), client._get_connection()
        assert is_connected(handler)
        proxy.cut(unheard=False)
        wait_until(lambda: not is_connected(handler), 10, lambda: "connected")
        target.asked.clear()
        requests.insert("_default", BATCH)
    assert target.asked == ["GetVersion", "GetVersion", "Insert"]
