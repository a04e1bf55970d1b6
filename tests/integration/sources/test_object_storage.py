"""Sources in a bucket of a real S3, reached through an Airflow connection, read by ranges and left as they were."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import (
    ChangedSourceError,
    ConfigurationError,
    DamagedSourceError,
    SourceError,
    SourceNotFoundError,
)
from airflow_provider_milvusdm.hooks.object_storage import open_url
from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric, Slice, SourceRef
from airflow_provider_milvusdm.operators.hdf5 import Hdf5InspectOperator
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.hdf5.inspect import list_hdf5
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage import paths
from airflow_provider_milvusdm.storage.paths import AnyPath, open_urls_with, source_path
from tests.support.chain import Chain, GroupsChain, inspect_directory
from tests.support.collections_2x import stored
from tests.support.directories import random_rows, random_vectors, write_directory
from tests.support.hdf5_inputs import inspect as inspect_hdf5
from tests.support.hdf5_inputs import write_hdf5
from tests.support.milvus1x_log import DELETE, Log
from tests.support.object_storage import Bucket, airflow_connection
from tests.support.rich_directory import PARTITIONS, write_rich_directory
from tests.support.seaweedfs import S3Address, running_seaweedfs
from tests.support.xcom import XComs

COLLECTIONS = ["news", "year$2020"]
"""Collections of the rich directory: together they have every state of segments and partitions."""
ROWS = 3000
IDS = np.arange(-100, ROWS - 100)
VECTORS = random_vectors(ROWS, 1)


@pytest.fixture(autouse=True)
def connections(seaweedfs: S3Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs are opened with Airflow's connections, as in a task."""
    monkeypatch.setattr(paths, "_open_url", paths._open_url)  # restored after the test
    open_urls_with(open_url)
    monkeypatch.setenv("AIRFLOW_CONN_BUCKETS", airflow_connection(seaweedfs))
    monkeypatch.setenv("AIRFLOW_CONN_REFUSED", airflow_connection(seaweedfs, secret_key="another"))


@pytest.fixture
def bucket(seaweedfs: S3Address) -> Bucket:
    return Bucket.make(seaweedfs)


@pytest.fixture
def place(bucket: Bucket) -> Callable[[str], AnyPath]:
    """The path of a key."""
    return lambda key: source_path(f"s3://buckets@{bucket.name}/{key}")


def test_a_directory_arrives_exact_and_is_not_changed(bucket, place, lite_client: MilvusClient, tmp_path: Path):
    directory = write_rich_directory(tmp_path / "milvus")
    bucket.upload(directory.path, "a/milvus")
    before = bucket.contents()
    reports = Chain(place("a/milvus/"), lite_client, id_scope="partition").run(
        COLLECTIONS, rename={"news/新闻": "xinwen"}
    )

    for name in COLLECTIONS:
        target = name.replace("$", "_")
        assert (reports[name].status, reports[name].faults) == (VERIFIED, ())
        assert stored(lite_client, target) == {
            partition: directory.live(name, tag) for tag, partition in PARTITIONS[name].items()
        }
    assert bucket.contents() == before


def test_a_log_is_replayed_and_a_change_is_noticed(bucket, place, lite_client: MilvusClient, tmp_path: Path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(5)}})
    log = Log(directory.path / "wal")
    log.add(DELETE, "news", ids=(1,))
    log.insert("news", "", [1, 7], random_vectors(2, 3))
    log.write()
    bucket.upload(directory.path, "a/milvus")
    report = Chain(place("a/milvus"), lite_client).run()["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    expected = {row_id: vector for row_id, vector in directory.live("news").items() if row_id != 1}
    assert stored(lite_client, "news") == {"_default": expected | random_rows([1, 7], 3)}

    [unit] = resolve_group(inspect_directory(place("a/milvus"), "*")[0]).units
    [deleted_docs] = directory.path.rglob("deleted_docs")
    deleted_docs.write_bytes(struct.pack("<Qi", 4, 0))
    bucket.upload(deleted_docs.parent, f"a/milvus/{deleted_docs.parent.relative_to(directory.path)}")
    with pytest.raises(ChangedSourceError, match="changed since an earlier task read it"):
        list(read_slices(unit.source, unit.collection, unit.slices, 100))


def test_a_segment_folder_that_the_catalog_does_not_name_and_a_missing_file_of_the_log_are_noticed(
    bucket, place, tmp_path: Path
):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(5)}, "other": {"_default": range(3)}})
    log = Log(directory.path / "wal")
    log.insert("other", "", [7], random_vectors(1, 3))
    log.next_file()
    log.insert("other", "", [8], random_vectors(1, 4))
    log.write()
    [segment] = directory.tables_folder.glob("news/*")
    lost = directory.tables_folder / "news" / "77"
    lost.mkdir()
    lost.joinpath("77.uid").write_bytes(segment.joinpath(f"{segment.name}.uid").read_bytes())
    log.folder.joinpath("0.wal").unlink()
    bucket.upload(directory.path, "a/milvus")
    found = {group.name: group.error for group in inspect_directory(place("a/milvus"), "*", unflushed_log="ignore")}
    assert found["other"] == ""
    assert "found 1 with 5 rows: news/77 (5)" in found["news"]
    found = {group.name: group.error for group in inspect_directory(place("a/milvus"), "*", unlisted_segments="ignore")}
    assert all("Expected 0.wal, found none" in error for error in found.values())


