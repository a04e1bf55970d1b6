"""The chain of a migration: as tasks, as one task group, and as a DAG.

inspect source → resolve IDs → plan → create collection → units → load partitions → verify counts → report

It is flat, for a mapped task inside a mapped group is not allowed. Verify is mapped over every collection that was
asked for, not over those that got so far: so one collection's fault leaves the others alone, and can't be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, TaskGroup, XComArg

from airflow_provider_milvusdm.config import Migration, read_migration
from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.operators.base import FAULT, REPORT
from airflow_provider_milvusdm.operators.milvus import (
    MilvusCreateCollectionOperator,
    MilvusLoadOperator,
    MilvusPlanOperator,
    MilvusReportOperator,
    MilvusUnitsOperator,
    MilvusVerifyOperator,
)
from airflow_provider_milvusdm.operators.milvus1x import Milvus1xInspectOperator, Milvus1xSegmentOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": True}
MAP_INDEX = "{{ task.label }}"


def text(name: str) -> str:
    """Template of a param that is text or a number, empty where it is null."""
    return f"{{{{ params.{name} if params.{name} is not none else '' }}}}"


def value(name: str) -> str:
    """Template of a param of any type, as JSON."""
    return f"{{{{ params.{name} | tojson }}}}"


def refuse_bad_params(context: Context) -> None:
    """Tell all faults of a run's params at once, before its first step; other params of the DAG are its own."""
    from airflow.sdk.exceptions import AirflowFailException

    own = set(context["dag"].params) - set(Migration.model_fields)
    try:
        read_migration({name: value for name, value in context["params"].items() if name not in own})
    except MilvusdmError as error:
        raise AirflowFailException(str(error)) from None


def milvus1x_to_milvus() -> None:
    """The whole chain from Milvus 1.x to Milvus 2.x, driven by the DAG's params."""
    target = {name: text(name) for name in ("milvus_conn_id", "dest_host", "dest_port", "dest_uri")}
    inspect = Milvus1xInspectOperator(
        task_id="inspect_source",
        source_milvus_path=text("source_milvus_path"),
        source_collection=value("source_collection"),
        mysql_conn_id=text("mysql_conn_id"),
        catalog_path=text("catalog_path"),
        tables_path=text("tables_path"),
        wal_path=text("wal_path"),
        unit_mib=text("unit_mib"),
        unflushed_log=text("unflushed_log"),
        pre_execute=refuse_bad_params,
    )
    resolve = Milvus1xSegmentOperator.partial(task_id="resolve_ids", map_index_template=MAP_INDEX).expand(
        partitions=inspect.output
    )
    plan = MilvusPlanOperator(
        task_id="plan",
        groups=inspect.output,
        resolved=resolve.output,
        faults=XComArg(resolve, FAULT),
        rename=value("rename"),
        id_field=text("id_field"),
        vector_field=text("vector_field"),
        trigger_rule="all_done",
    )
    create = MilvusCreateCollectionOperator.partial(
        task_id="create_collection",
        mode=text("mode"),
        create_index=value("create_index"),
        map_index_template=MAP_INDEX,
        **target,
    ).expand(collection=plan.output)
    units = MilvusUnitsOperator(
        task_id="units", collections=plan.output, created=create.output, trigger_rule="all_done"
    )
    load = MilvusLoadOperator.partial(task_id="load_partitions", map_index_template=MAP_INDEX, **target).expand(
        unit=units.output
    )
    verify = MilvusVerifyOperator.partial(
        task_id="verify_counts",
        created=create.output,
        loaded=load.output,
        faults=[XComArg(create, FAULT), XComArg(load, FAULT)],
        verify=text("verify"),
        create_index=value("create_index"),
        map_index_template=MAP_INDEX,
        trigger_rule="all_done",
        **target,
    ).expand(collection=plan.output)
    MilvusReportOperator(
        task_id="report",
        collections=plan.output,
        reports=XComArg(verify, REPORT),
        faults=XComArg(verify, FAULT),
        trigger_rule="all_done",
    )


def milvus1x_to_milvus_group(group_id: str = "milvus1x_to_milvus") -> TaskGroup:
    """The chain as a task group for a DAG of your own, whose params are :func:`migration_params`."""
    with TaskGroup(group_id) as group:
        milvus1x_to_milvus()
    return group


def migration_params(**defaults: Any) -> dict[str, Param]:
    """DAG params of a migration: typed, described, with the model's defaults or those given."""
    properties = Migration.model_json_schema()["properties"]
    unknown = sorted(set(defaults) - set(properties))
    if unknown:
        raise TypeError(f"migration_params() got unknown params {', '.join(unknown)}")
    return {name: _param(schema, defaults.get(name)) for name, schema in properties.items()}


def _param(schema: Mapping[str, Any], default: Any) -> Param:
    fields = {name: value for name, value in schema.items() if name != "default"}
    if default is None and "default" not in schema:
        return Param(**fields)
    return Param(schema["default"] if default is None else default, **fields)


def migration_dag(dag_id: str, *, schedule: Any = None, defaults: Mapping[str, Any] | None = None, **dag: Any) -> DAG:
    """A DAG of the chain.

    :param schedule: any of Airflow's; a scheduled DAG needs ``defaults`` for ``source_milvus_path``.
    :param defaults: defaults of the params.
    :param dag: further arguments of the DAG.
    """
    arguments: dict[str, Any] = {
        "catchup": False,
        "max_active_runs": 1,
        "default_args": RETRIES,
        "tags": ["milvus", "migration"],
        "params": migration_params(**(defaults or {})),
    } | dag
    with DAG(dag_id, schedule=schedule, **arguments) as made:
        milvus1x_to_milvus()
    return made
