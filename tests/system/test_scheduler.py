"""Runs under a real scheduler: triggered, scheduled, in parallel, with tasks killed, or cleared afterwards."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.airflow_runs import (
    ENDED,
    DagRun,
    TaskRun,
    read_run,
    read_runs,
    read_task_logs,
    read_task_state,
    read_xcom,
)
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.collections_2x import stored
from tests.support.directories import write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.printed import read_blocks
from tests.support.processes import wait_until
from tests.support.targets import drop_all_collections, milvus_client

DAG_ID = "milvusdm_m2m"
TAG = "2021-03 news"
NIGHTLY = """
from datetime import datetime

from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag(
    "nightly",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    defaults={{"source_milvus_path": "{source}", "dest_uri": "{target}", "unit_mib": 1}},
)
"""
FRAGILE = """
from datetime import timedelta

from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.targets.milvus.load import writer

writer.BATCH_ROWS, writer.STRIDE_BATCHES = 50, 1
dag = migration_dag("fragile", default_args={"retries": 30, "retry_delay": timedelta(seconds=1)})
"""
"""Loads so slowly that there is time to be killed, and is retried as often as needed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scheduler")


@pytest.fixture(scope="module")
def directory(folder: Path) -> Milvus1xDirectory:
    return write_directory(folder / "milvus", {"news": {"_default": range(3000), TAG: range(3000, 3500)}}, dimension=64)


@dataclass(frozen=True)
class Migrated:
    run: DagRun
    uri: str


@pytest.fixture(scope="module")
def migrated(airflow: StandaloneAirflow, directory: Milvus1xDirectory, milvus_server_uri: str) -> Migrated:
    """A triggered run into the server; the tests below clear tasks of it, and leave it complete."""
    drop_all_collections(milvus_server_uri)
    run_id = airflow.trigger(DAG_ID, {"source_milvus_path": str(directory.path), "dest_uri": milvus_server_uri})
    return Migrated(airflow.wait_for_run(DAG_ID, run_id), milvus_server_uri)


def assert_complete(directory: Milvus1xDirectory, uri: str) -> None:
    """Every row is there, and once."""
    with milvus_client(uri) as client:
        assert stored(client, "news") == {
            "_default": directory.live("news"),
            "_2021_03_news": directory.live("news", TAG),
        }


def cleared(airflow: StandaloneAirflow, run: DagRun, *tasks: str | tuple[str, int], downstream: bool = False) -> DagRun:
    """The run after these tasks were cleared and it ended again."""
    airflow.clear(run, *tasks, downstream=downstream)
    return airflow.wait_for_run(run.dag_id, run.run_id)


def loads(run: DagRun) -> dict[int, int]:
    """How often each load task was tried."""
    return {task.map_index: task.try_number for task in run.tasks if task.task_id == "load_partitions"}


def test_a_triggered_run_migrates_with_map_indexes_to_read(migrated: Migrated, directory: Milvus1xDirectory) -> None:
    assert migrated.run.state == "success"
    assert_complete(directory, migrated.uri)
    labels = {(task.task_id, task.rendered_map_index) for task in migrated.run.tasks}
    assert ("resolve_ids", "news/_default +1") in labels
    assert ("create_collection", "news") in labels
    assert ("verify_counts", "news") in labels
    assert ("load_partitions", "news/_default +1") in labels


