"""DAGs folders: the project's templates, and files such as a user writes."""

from __future__ import annotations

from pathlib import Path

from tests.support.repository import ROOT

TEMPLATES = ROOT / "dags"
QUICK = """
from datetime import timedelta

from airflow_provider_milvusdm.migration import migration_dag
from tests.support.repository import ROOT

dag = migration_dag("quick", default_args={"retries": 1, "retry_delay": timedelta(seconds=1)})
"""
"""DAG `quick`: one retry, soon."""


def write_dag(folder: Path, name: str, text: str) -> Path:
    """A DAG file below `folder`; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    return folder


def copy_template(folder: Path, dag_id: str) -> Path:
    """One of the templates as the only DAG file of `folder`, so that a DAG processor parses no other; the folder."""
    return write_dag(folder, dag_id, (TEMPLATES / f"{dag_id}.py").read_text())
