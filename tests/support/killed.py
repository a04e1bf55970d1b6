"""Steps that are killed: before or after any of their writes and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Lock
from typing import Any

import grpc
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, Loaded
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.targets.milvus.fence import REQUEST_SECONDS
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection
from airflow_provider_milvusdm.targets.milvus.server import deadline
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot

WRITES = {
    "delete",
    "flush",
    "create_collection",
    "drop_collection",
    "drop_index",
    "create_index",
    "create_partition",
    "drop_partition",
    "release_partitions",
    "alter_collection_properties",
    "rename_collection",
    "create_alias",
    "alter_alias",
    "drop_alias",
}
ROWS = {"Insert", "Upsert"}
"""Writes that go over the client's channel."""


class KilledError(BaseException):
    """Stands for a SIGKILL."""


class Fuse:
    """Kills at the given moment (0: never): each write and each checkpoint has one before it and one after it.

    Concurrent calls are killed at their own next moment.
    """

    def __init__(self, moment: int) -> None:
        self.moment, self.burnt = moment, 0
        self.lock = Lock()

    def burn(self) -> None:
        with self.lock:
            self.burnt += 1
            if 0 < self.moment <= self.burnt:
                raise KilledError


class FusedChannel(grpc.StreamUnaryClientInterceptor):
    """Kills before or after requests that write rows."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def intercept_stream_unary(self, continuation: Any, details: Any, parts: Any) -> Any:
        if details.method.rpartition("/")[2] not in ROWS:
            return continuation(details, parts)
        self._fuse.burn()
        return FusedAnswer(continuation(details, parts), self._fuse)


class FusedAnswer:
    """Kills once the answer is there."""

    def __init__(self, answer: Any, fuse: Fuse) -> None:
        self._answer, self._fuse = answer, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)

    def result(self) -> Any:
        result = self._answer.result()
        self._fuse.burn()
        return result


class FusedHandler:
    """A connection to a real target."""

    def __init__(self, handler: Any, fuse: Fuse) -> None:
        self._handler, self._fuse = handler, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    @property
    def _final_channel(self) -> grpc.Channel:
        return grpc.intercept_channel(self._handler._final_channel, FusedChannel(self._fuse))


class FusedClient:
    """A client of a real target."""

    def __init__(self, client: MilvusClient, fuse: Fuse) -> None:
        self._client, self._fuse = client, fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._fused(method) if name in WRITES else method

    def _get_connection(self) -> FusedHandler:
        return FusedHandler(self._client._get_connection(), self._fuse)

    def _fused(self, method: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self._fuse.burn()
            result = method(*arguments, **keywords)
            self._fuse.burn()
            return result

        return call


class Sleeping:
    """A client that sleeps before a call of `method` (the first); meanwhile something else happens."""

    def __init__(self, client: MilvusClient, method: str, meanwhile: Callable[[], object], call: int = 1) -> None:
        self.client, self.method, self.meanwhile, self.left = client, method, meanwhile, call

    def __getattr__(self, name: str) -> Any:
        if name == self.method:
            self.left -= 1
            if self.left == 0:
                self.meanwhile()
        return getattr(self.client, name)


def wake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process that slept find that its deadlines are over."""
    clock = seconds_since_boot() + 2 * REQUEST_SECONDS
    monkeypatch.setattr(deadline, "seconds_since_boot", lambda: clock)


class Checkpoints(dict[str, Any]):
    """A checkpoint store of JSON values, as Airflow's is: `get` is a dictionary's own."""

    def set(self, key: str, value: Any) -> None:
        assert value == json.loads(json.dumps(value))
        self[key] = value


class WatchedCheckpoints(Checkpoints):
    """Calls `then` after a given number of notes."""

    def __init__(self, note: int, then: Callable[[], object]) -> None:
        super().__init__()
        self.left, self.then = note, then

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        self.left -= 1
        if self.left == 0:
            self.then()


class FusedStore:
    """A checkpoint store over `values`, which outlive the killed load."""

    def __init__(self, values: dict[str, Any], fuse: Fuse) -> None:
        self.values, self.fuse = values, fuse

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.fuse.burn()
        self.values[key] = value
        self.fuse.burn()


def load(client: MilvusClient, unit: LoadUnit, values: dict[str, Any], moment: int = 0) -> Loaded | None:
    """Load `unit`; None where it was killed."""
    fuse = Fuse(moment)
    fused: Any = FusedClient(client, fuse)
    try:
        return load_unit(fused, unit, FusedStore(values, fuse))
    except KilledError:
        return None


def create(
    client: MilvusClient, plan: CollectionPlan, mode: str, moment: int = 0, **options: Any
) -> CreatedCollection | None:
    """Create the target of `plan`; None where it was killed. Options are those of `create_collection`."""
    fused: Any = FusedClient(client, Fuse(moment))
    try:
        return create_collection(fused, plan, mode, **{"id_scope": "partition", **options})
    except KilledError:
        return None
