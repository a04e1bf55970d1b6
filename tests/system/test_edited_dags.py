"""A DAG whose params are edited while a run of it is at work, under a real scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.support.airflow_runs import read_run, read_task_logs
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.directories import write_directory
from tests.support.processes import wait_until

COMPUTED = """
import time
from airflow_provider_milvusdm.config.jobs import H2M
from airflow_provider_milvusdm.migration import migration_dag

name = f"news_{{time.time_ns()}}"
dag = migration_dag("computed_params", H2M, defaults={params!r} | {{"dest_collection_name": name}})
"""
DAG = """
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag({name!r}, defaults={params!r})
"""


def test_a_dry_run_does_not_become_a_load(airflow: StandaloneAirflow, tmp_path: Path) -> None:
    """Nor does a run go on to another target; both are edited once their first task has ended."""
    directory, target = write_directory(tmp_path / "milvus", {"news": {"_default": range(80)}}), tmp_path / "target.db"
    before = {"source_milvus_path": str(directory.path), "dest_uri": str(target), "dry_run": True}
    elsewhere = before | {"dest_uri": str(tmp_path / "former.db"), "dry_run": False}
    runs: dict[str, str] = {}

    def write(name: str, params: dict[str, Any]) -> None:
        airflow.add_dags(name, DAG.format(name=name, params=params))

    def is_inspected(name: str) -> bool:
        return read_run(airflow.env, name, runs[name]).states["inspect_source", -1] == "success"

    for name, params in (("edited_dry_run", before), ("edited_target", elsewhere)):
        write(name, params)
        runs[name] = airflow.trigger(name, {})
        wait_until(lambda name=name: is_inspected(name), 300, airflow.tails)
        write(name, before | {"dry_run": False})
        run = airflow.wait_for_run(name, runs[name])
        logs = read_task_logs(airflow.env, run)
        assert run.state == "failed", logs
        assert f"changed: {'dry_run' if params is before else 'dest_uri'}" in logs
        assert not target.exists()


def test_params_that_only_the_first_task_reads_may_be_computed(airflow: StandaloneAirflow, tmp_path: Path) -> None:
    path, target = tmp_path / "news.h5", tmp_path / "target.db"
    with h5py.File(path, "w") as file:
        file["embeddings"] = np.ones((7, 4), np.float32)
    collection = {"dimension": 4, "index_file_size": 1024, "metric_type": "L2"}
    params = {"data_path": [str(path)], "dest_uri": str(target), "collection_parameter": collection}
    airflow.add_dags("computed_params", COMPUTED.format(params=params))
    run = airflow.wait_for_run("computed_params", airflow.trigger("computed_params", {}))
    assert run.state == "success", read_task_logs(airflow.env, run)
