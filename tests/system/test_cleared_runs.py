"""Runs of which some tasks run again, under a real scheduler: what a first try left never passes for the second's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_runs import DagRun, read_task_logs, read_xcom
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.collections_2x import stored
from tests.support.dag_templates import QUICK
from tests.support.directories import write_directory
from tests.support.targets import drop_all_collections, milvus_client

LARGE: Any = {"dimension": 8192}
"""Each partition is larger than a load unit of 1 MiB, so that it has tasks of its own."""


@pytest.fixture(autouse=True)
def dags(airflow: StandaloneAirflow) -> None:
    airflow.add_dags("quick", QUICK)


@pytest.fixture
def target(milvus_server_uri: str) -> str:
    drop_all_collections(milvus_server_uri)
    return milvus_server_uri


def migrate(airflow: StandaloneAirflow, source: Path, target: str, **params: Any) -> DagRun:
    conf = {"source_milvus_path": str(source), "dest_uri": target, "mode": "overwrite", "unit_mib": 1} | params
    return airflow.wait_for_run("quick", airflow.trigger("quick", conf))


def cleared(airflow: StandaloneAirflow, run: DagRun, *tasks: str | tuple[str, int], downstream: bool = False) -> DagRun:
    """The run after these tasks were cleared and it ended again."""
    airflow.clear(run, *tasks, downstream=downstream)
    return airflow.wait_for_run(run.dag_id, run.run_id)


def reports(airflow: StandaloneAirflow, run: DagRun) -> dict[str, Any]:
    """What the run's report says, by collection."""
    return {
        report["collection"]: report for report in read_xcom(airflow.env, run, "report", key="report")["collections"]
    }


def rows(target: str, collection: str) -> dict[str, dict[int, bytes]]:
    with milvus_client(target) as client:
        return stored(client, collection)


@pytest.mark.parametrize(("dropped", "kept"), [("a", "b"), ("b", "a")])
def test_a_partition_dropped_before_a_run_is_cleared_is_neither_loaded_nor_reported(
    airflow: StandaloneAirflow, tmp_path: Path, target: str, dropped: str, kept: str
) -> None:
    """The last one, and one whose place in the mapping another takes."""
    source = tmp_path / "milvus"
    write_directory(source, {"news": {"_default": range(60), "a": range(100, 150), "b": range(200, 240)}}, **LARGE)
    run = migrate(airflow, source, target)
    assert run.state == "success", read_task_logs(airflow.env, run)
    assert dropped in rows(target, "news")

    shutil.rmtree(source)
    left = write_directory(source, {"news": {"_default": range(60), kept: range(100, 170)}}, seed=5, **LARGE)
    run = cleared(airflow, run, "inspect_source", downstream=True)
    assert run.state == "success", read_task_logs(airflow.env, run)
    assert run.states["resolve_ids", 2] == "removed"
    assert rows(target, "news") == {"_default": left.live("news"), kept: left.live("news", kept)}
    [news] = reports(airflow, run).values()
    assert [(part["partition"], part["loaded"]) for part in news["partitions"]] == [("_default", 60), (kept, 70)]


def test_a_collection_that_was_verified_before_a_run_was_cleared_and_is_damaged_now_fails_it(
    airflow: StandaloneAirflow, tmp_path: Path, target: str
) -> None:
    source = tmp_path / "milvus"
    write_directory(source, {"faces": {"_default": range(20)}, "news": {"_default": range(60)}}, **LARGE)
    run = migrate(airflow, source, target)
    assert run.state == "success", read_task_logs(airflow.env, run)

    shutil.rmtree(source)
    write_directory(source, {"news": {"_default": range(80)}}, **LARGE)
    next(source.rglob("*.uid")).write_bytes(b"")
    run = cleared(airflow, run, "inspect_source", downstream=True)
    assert run.states["verify_counts", 1] == "removed"
    assert run.state == "failed"
    assert {name: report["status"] for name, report in reports(airflow, run).items()} == {"news": "failed"}