@pytest.mark.parametrize("storage", [{}, {"compression": "gzip", "chunks": (100, 4)}], ids=["contiguous", "gzip"])
def test_hdf5_files_arrive_exact(bucket, place, lite_client: MilvusClient, tmp_path: Path, storage: Any):
    for number, part in enumerate(np.split(np.arange(ROWS), [1000])):
        write_hdf5(tmp_path / f"{number}.h5", {"embeddings": VECTORS[part], "ids": IDS[part]}, **storage)
    bucket.upload(tmp_path, "paths")
    before = bucket.contents()
    group = inspect_hdf5(list_hdf5(place("paths")))
    report = GroupsChain([group], lite_client).run()["news"]

    assert (report.status, report.faults) == (VERIFIED, ())
    assert group.source.folder == f"s3://buckets@{bucket.name}/paths"
    rows = {int(row_id): vector.tobytes() for row_id, vector in zip(IDS, VECTORS, strict=True)}
    assert stored(lite_client, "news") == {"_default": rows}
    assert bucket.contents() == before


def test_a_task_opens_urls_with_airflow_connections(bucket, tmp_path: Path):
    """Importing an operator changes nothing; a task sets the opener before its step."""
    open_urls_with(paths._open_with_fsspec)
    write_hdf5(tmp_path / "a.h5", {"embeddings": VECTORS})
    bucket.upload(tmp_path, "paths")
    url = f"s3://buckets@{bucket.name}/paths/a.h5"
    xcoms = XComs()
    [group] = xcoms.run(Hdf5InspectOperator(task_id="i", data_path=url, dest_collection_name="news"))
    assert xcoms.manifests(group)[0]["partitions"][0]["segments"][0]["live_rows"] == ROWS


