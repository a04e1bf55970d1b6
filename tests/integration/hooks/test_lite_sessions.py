"""Each task opens a Milvus Lite file again, and with each closing the file's collections are released."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_milvusdm.report import VERIFIED, CollectionReport
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from tests.support.chain import Chain
from tests.support.collections_2x import make_collection, stored
from tests.support.directories import random_rows, write_directory
from tests.support.killed import Checkpoints, load
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.targets import milvus_client

THERE = {"_default": random_rows(range(100, 130), 1), "a": random_rows(range(100, 130), 2)}
PARTITIONS = {"_default": range(30), "a": range(30), "b": range(30)}


def migrate_in_sessions(
    uri: str, directory: Milvus1xDirectory, mode: str, *, kill: int = 0, create_index: bool = True
) -> CollectionReport:
    """Each step, and each attempt at a unit, in a session of its own."""
    with milvus_client(uri) as client:
        [plan] = Chain(directory.path, client).plan()
    with milvus_client(uri) as client:
        created = create_collection(client, plan, mode, create_index=create_index, id_scope="partition")
    loads = []
    for unit in address_units([plan], [created]):
        checkpoints = Checkpoints()
        if kill:
            with milvus_client(uri) as client:
                assert load(client, unit, checkpoints, kill) is None
        with milvus_client(uri) as client:
            loads.append(load_unit(client, unit, checkpoints))
    with milvus_client(uri) as client:
        return verify_collection(client, plan, created, loads, create_index=create_index)


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": PARTITIONS})


@pytest.mark.parametrize("kill", [0, 3, 7])
@pytest.mark.parametrize("create_index", [True, False])
@pytest.mark.parametrize(
    ("mode", "metric", "kept"), [("skip", None, False), ("append", "L2", True), ("append", None, True)]
)
def test_steps_in_sessions_of_their_own(
    milvus_lite_uri: str,
    directory: Milvus1xDirectory,
    mode: str,
    metric: str | None,
    kept: bool,
    create_index: bool,
    kill: int,
) -> None:
    before = THERE if kept else {}
    if kept:
        with milvus_client(milvus_lite_uri) as client:
            make_collection(client, "news", THERE, metric=metric)
    report = migrate_in_sessions(milvus_lite_uri, directory, mode, kill=kill, create_index=create_index)
    assert (report.status, report.faults) == (VERIFIED, ())
    with milvus_client(milvus_lite_uri) as client:
        assert bool(client.list_indexes("news")) == bool(create_index or metric)
        client.load_collection("news")
        assert stored(client, "news") == {tag: before.get(tag, {}) | directory.live("news", tag) for tag in PARTITIONS}


def test_a_second_migration_replaces_the_first_in_sessions_of_its_own(
    milvus_lite_uri: str, directory: Milvus1xDirectory
) -> None:
    for mode in ("skip", "overwrite"):
        assert migrate_in_sessions(milvus_lite_uri, directory, mode, kill=5).status == VERIFIED
    with milvus_client(milvus_lite_uri) as client:
        client.load_collection("news")
        assert stored(client, "news") == {tag: directory.live("news", tag) for tag in PARTITIONS}
