"""The public face of the package: a job's chain as a DAG or as a task group, and its params."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup

from airflow_provider_milvusdm.chains import RETRIES, add_chain
from airflow_provider_milvusdm.config.dag_doc import dag_doc
from airflow_provider_milvusdm.config.form import arrange_form
from airflow_provider_milvusdm.config.jobs import M2M
from airflow_provider_milvusdm.config.validation import Params

DIALECT = {"$schema": "http://json-schema.org/draft-07/schema#"}
"""Of a param's schema. Airflow validates each param, and its schema, several times in each task; schemas of the newest
dialect, which it takes otherwise, cost three times as much."""


def migration_dag(
    dag_id: str,
    job: type[Params] = M2M,
    *,
    schedule: Any = None,
    defaults: Mapping[str, Any] | None = None,
    pool: str | None = None,
    **dag: Any,
) -> DAG:
    """A DAG of a job's chain.

    :param job: ``M2M``, ``H2M``, ``F2M`` or ``M2H`` of :mod:`airflow_provider_milvusdm.config.jobs`.
    :param schedule: as of ``airflow.sdk.DAG``; a scheduled DAG needs ``defaults`` for the params that have none.
    :param defaults: defaults of the params, by name. Raises TypeError for a name that the job doesn't have.
    :param pool: the pool of all tasks, which must exist; None: Airflow's ``default_pool``.
    :param dag: further arguments of ``airflow.sdk.DAG``; its ``params`` are added to those of the job, and its
        ``default_args`` to the retries of :data:`airflow_provider_milvusdm.chains.RETRIES`.
    """
    arguments: dict[str, Any] = {
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["milvus", "migration"],
        "doc_md": dag_doc(job),
    } | dag
    arguments["default_args"] = RETRIES | ({"pool": pool} if pool else {}) | dag.get("default_args", {})
    with DAG(dag_id, schedule=schedule, **arguments) as made:
        add_chain(job)
    # A task copies the params that its DAG has by then, and Airflow validates and serializes each copy.
    made.params = migration_params(job, **(defaults or {})) | dag.get("params", {})
    return made


def migration_group(group_id: str, job: type[Params] = M2M, *, pool: str | None = None) -> TaskGroup:
    """A job's chain as a task group for a DAG of your own, whose params are :func:`migration_params`.

    :param pool: the pool of all tasks, which must exist; None: that of the DAG.
    """
    with TaskGroup(group_id, default_args={"pool": pool} if pool else {}) as group:  # type: ignore[arg-type]
        add_chain(job)
    return group


def migration_params(job: type[Params] = M2M, **defaults: Any) -> dict[str, Param]:
    """The DAG params of a job, with types, titles, descriptions and sections, in the order of the trigger form.

    :param defaults: defaults that replace those of the job. Raises TypeError for a name that the job doesn't have.
    """
    properties = arrange_form(job.model_json_schema()["properties"])
    unknown = sorted(set(defaults) - set(properties))
    if unknown:
        raise TypeError(f"migration_params() got unknown params {', '.join(unknown)}")
    return {name: _param(schema | _default(name, schema, defaults)) for name, schema in properties.items()}


def _default(name: str, schema: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The default given, as JSON schema; None is ignored where the param can't be null."""
    is_given = name in defaults and (defaults[name] is not None or "null" in schema["type"])
    return {"default": defaults[name]} if is_given else {}


def _param(schema: Mapping[str, Any]) -> Param:
    fields = {**DIALECT, **schema}
    return Param(fields.pop("default"), **fields) if "default" in fields else Param(**fields)