class Meter:
    """A filesystem that notes its reads: (key, bytes)."""

    def __init__(self, filesystem: Any, reads: list[tuple[str, int]]) -> None:
        self.filesystem, self.reads = filesystem, reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self.filesystem, name)

    def cat_file(self, key: str, start: int, end: int) -> bytes:
        self.reads.append((key, end - start))
        return self.filesystem.cat_file(key, start=start, end=end)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The reads from now on."""
    noted: list[tuple[str, int]] = []

    def open_metered(url: str) -> tuple[Any, str]:
        filesystem, key = open_url(url)
        return Meter(filesystem, noted), key

    monkeypatch.setattr(paths, "_open_url", open_metered)
    return noted


def test_a_load_reads_its_own_rows_once_batch_by_batch(bucket, place, reads, tmp_path: Path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(40_000)}})
    bucket.upload(directory.path, "milvus")
    [unit] = resolve_group(inspect_directory(place("milvus"))[0]).units
    [whole] = unit.slices
    reads.clear()
    row_slice = Slice(whole.partition, whole.segment, 10_000, 30_000)
    read = dict(list(directory.live("news").items())[10_000:30_000])
    found = {}
    for _, _, batch in read_slices(unit.source, unit.collection, [row_slice], 1000):
        found |= dict(zip(batch.ids.tolist(), map(bytes, batch.vectors), strict=True))

    assert found == read
    sizes = {suffix: [size for key, size in reads if key.endswith(suffix)] for suffix in (".rv", ".uid")}
    header = 8
    assert sizes == {".rv": [header, *[1000 * 8 * 4] * 20], ".uid": [header, *[1000 * 8] * 20]}


def test_hdf5_is_read_in_part(bucket, place, reads, tmp_path: Path):
    vectors = np.zeros((200_000, 16), np.float32)
    write_hdf5(tmp_path / "a.h5", {"embeddings": vectors, "ids": np.arange(len(vectors))})
    bucket.upload(tmp_path, "paths")
    group = inspect_hdf5([place("paths/a.h5")])
    read = open_source(group.source).segment(group.collection, "a.h5").read(100_000, 100_010)

    assert read.ids.tolist() == list(range(100_000, 100_010))
    assert sum(size for _, size in reads) < vectors.nbytes // 2


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("s3://buckets@{bucket}/nowhere", SourceNotFoundError, "s3://buckets@{bucket}/nowhere/db/meta.sqlite"),
        ("s3://buckets@no-such-bucket/milvus", SourceNotFoundError, "s3://buckets@no-such-bucket/milvus/db"),
        ("s3://refused@{bucket}/milvus", SourceError, "No permission to read the source: s3://refused@{bucket}/"),
        ("s3://missing@{bucket}/milvus", AirflowNotFoundException, "missing"),
        ("s3://key:secret@{bucket}/milvus", ConfigurationError, "expected s3://conn_id@…"),
        ("gs://buckets@{bucket}/milvus", ConfigurationError, "gs://buckets@{bucket}/milvus"),
        ("nosuch://{bucket}/milvus", ConfigurationError, "nosuch"),
    ],
    ids=["prefix", "bucket", "permission", "connection", "login", "provider", "scheme"],
)
def test_errors_that_no_retry_can_fix_are_refused(bucket, tmp_path: Path, url: str, error: type[Exception], words: str):
    bucket.upload(write_directory(tmp_path / "milvus", {"news": {"_default": [1]}}).path, "milvus")
    with pytest.raises(error) as raised:
        inspect_directory(source_path(url.format(bucket=bucket.name)))
    assert words.format(bucket=bucket.name).lower() in str(raised.value).lower()
    assert "secret@" not in str(raised.value)


def test_faults_of_segments_are_the_same_as_of_a_local_source(bucket, place, tmp_path: Path):
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100)}})
    bucket.upload(directory.path, "milvus")
    [group] = inspect_directory(place("milvus"))
    [rv] = [key for key in bucket.contents() if key.endswith(".rv")]
    bucket.filesystem.pipe_file(rv, bucket.filesystem.cat_file(rv)[:-1])
    with pytest.raises(DamagedSourceError, match="shorter than its header says: s3://buckets@"):
        resolve_group(group)
    bucket.filesystem.rm_file(rv)
    with pytest.raises(SourceNotFoundError, match="file is gone: s3://buckets@"):
        resolve_group(group)


@pytest.mark.parametrize("name", ["../x", "x/..", "./x", "x"])
def test_a_segment_outside_the_tables_folder_is_refused(bucket, place, name: str):
    bucket.filesystem.pipe_file(f"{bucket.name}/x/x.uid", b"")
    source = open_source(SourceRef("milvus1x", str(place("tables"))))
    with pytest.raises(DamagedSourceError, match="outside the tables folder"):
        source.segment(CollectionSpec("news", 8, Metric.L2), name)


def test_an_unreachable_server_is_not_a_fault_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with running_seaweedfs(tmp_path / "seaweedfs") as address:
        monkeypatch.setenv("AIRFLOW_CONN_AWAY", airflow_connection(address, retries=0))
        bucket = Bucket.make(address)
        write_hdf5(tmp_path / "a.h5", {"embeddings": np.zeros((200_000, 16), np.float32)})
        bucket.filesystem.pipe_file(f"{bucket.name}/a.h5", (tmp_path / "a.h5").read_bytes())
        folder = source_path(f"s3://away@{bucket.name}")
        group = inspect_hdf5([folder / "a.h5"])
        segment = open_source(group.source).segment(group.collection, "a.h5@0")
        folder.filesystem.retries = 1
    for read in (lambda: segment.read(100_000, 190_000), lambda: inspect_directory(folder)):
        with pytest.raises(OSError, match="EndpointConnectionError: Could not connect") as raised:
            read()
        assert str(raised.value.filename).startswith(str(folder))
