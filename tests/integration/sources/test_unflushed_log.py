"""Rows that are only in the 1.x server's log arrive as the server would return them after its next start."""

from __future__ import annotations

from pathlib import Path

from pymilvus import MilvusClient

from airflow_provider_milvusdm.report import VERIFIED
from tests.support.chain import Chain, export, inspect_directory
from tests.support.collections_2x import stored
from tests.support.directories import DIMENSION, random_rows, random_vectors
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import DELETE, Log
from tests.support.tree_checksum import tree_checksum


def write_directory_with_log(path: Path) -> Milvus1xDirectory:
    """`news` with 100 rows and 50 in a partition: 25 and 5 more are in the log, and what deletes some of all."""
    directory, log = Milvus1xDirectory(path), Log(path / "wal")
    news = directory.collection("news", dimension=DIMENSION, index_params='{"nlist":16}', engine=2)
    directory.segment(news, range(100), random_vectors(100, seed=1))
    directory.segment(directory.partition(news, "2021-03 news"), range(50), random_vectors(50, seed=2))
    log.insert("news", "", range(100, 120), random_vectors(20, seed=3))
    log.add(DELETE, "news", "_default", ids=tuple(range(95, 105)))
    log.next_file()
    log.insert("news", "", range(100, 105), random_vectors(5, seed=4))
    log.insert("news", "2021-03 news", range(50, 55), random_vectors(5, seed=5))
    log.add(DELETE, "news", ids=(0, 1, 54))
    log.write()
    directory.write()
    return directory


def expected_rows() -> dict[str, dict[int, bytes]]:
    default = random_rows(range(100), 1) | random_rows(range(100, 120), 3)
    default = {row_id: vector for row_id, vector in default.items() if row_id not in range(95, 105)}
    default |= random_rows(range(100, 105), 4)
    partitions = {"_default": default, "_2021_03_news": random_rows(range(50), 2) | random_rows(range(50, 55), 5)}
    return {
        name: {row_id: vector for row_id, vector in rows.items() if row_id not in (0, 1, 54)}
        for name, rows in partitions.items()
    }


def test_the_log_is_replayed(client: MilvusClient, tmp_path: Path) -> None:
    path = write_directory_with_log(tmp_path / "milvus").path
    before = tree_checksum(path)
    report = Chain(path, client, unit_bytes=1000, id_scope="partition").run(mode="append")["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    assert "replayed from the 1.x server's log: 30 rows inserted, 13 ids deleted" in report.notes
    expected = expected_rows()
    assert stored(client, "news") == expected
    assert {part.target: part.live for part in report.partitions} == {tag: len(rows) for tag, rows in expected.items()}
    assert tree_checksum(path) == before


def test_rows_of_a_partition_that_a_killed_flush_did_not_reach_arrive(
    lite_client: MilvusClient, tmp_path: Path
) -> None:
    directory, log = Milvus1xDirectory(tmp_path / "milvus"), Log(tmp_path / "milvus" / "wal")
    log.insert("news", "x", range(10), random_vectors(10, seed=1))
    flushed = log.insert("news", "", range(10, 20), random_vectors(10, seed=2))
    log.write()
    news = directory.collection("news", dimension=DIMENSION, flush_lsn=flushed)
    directory.segment(news, range(10, 20), random_vectors(10, seed=2))
    directory.partition(news, "x")
    report = Chain(directory.write(), lite_client).run(verify="full")["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    assert stored(lite_client, "news") == {
        "_default": random_rows(range(10, 20), 2),
        "x": random_rows(range(10), 1),
    }
    assert "partition 'x': 10 rows inserted and 0 deleted by the server's log" in report.notes


def test_the_log_is_exported(tmp_path: Path) -> None:
    path = write_directory_with_log(tmp_path / "milvus").path
    groups = inspect_directory(path, "*")
    report = export(groups, tmp_path / "hdf5")["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    loaded = {Path(part.target).stem: part.loaded for part in report.partitions}
    assert loaded == {name: len(rows) for name, rows in expected_rows().items()}
