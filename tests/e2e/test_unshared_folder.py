"""An export on workers that share no disk ends red, and never with its files on several of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.airflow_runs import DagRun, read_task_logs
from tests.support.celery_airflow import CeleryAirflow, celery_airflow
from tests.support.directories import write_directory

WORKERS = ("worker-1", "worker-2", "worker-3")
TAGS = ("_default", *"abcdefgh")
ROWS = 500
"""Of a partition, which is a task of its own: as many as fill one MiB."""
DAG = """
from airflow_provider_milvusdm.config.jobs import M2H
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag("export", M2H, default_args={"retries": 0})
"""


@dataclass(frozen=True)
class Deployment:
    airflow: CeleryAirflow
    folder: Path
    """All workers share it, except for what is below ``folder / "airflow"``."""
    source: Path

    def export(self, data_dir: Path) -> DagRun:
        conf = {"source_milvus_path": str(self.source), "data_dir": str(data_dir), "unit_mib": 1}
        return self.airflow.wait_for_run("export", self.airflow.trigger("export", conf), seconds=600)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("unshared")
    partitions = {tag: range(number * ROWS, (number + 1) * ROWS) for number, tag in enumerate(TAGS)}
    source = write_directory(folder / "milvus", {"news": partitions}, dimension=512).path
    settings = {"AIRFLOW__CELERY__WORKER_CONCURRENCY": "1", "AIRFLOW__CELERY__SYNC_PARALLELISM": "1"}
    with celery_airflow(folder / "airflow", WORKERS, settings) as airflow:
        airflow.add_dags("export", DAG)
        yield Deployment(airflow, folder, source)


def files_of(folder: Path) -> set[str]:
    return {path.stem for path in folder.rglob("*.h5")}


def test_an_export_to_a_folder_that_is_another_one_on_each_worker_fails(deployment: Deployment) -> None:
    run = deployment.export(deployment.folder / "airflow" / "out")
    assert run.state == "failed"
    hosts = deployment.airflow.hosts
    logs = [read_task_logs({"AIRFLOW_HOME": str(host.folder / "airflow")}, run) for host in hosts]
    assert any("This worker does not see the folder into which the run writes its files" in log for log in logs)
    assert len([host for host in hosts if files_of(host.folder / "out")]) == 1


def test_an_export_to_a_folder_that_all_workers_share_succeeds(deployment: Deployment) -> None:
    run = deployment.export(deployment.folder / "shared")
    assert run.state == "success"
    assert files_of(deployment.folder / "shared") == set(TAGS)
    assert len({task.hostname for task in run.tasks if task.task_id == "export_partitions"}) > 1
