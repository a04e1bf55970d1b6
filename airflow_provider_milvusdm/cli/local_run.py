"""Run a DAG of the templates in this process, in a temporary Airflow home."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.cli.api_version import serve_newest_version_only
from airflow_provider_milvusdm.cli.garbage import StartEnd, no_collection_during_start
from airflow_provider_milvusdm.config.yaml_file import Job
from airflow_provider_milvusdm.manifests import from_json
from airflow_provider_milvusdm.report import Report

MYSQL_CONN_ID = "milvusdm_mysql"
KEPT_SETTINGS = ("AIRFLOW_CONN_", "AIRFLOW_VAR_", "AIRFLOW__SECRETS__", "AIRFLOW__CORE__MAX_MAP_LENGTH")
"""Prefixes of the environment variables of Airflow that are kept; others set, for example, its database."""


def templates() -> Path:
    """The folder of the DAG templates: in the installed package, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "dags"
    return installed if installed.is_dir() else package.parent / "dags"


@contextmanager
def private_airflow(jobs: Iterable[Job]) -> Iterator[None]:
    """Set up an Airflow with an empty SQLite database, whose only DAGs are the templates of these jobs.

    Enter it before anything imports Airflow, because Airflow reads its configuration when it is imported.
    """
    with tempfile.TemporaryDirectory(prefix="milvusdm-airflow-") as home, no_collection_during_start():
        dags = Path(home) / "dags"
        dags.mkdir()
        for dag_id in {job.dag_id for job in jobs}:
            shutil.copy(_template(dag_id), dags)
        for name in [name for name in os.environ if name.startswith("AIRFLOW") and not name.startswith(KEPT_SETTINGS)]:
            del os.environ[name]
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        }
        from airflow.sdk.listener import get_listener_manager
        from airflow.utils.db import initdb

        serve_newest_version_only()
        get_listener_manager().add_listener(StartEnd())  # type: ignore[no-untyped-call]
        initdb()
        yield


def run_job(job: Job) -> Report | None:
    """Run a job; returns its report, or None if it failed before the report."""
    params = dict(job.params)
    if job.mysql:
        params["mysql_conn_id"] = MYSQL_CONN_ID
        os.environ[f"AIRFLOW_CONN_{MYSQL_CONN_ID.upper()}"] = json.dumps(_connection(job.mysql))
    dag = runpy.run_path(str(_template(job.dag_id)))["dag"]
    return _report(dag.test(run_conf=params))


def _template(dag_id: str) -> Path:
    return templates() / f"{dag_id}.py"


def _connection(mysql: Mapping[str, Any]) -> dict[str, Any]:
    """``mysql_parameter`` as an Airflow connection."""
    return {
        "conn_type": "mysql",
        "host": mysql.get("host"),
        "port": mysql.get("port"),
        "login": mysql.get("user"),
        "password": mysql.get("password", ""),
        "schema": mysql.get("database", "milvus"),
    }


def _report(dag_run: Any) -> Report | None:
    """The report, from the XCom of the report task."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    from airflow_provider_milvusdm.operators.base import REPORT

    with create_session() as session:
        query = XComModel.get_many(run_id=dag_run.run_id, key=REPORT, task_ids="report", dag_ids=dag_run.dag_id)
        found = session.execute(query.with_only_columns(XComModel.value)).scalar()
    return None if found is None else from_json(Report, json.loads(found) if isinstance(found, str) else found)
