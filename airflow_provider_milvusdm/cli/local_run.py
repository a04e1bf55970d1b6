"""Run a DAG of the templates in this process, in an Airflow home of its own that is gone afterwards."""

from __future__ import annotations

import json
import os
import runpy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.config.yaml_file import Job
from airflow_provider_milvusdm.manifests import from_json
from airflow_provider_milvusdm.report import Report

MYSQL_CONN_ID = "milvusdm_mysql"
KEPT_SETTINGS = ("AIRFLOW_CONN_", "AIRFLOW_VAR_", "AIRFLOW__SECRETS__", "AIRFLOW__CORE__MAX_MAP_LENGTH")
"""Of the user's own Airflow. Others name its database, its DAGs, its executor, its log server."""


def templates() -> Path:
    """The folder of the DAG templates: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "dags"
    return installed if installed.is_dir() else package.parent / "dags"


@contextmanager
def private_airflow() -> Iterator[None]:
    """An Airflow with an empty SQLite database and the templates as its only DAGs.

    It must be entered before anything imports Airflow, whose configuration is read then.
    """
    with tempfile.TemporaryDirectory(prefix="milvusdm-airflow-") as home:
        for name in [name for name in os.environ if name.startswith("AIRFLOW") and not name.startswith(KEPT_SETTINGS)]:
            del os.environ[name]
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(templates()),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        }
        from airflow.utils.db import initdb

        initdb()
        yield


def run_job(job: Job) -> Report | None:
    """Run ``job`` to its end; None when it ended before anything could be reported."""
    params = dict(job.params)
    if job.mysql:
        params["mysql_conn_id"] = MYSQL_CONN_ID
        os.environ[f"AIRFLOW_CONN_{MYSQL_CONN_ID.upper()}"] = json.dumps(_connection(job.mysql))
    dag = runpy.run_path(str(templates() / f"{job.dag_id}.py"))["dag"]
    return _report(dag.test(run_conf=params))


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
    """What the report task left in XCom."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    from airflow_provider_milvusdm.operators.base import REPORT

    with create_session() as session:
        query = XComModel.get_many(run_id=dag_run.run_id, key=REPORT, task_ids="report", dag_ids=dag_run.dag_id)
        found = session.execute(query.with_only_columns(XComModel.value)).scalar()
    return None if found is None else from_json(Report, json.loads(found) if isinstance(found, str) else found)
