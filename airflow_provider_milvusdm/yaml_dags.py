"""A folder of MilvusDM's YAML files as DAGs, one for each file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk import DAG
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTimetableInvalid

from airflow_provider_milvusdm.config.dag_doc import dag_doc, dag_title
from airflow_provider_milvusdm.config.jobs import JOBS
from airflow_provider_milvusdm.config.yaml_file import Job, load_yaml, read_yaml
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.migration import migration_dag

FIRST_DAY = datetime(2021, 1, 1, tzinfo=UTC)
"""Start of a schedule without a start_date; earlier runs are not caught up."""


def config_dir() -> Path | None:
    """The folder: ``MILVUSDM_CONFIG_DIR``, or ``config_dir`` in section ``[milvusdm]`` of Airflow's configuration."""
    folder = os.environ.get("MILVUSDM_CONFIG_DIR") or conf.get("milvusdm", "config_dir", fallback="")
    return Path(folder) if folder else None


def make_dags() -> dict[str, DAG]:
    """The DAGs of all valid files, by id."""
    return {made.dag_id: made for made in _results() if isinstance(made, DAG)}


def refuse_broken_files() -> None:
    """Raise a ConfigurationError that lists all files that can't become DAGs."""
    faults = [f"- {fault}" for fault in _results() if isinstance(fault, ConfigurationError)]
    if faults:
        raise ConfigurationError(f"{len(faults)} YAML files can't become DAGs:\n" + "\n".join(faults))


def _results() -> Iterator[DAG | ConfigurationError]:
    """A DAG for each file, or the error of the file."""
    folder = config_dir()
    if folder is None:
        return
    if not folder.is_dir():
        yield ConfigurationError("no folder of YAML files", where=folder, cure="Correct MILVUSDM_CONFIG_DIR.")
    taken = {Job(kind, {}).dag_id: f"the template of {kind}" for kind in JOBS}
    for path in sorted(file for file in folder.glob("*") if file.suffix in (".yaml", ".yml") and not _is_special(file)):
        dag_id = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)
        try:
            if dag_id in taken:
                raise ConfigurationError(
                    "two DAGs would have the same id",
                    where=path,
                    found=f"{dag_id}, which is also the id of {taken[dag_id]}",
                    cure="Rename the file.",
                )
            yield _dag(dag_id, path)
            taken[dag_id] = str(path)
        except ConfigurationError as fault:
            yield fault


def _is_special(path: Path) -> bool:
    """Whether it is a FIFO, a socket or a device, of which reading may never end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _dag(dag_id: str, path: Path) -> DAG:
    jobs = read_yaml(path)
    if len(jobs) > 1:
        raise ConfigurationError(
            "a YAML file with several jobs",
            where=path,
            expected="one job, for one DAG",
            found=", ".join(job.kind for job in jobs),
        )
    job = jobs[0]
    if job.mysql:
        raise ConfigurationError(
            "mysql_parameter in a file that becomes a DAG",
            where=path,
            expected="mysql_conn_id, because an Airflow connection keeps the password",
            cure="Create the connection, and set mysql_conn_id to its id.",
        )
    try:
        made = migration_dag(dag_id, JOBS[job.kind], defaults=job.params, **_arguments(job, path))
        made.validate()  # type: ignore[no-untyped-call]
    except (ValueError, AirflowTimetableInvalid) as error:
        raise ConfigurationError("no DAG can be made of a YAML file", where=path, found=error) from None
    return made


def _file_doc(path: Path) -> list[str]:
    """The file as Markdown, without its comments, because they may hold a password that is no longer used."""
    text = yaml.safe_dump(load_yaml(path), allow_unicode=True, sort_keys=False)
    return [f"### Made from {path.name}", "", *(f"    {line}" for line in text.splitlines()), "", f"Path: `{path}`"]


def _arguments(job: Job, path: Path) -> dict[str, Any]:
    """The other arguments of the DAG, beside its params."""
    schedule = job.schedule
    start = datetime.combine(schedule.start_date, time(), UTC) if schedule.start_date else FIRST_DAY
    defaults: dict[str, Any] = {
        name: value
        for name, value in {"owner": schedule.owner, "retries": schedule.retries}.items()
        if value is not None
    }
    return {
        "schedule": schedule.schedule,
        "start_date": start,
        "tags": [*schedule.tags, "milvus", "migration"],
        "default_args": defaults,
        "pool": schedule.pool,
        "description": f"{job.kind} of {path.name}",
        "dag_display_name": f"{path.stem}: {dag_title(JOBS[job.kind])}",
        "doc_md": "\n".join([dag_doc(JOBS[job.kind]), "", *_file_doc(path)]),
    }
