"""A 1.x server that still writes between inspect and load is noticed, whatever it does to its files."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import ChangedSourceError, SourceError
from airflow_provider_milvusdm.report import FAILED, VERIFIED
from airflow_provider_milvusdm.rows.reader import read_slices
from tests.support.chain import Chain, inspect_directory
from tests.support.directories import DIMENSION, random_vectors
from tests.support.milvus1x_catalog import write_sqlite_catalog
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, Log
from tests.support.milvus1x_rows import Table
from tests.support.reading import assert_in_order


@dataclass
class Server:
    """A directory, and what a server can do to it."""

    path: Path

    def directory(self, *, deleted: int = 0, merged: bool = False) -> tuple[Milvus1xDirectory, Table]:
        """Not written yet."""
        directory = Milvus1xDirectory(self.path)
        news = directory.collection("news", dimension=DIMENSION)
        vectors = random_vectors(150, seed=1)
        if merged:
            directory.segment(news, range(150), vectors, segment_id="3")
        else:
            directory.segment(news, range(100), vectors[:100], deleted=range(deleted), segment_id="1")
            directory.segment(news, range(100, 150), vectors[100:], segment_id="2")
        return directory, news

    def flush_new_rows(self) -> None:
        directory, news = self.directory()
        directory.segment(news, [150], random_vectors(1, seed=2), segment_id="3")
        write_sqlite_catalog(directory.catalog_path, directory.catalog)

    def delete_in_the_catalog_alone(self) -> None:
        directory, _ = self.directory(deleted=1)
        write_sqlite_catalog(directory.catalog_path, directory.catalog)

    def delete(self) -> None:
        offsets = struct.pack("<Qi", 4, 7)
        (self.path / "db" / "tables" / "news" / "1" / "deleted_docs").write_bytes(offsets)

    def append(self) -> None:
        for suffix, row_bytes in (("uid", 8), ("rv", DIMENSION * 4)):
            file = self.path / "db" / "tables" / "news" / "2" / f"2.{suffix}"
            content = file.read_bytes() + bytes(row_bytes)
            file.write_bytes(struct.pack("<Q", len(content) - 8) + content[8:])

    def merge(self) -> None:
        for number in "12":
            shutil.rmtree(self.path / "db" / "tables" / "news" / number)
        directory, _ = self.directory(merged=True)
        directory.write()

    def log_a_deletion(self) -> None:
        log = Log(self.path / "wal")
        log.add(DELETE, "news", ids=(1,))
        log.write()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = Server(tmp_path / "milvus")
    server.directory()[0].write()
    return server


@dataclass
class ChangedChain(Chain):
    """A migration of a source that changes before it's loaded."""

    change: Callable[[], None] = lambda: None

    def load(self, plans: Any, created: Any) -> Any:
        self.change()
        return super().load(plans, created)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (Server.flush_new_rows, "partition '_default', segment news/3: none then, 1 rows now"),
        (Server.delete_in_the_catalog_alone, "partition '_default', segment news/1: 100 rows then, 99 rows now"),
        (Server.log_a_deletion, "log: up to lsn 0 then, 33 now"),
    ],
    ids=["new segment", "deletion", "log"],
)
def test_a_change_outside_the_files_that_are_read_fails_the_collection(
    server: Server, lite_client: MilvusClient, change: Callable[[Server], None], found: str
) -> None:
    chain = ChangedChain(server.path, lite_client, change=lambda: change(server))
    report = chain.run()["news"]
    assert report.status == FAILED
    [fault] = report.faults
    assert_in_order(fault, ["Collection 'news' of the source changed", found, "Stop the 1.x server"])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (Server.delete, ["Segment news/1 changed", "1/deleted_docs", "12 bytes, written", "start a new run"]),
        (Server.append, ["Segment news/2 changed", "/2/2.", "written", "start a new run"]),
        (Server.merge, ["folder is gone", "news/1", "may have merged the segment", "start a new run"]),
    ],
    ids=["delete", "append", "merge"],
)
def test_a_segment_that_changes_stops_its_load(
    server: Server, lite_client: MilvusClient, change: Callable[[Server], None], parts: list[str]
) -> None:
    chain = ChangedChain(server.path, lite_client, change=lambda: change(server))
    with pytest.raises(SourceError) as fault:
        chain.run()
    assert_in_order(str(fault.value), parts)


def test_a_segment_that_changes_while_it_is_read_is_noticed_after_its_last_batch(
    server: Server, lite_client: MilvusClient
) -> None:
    [plan] = Chain(server.path, lite_client).plan()
    [unit] = plan.units
    batches = read_slices(unit.source, unit.collection, unit.slices, 100)
    next(batches)
    server.delete()
    with pytest.raises(ChangedSourceError, match="news/1 changed"):
        next(batches)


def test_an_unchanged_source_is_no_fault(server: Server, lite_client: MilvusClient) -> None:
    report = Chain(server.path, lite_client).run()["news"]
    assert (report.status, report.faults, report.notes) == (VERIFIED, (), ())


LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the lock that a running server holds."""
    path.parent.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate()


@pytest.mark.parametrize("name", ["lock", "wal/lock"])
def test_a_running_server_is_noted_in_the_report(server: Server, name: str) -> None:
    with locked(server.path / name):
        [group] = inspect_directory(server.path, "*")
    assert ["server has the directory open" in note for note in group.notes] == [True]
    [group] = inspect_directory(server.path, "*")
    assert group.notes == ()
