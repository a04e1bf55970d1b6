"""A server's disk quota is used up during a load: a clear error, and a retry that continues once there is space."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient, MilvusException

from airflow_provider_milvusdm.exceptions import DeniedError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.targets.milvus.load import writer
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import list_jobs
from airflow_provider_milvusdm.targets.milvus.units import address_units
from tests.support.bulk_imports import disk, import_unit
from tests.support.chain import Chain
from tests.support.collections_2x import called, stored_in_all
from tests.support.directories import write_directory
from tests.support.killed import Checkpoints
from tests.support.milvus_servers import MilvusAddress, milvus_server
from tests.support.processes import wait_until
from tests.support.reading import assert_in_order
from tests.support.targets import milvus_client

NAMES = ["imported", "inserted"]
ROWS, DIMENSION = 20_000, 32
"""2.5 MB; half of them exceed the quota."""
QUOTA = {
    "QUOTAANDLIMITS_ENABLED": "true",
    "QUOTAANDLIMITS_LIMITWRITING_DISKPROTECTION_DISKQUOTA": "1",
    "QUOTAANDLIMITS_QUOTACENTERCOLLECTINTERVAL": "0.5",
}
LEASE = {"COMMON_SESSION_TTL": "3"}
"""Seconds that a server waits until its former sessions expire."""


class FillingUp(Checkpoints):
    """Checkpoints of a load that, after half of the rows, waits until the server notices that it is full."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.uri = uri

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        if value["done"] >= ROWS // 2:
            with milvus_client(self.uri) as client:
                wait_until_full(client)


def wait_until_full(client: MilvusClient) -> None:
    client.flush(called(client, "inserted"))  # what isn't on the disk does not count
    wait_until(lambda: is_full(client), 60, lambda: "the server takes writes still")


def is_full(client: MilvusClient) -> bool:
    try:
        client.delete(called(client, "inserted"), ids=[-1])
    except MilvusException as error:
        return "disk quota exceeded" in error.message
    return False


@contextmanager
def configured_server(folder: Path, settings: dict[str, str]) -> Iterator[MilvusAddress]:
    """A server with other settings on the data in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        with milvus_server(folder) as server:
            yield server


def test_a_load_ends_with_the_message_of_the_server_and_continues_when_there_is_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BATCH_ROWS", 1_000)
    monkeypatch.setattr(writer, "STRIDE_BATCHES", 3)
    rows = {name: {"_default": range(ROWS)} for name in NAMES}
    directory = write_directory(tmp_path / "milvus", rows, dimension=DIMENSION)
    store, notes = disk(tmp_path / "import"), Checkpoints()

    with configured_server(tmp_path / "server", LEASE | QUOTA) as server:
        monkeypatch.setenv(
            "AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps({"conn_type": "milvus", "extra": {"uri": server.uri}})
        )
        with MilvusHook().client() as client:
            chain = Chain(directory.path, client)
            plans = chain.plan()
            created, _ = chain.create(plans)
            imported, inserted = address_units(plans, created)
        checkpoints = FillingUp(server.uri)
        said = [
            "Milvus refuses",
            server.uri,
            "Expected",
            "found quota exceeded",
            "disk",
            "Free some space",
            "continues",
        ]
        with pytest.raises(DeniedError) as fault, MilvusHook().client() as client:
            load_unit(client, inserted, checkpoints)
        assert_in_order(str(fault.value), said)
        with pytest.raises(DeniedError) as fault, MilvusHook().client() as client:
            import_unit(client, imported, notes, store)
        assert_in_order(str(fault.value), said)

    assert ROWS // 2 <= checkpoints["checkpoint"]["done"] < checkpoints["checkpoint"]["intended"] <= ROWS
    with configured_server(tmp_path / "server", LEASE) as server, milvus_client(server.uri) as client:
        assert load_unit(client, inserted, Checkpoints(checkpoints)).rows == {"_default": ROWS}
        assert import_unit(client, imported, notes, store).rows == {"_default": ROWS}
        assert len(list_jobs(client, called(client, "imported"))) == 1
        assert stored_in_all(client, NAMES) == {name: {"_default": directory.live(name)} for name in NAMES}