def test_a_report_is_fetched_as_the_page_says(
    airflow: StandaloneAirflow, migrated: Migrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    [block] = read_blocks("migration-page")
    [(curl, *header, url)] = block.commands
    assert (curl, header) == ("curl", ["-H", "Authorization: Bearer $TOKEN"])
    monkeypatch.setenv("AIRFLOW", "")
    monkeypatch.setenv("RUN_ID", migrated.run.run_id)
    report = airflow.call("GET", os.path.expandvars(url))
    assert report["run"]["run_id"] == migrated.run.run_id


def test_the_trigger_form_opens_with_what_everybody_fills_in(airflow: StandaloneAirflow, migrated: Migrated) -> None:
    details = airflow.call("GET", f"/api/v2/dags/{migrated.run.dag_id}/details")
    params = details["params"]
    first = [name for name, param in params.items() if not param["schema"].get("section")]
    assert first == list(params)[:5] == ["source_milvus_path", "source_collection", "milvus_conn_id", "mode", "dry_run"]
    assert params["source_collection"]["value"] == "*"
    assert params["mode"]["schema"]["values_display"]["sync"].startswith("Sync: ")
    assert details["dag_display_name"] == "Milvus 1.x → Milvus 2.x"
    assert "### If a run fails" in details["doc_md"]


def test_a_number_out_of_range_is_refused_by_the_form(airflow: StandaloneAirflow, migrated: Migrated) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        airflow.trigger(migrated.run.dag_id, {"source_milvus_path": "/data", "dest_port": 99_999})
    assert "99999 is greater than the maximum of 65535" in refused.value.response.text


def test_a_load_task_cleared_after_a_good_run_doubles_nothing(
    airflow: StandaloneAirflow, migrated: Migrated, directory: Milvus1xDirectory
) -> None:
    tries = loads(read_run(airflow.env, DAG_ID, migrated.run.run_id))
    run = cleared(airflow, migrated.run, ("load_partitions", 0))
    assert run.states["load_partitions", 0] == "success"  # its collection has got its name since
    assert loads(run) == tries | {0: tries[0] + 1}
    assert_complete(directory, migrated.uri)


def test_a_target_made_anew_is_refused_by_load_and_filled_again_from_create_on(
    airflow: StandaloneAirflow, migrated: Migrated, directory: Milvus1xDirectory
) -> None:
    drop_all_collections(migrated.uri)
    tries = loads(read_run(airflow.env, DAG_ID, migrated.run.run_id))
    failed = cleared(airflow, migrated.run, ("load_partitions", 0))
    assert failed.states["load_partitions", 0] == "failed"
    assert loads(failed) == tries | {0: tries[0] + 1}
    log = read_task_logs(airflow.env, failed)
    assert "of the target is not the one that was made for this load" in log
    assert "repeat the create step and the steps after it" in log

    run = cleared(airflow, failed, "create_collection", downstream=True)
    assert run.state == "success"
    assert_complete(directory, migrated.uri)
    [report] = read_xcom(airflow.env, run, "report", key="report")["collections"]
    assert sum(partition["loaded"] for partition in report["partitions"]) == 3500


def test_a_scheduled_dag_runs_by_itself_and_its_loads_share_one_milvus_lite_file(
    airflow: StandaloneAirflow, folder: Path
) -> None:
    directory = write_directory(folder / "nightly", {"news": {"_default": range(16_000)}}, dimension=64)
    target = folder / "nightly.db"
    airflow.add_dags("nightly", NIGHTLY.format(source=directory.path, target=target))

    def ended() -> bool:
        return bool(runs := read_runs(airflow.env, "nightly")) and runs[0].state in ENDED

    wait_until(ended, 600, lambda: f"{read_runs(airflow.env, 'nightly')}\n{airflow.tails()}")
    run = read_runs(airflow.env, "nightly")[0]
    assert run.run_id.startswith("scheduled__")
    assert run.state == "success", read_task_logs(airflow.env, run)
    assert len(loads(run)) == 4
    with milvus_client(str(target)) as client:
        client.load_collection("news")
        assert stored(client, "news") == {"_default": directory.live("news")}


@dataclass
class LoadTask:
    """The load task of a run of one unit, to be killed again and again."""

    airflow: StandaloneAirflow
    run_id: str
    killed: dict[int, Any] = field(default_factory=dict)
    """Checkpoints by the processes that left them."""

    def kill(self, rows: int) -> None:
        """Kill its process once so many rows, and some of its own, are in the target."""
        wait_until(lambda: self._kill(rows), 300, lambda: f"{self._task()}\n{self.airflow.tails()}")

    def _task(self) -> TaskRun | None:
        tasks = read_run(self.airflow.env, "fragile", self.run_id).tasks
        return next((task for task in tasks if (task.task_id, task.map_index) == ("load_partitions", 0)), None)

    def _kill(self, rows: int) -> bool:
        task = self._task()
        if not task or task.state != "running" or not task.pid or task.pid in self.killed:
            return False
        noted = self._checkpoint()
        if noted is None or noted["done"] < rows or noted in self.killed.values():
            return False
        os.kill(task.pid, signal.SIGKILL)
        self.killed[task.pid] = noted
        return True

    def _checkpoint(self) -> Any:
        env = self.airflow.env
        run = read_run(env, "fragile", self.run_id)
        with suppress(KeyError):
            return read_task_state(env, run, "load_partitions", map_index=0, key="0 checkpoint")


@pytest.mark.parametrize(
    ("target_uri", "kills"),
    [
        ("server", 3),
        pytest.param("server", 20, marks=pytest.mark.long),
        pytest.param("lite", 20, marks=pytest.mark.long),
    ],
    indirect=["target_uri"],
)
def test_a_load_task_killed_at_random_moments_is_retried_to_an_exact_target(
    airflow: StandaloneAirflow, tmp_path: Path, target_uri: str, kills: int
) -> None:
    airflow.add_dags("fragile", FRAGILE)
    directory = write_directory(tmp_path / "milvus", {"fragile": {"_default": range(10_000)}})
    conf = {"source_milvus_path": str(directory.path), "dest_uri": target_uri, "verify": "full"}
    load = LoadTask(airflow, airflow.trigger("fragile", conf))
    for rows in np.sort(np.random.default_rng(kills).integers(0, 6_000, kills)):
        load.kill(int(rows))
    run = airflow.wait_for_run("fragile", load.run_id)
    assert run.state == "success", read_task_logs(airflow.env, run)
    assert loads(run) == {0: kills + 1}
    [report] = read_xcom(airflow.env, run, "report", key="report")["collections"]
    assert (report["status"], report["sampled"]) == ("verified", 10_000)
    with milvus_client(target_uri) as client:
        client.load_collection("fragile")
        assert stored(client, "fragile") == {"_default": directory.live("fragile")}


def test_a_run_whose_scheduler_is_killed_under_way_ends_exact(
    airflow: StandaloneAirflow, folder: Path, milvus_server_uri: str
) -> None:
    drop_all_collections(milvus_server_uri)
    directory = write_directory(folder / "killed", {"news": {"_default": range(32_000)}}, dimension=64)
    conf = {"source_milvus_path": str(directory.path), "dest_uri": milvus_server_uri, "unit_mib": 1}
    run_id = airflow.trigger(DAG_ID, conf | {"verify": "full"})

    def loading() -> set[str | None]:
        tasks = read_run(airflow.env, DAG_ID, run_id).tasks
        return {task.state for task in tasks if task.task_id == "load_partitions"}

    wait_until(lambda: loading() >= {"success", "running"}, 300, lambda: f"{loading()}\n{airflow.tails()}")
    airflow.kill("scheduler")
    assert "running" in loading()
    airflow.start("scheduler")
    run = airflow.wait_for_run(DAG_ID, run_id)
    assert run.state == "success", read_task_logs(airflow.env, run)
    assert max(loads(run).values()) > 1
    with milvus_client(milvus_server_uri) as client:
        assert stored(client, "news") == {"_default": directory.live("news")}
