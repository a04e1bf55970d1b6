"""DAGs made of a folder of MilvusDM's YAML files, one of each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTimetableInvalid

from airflow_provider_milvusdm.chains import RETRIES
from airflow_provider_milvusdm.config.jobs import JOBS
from airflow_provider_milvusdm.config.yaml_file import Job, read_yaml
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.migration import migration_dag

FIRST_DAY = datetime(2021, 1, 1, tzinfo=UTC)
"""Start of a schedule without a start_date; nothing is caught up."""


def config_dir() -> Path | None:
    """The folder: ``MILVUSDM_CONFIG_DIR``, or ``config_dir`` of section ``[milvusdm]`` of Airflow's configuration."""
    folder = os.environ.get("MILVUSDM_CONFIG_DIR") or conf.get("milvusdm", "config_dir", fallback="")
    return Path(folder) if folder else None


def make_dags() -> dict[str, DAG]:
    """The DAGs of all files that are in order, by id."""
    return {made.dag_id: made for made in _results() if isinstance(made, DAG)}


def refuse_broken_files() -> None:
    """Raise one ConfigurationError for all files that can't become DAGs."""
    faults = [f"- {fault}" for fault in _results() if isinstance(fault, ConfigurationError)]
    if faults:
        raise ConfigurationError(f"{len(faults)} YAML files can't become DAGs:\n" + "\n".join(faults))


def _results() -> Iterator[DAG | ConfigurationError]:
    """A DAG for each file, or what is wrong with it."""
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
                    "two DAGs would have one id",
                    where=path,
                    found=f"{dag_id}, as {taken[dag_id]}",
                    cure="Rename the file.",
                )
            yield _dag(dag_id, path)
            taken[dag_id] = str(path)
        except ConfigurationError as fault:
            yield fault


def _is_special(path: Path) -> bool:
    """Whether it is a FIFO, a socket or a device: reading one may never end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _dag(dag_id: str, path: Path) -> DAG:
    jobs = read_yaml(path)
    if len(jobs) > 1:
        raise ConfigurationError(
            "a file of several jobs", where=path, expected="one, for one DAG", found=", ".join(job.kind for job in jobs)
        )
    job = jobs[0]
    if job.mysql:
        raise ConfigurationError(
            "mysql_parameter in a file that becomes a DAG",
            where=path,
            expected="mysql_conn_id: an Airflow connection keeps the password",
            cure="Make the connection, and give its id.",
        )
    try:
        made = migration_dag(dag_id, JOBS[job.kind], defaults=job.params, **_arguments(job, path))
        made.validate()  # type: ignore[no-untyped-call]
    except (ValueError, AirflowTimetableInvalid) as error:
        raise ConfigurationError("a DAG can't be made of it", where=path, found=error) from None
    return made


def _arguments(job: Job, path: Path) -> dict[str, Any]:
    """Arguments of the DAG, beside its params."""
    given = job.schedule
    start = datetime.combine(given.start_date, time(), UTC) if given.start_date else FIRST_DAY
    defaults: dict[str, Any] = {
        name: value for name, value in {"owner": given.owner, "retries": given.retries}.items() if value is not None
    }
    return {
        "schedule": given.schedule,
        "start_date": start,
        "tags": [*given.tags, "milvus", "migration"],
        "default_args": RETRIES | defaults,
        "description": f"{job.kind} of {path.name}",
        "doc_md": f"Made of `{path}`.",
    }
