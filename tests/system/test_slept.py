"""Runs under a real scheduler that meet what they should not: a task that slept, another run, a step cleared alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.airflow_runs import DagRun, TaskRun, read_run, read_task_logs, read_task_state, read_xcom
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.collections_2x import make_collection, stored
from tests.support.directories import random_rows, write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.processes import wait_until
from tests.support.targets import drop_all_collections, milvus_client

ROWS = 10_000
OLD = {"_default": random_rows(range(10**6, 10**6 + 50), 7)}
SLOW = """
from datetime import timedelta

from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.targets.milvus import fence
from airflow_provider_milvusdm.targets.milvus.load import writer

fence.REQUEST_SECONDS = 5
writer.BATCH_ROWS, writer.STRIDE_BATCHES = 50, 1
slow = migration_dag("slow", default_args={"retries": 1, "retry_delay": timedelta(seconds=1)})
patient = migration_dag("patient", default_args={"retries": 1, "retry_delay": timedelta(hours=1)})
other = migration_dag("other", default_args={"retries": 0})
"""
"""DAGs that load so slowly that there is time for something to happen."""


@pytest.fixture(autouse=True)
def dags(airflow: StandaloneAirflow) -> None:
    airflow.add_dags("slow", SLOW)


@pytest.fixture
def directory(tmp_path: Path) -> Milvus1xDirectory:
    return write_directory(tmp_path / "milvus", {"news": {"_default": range(ROWS)}})


@pytest.fixture
def target(milvus_server_uri: str) -> str:
    drop_all_collections(milvus_server_uri)
    return milvus_server_uri


@dataclass(frozen=True)
class Run:
    """A run of one load task, under way."""

    airflow: StandaloneAirflow
    dag_id: str
    run_id: str

    @property
    def now(self) -> DagRun:
        return read_run(self.airflow.env, self.dag_id, self.run_id)

    @property
    def load(self) -> TaskRun:
        return next(task for task in self.now.tasks if (task.task_id, task.map_index) == ("load_partitions", 0))

    def ended(self) -> DagRun:
        return self.airflow.wait_for_run(self.dag_id, self.run_id)

    def wait_for_rows(self, rows: int) -> None:
        """Until the load task has brought so many into the target."""
        wait_until(lambda: self._rows() >= rows, 300, lambda: f"{self.now}\n{self.airflow.tails()}")

    def _rows(self) -> int:
        with suppress(KeyError):
            noted = read_task_state(self.airflow.env, self.now, "load_partitions", map_index=0, key="0 checkpoint")
            return int(noted["done"])
        return 0

    def set_state(self, state: str) -> None:
        """As a user markers it."""
        self.airflow.call("PATCH", f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}", {"state": state})

    def log(self) -> str:
        return read_task_logs(self.airflow.env, self.now)


def start(airflow: StandaloneAirflow, dag_id: str, directory: Milvus1xDirectory, target: str, **params: Any) -> Run:
    conf = {"source_milvus_path": str(directory.path), "dest_uri": target} | params
    return Run(airflow, dag_id, airflow.trigger(dag_id, conf))


def make_old(target: str) -> None:
    with milvus_client(target) as client:
        make_collection(client, "news", OLD, loaded=True)


def assert_exact(directory: Milvus1xDirectory, target: str, old: Any = None) -> None:
    """Every row is there, and once, and nothing else."""
    with milvus_client(target) as client:
        assert client.list_collections() == ["news"]
        assert stored(client, "news") == {"_default": {**(old or {}), **directory.live("news")}}


@contextmanager
def asleep(task: TaskRun) -> Iterator[None]:
    """A task's process and its supervisor are stopped while the block runs; the task ends once they are awake."""
    assert task.pid
    process = psutil.Process(task.pid)
    sleeping = [process.parent(), process]
    for sleeper in sleeping:
        sleeper.suspend()
    try:
        yield
    finally:
        for sleeper in sleeping:
            sleeper.resume()
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()


@pytest.mark.parametrize("mode", [pytest.param("overwrite", marks=pytest.mark.long), "append"])
def test_a_load_task_that_slept_until_its_retry_was_verified_changes_nothing(
    airflow: StandaloneAirflow, directory: Milvus1xDirectory, target: str, mode: str
) -> None:
    make_old(target)
    run = start(airflow, "slow", directory, target, mode=mode, verify="full")
    run.wait_for_rows(ROWS // 4)
    with asleep(run.load):
        ended = run.ended()
        assert ended.state == "success", run.log()
        assert (run.load.state, run.load.try_number) == ("success", 2)
    assert run.now == ended
    assert_exact(directory, target, OLD["_default"] if mode == "append" else {})


def test_a_second_run_is_refused_while_the_first_is_at_work_and_goes_on_once_that_has_ended(
    airflow: StandaloneAirflow, directory: Milvus1xDirectory, target: str
) -> None:
    make_old(target)
    first = start(airflow, "patient", directory, target, mode="append")
    first.wait_for_rows(1)
    with asleep(first.load):
        second = start(airflow, "other", directory, target, mode="append")
        assert second.ended().state == "failed"
        assert second.now.states["create_collection", 0] == "failed"
        assert "nother run is loading collection 'news' of the target" in second.log()
        assert f"run {first.run_id} of DAG patient: it has not ended" in second.log()
        first.set_state("failed")
        third = start(airflow, "other", directory, target, mode="append", verify="full")
        assert third.ended().state == "success", third.log()
        assert f"waiting 5 s, until requests that run {first.run_id} of DAG patient may have begun" in third.log()
    assert_exact(directory, target, OLD["_default"])


def test_create_cleared_alone_after_a_good_overwrite_makes_nothing_anew(
    airflow: StandaloneAirflow, directory: Milvus1xDirectory, target: str
) -> None:
    make_old(target)
    run = start(airflow, "other", directory, target, mode="overwrite")
    assert run.ended().state == "success", run.log()
    airflow.clear(run.now, "create_collection")
    assert run.ended().states["create_collection", 0] == "success", run.log()
    [report] = read_xcom(airflow.env, run.now, "report", key="report")["collections"]
    assert report["action"] == "overwritten"
    assert_exact(directory, target)
