"""A directory that a real server left goes through Airflow into each kind of target, row for row."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import read_xcom
from tests.support.real_directory import SOURCE, expected_collections, found_collections
from tests.support.terminal import Terminal, connection
from tests.support.tree_checksum import tree_checksum

REPORTED = {
    "resnet": ("verified", 0, 0, 0),
    "resnet50": ("verified", 0, 0, 0),
    "test1": ("verified", 44, 44, 44),
    "test2": ("verified", 44, 44, 44),
}
"""Status, and rows live, loaded and counted."""


@pytest.fixture
def source(real_data: Path) -> Path:
    return real_data / SOURCE


def test_airflow_migrates_it_by_a_connection(
    source: Path, real_data: Path, target_uri: str, templates_env: dict[str, str]
) -> None:
    before = tree_checksum(source)
    env = templates_env | {"AIRFLOW_CONN_TARGET": connection(conn_type="milvus", extra={"uri": target_uri})}
    ended = dags_test(env, "milvusdm_m2m", {"source_milvus_path": str(source), "milvus_conn_id": "target"})

    assert ended.run is not None, ended.output
    assert (ended.returncode, ended.state) == (0, "success"), ended.output
    assert found_collections(target_uri, source) == expected_collections(real_data)
    assert tree_checksum(source) == before
    report = read_xcom(env, ended.run, "report", key="report")
    assert {
        collection["collection"]: (
            collection["status"],
            *(collection["partitions"][0][rows] for rows in ("live", "loaded", "counted")),
        )
        for collection in report["collections"]
    } == REPORTED


def test_the_command_line_migrates_it(source: Path, real_data: Path, target_uri: str, terminal: Terminal) -> None:
    before = tree_checksum(source)
    url = urlsplit(target_uri)
    target = {"dest_host": url.hostname, "dest_port": url.port} if url.scheme else {"dest_uri": target_uri}
    ended = terminal.migrate(source_milvus_path=str(source), source_collection="*", **target)

    assert ended.returncode == 0, ended
    assert found_collections(target_uri, source) == expected_collections(real_data)
    assert tree_checksum(source) == before
    reported = {row[0]: (row[-1], int(row[3]), int(row[6]), int(row[8])) for row in ended.rows}
    assert reported == REPORTED
