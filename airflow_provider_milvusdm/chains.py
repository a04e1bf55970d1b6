"""The chain of each job: one table of jobs, and the steps that its rows put together.

    inspect_source → resolve_ids → plan
    Milvus: → approve_plan → create_collection → units → load_partitions
    HDF5:   → units → export_partitions
    → check_source → verify_counts → publish_assets (only Milvus), report

The step check_source is there where a server may still write to the source.

The chain is flat, because Airflow allows no mapped task in a mapped task group. verify_counts is mapped over all
collections that were asked for, and not over those that were loaded: a collection that fails does not stop the
others, and its fault is always reported.

A new source adds its inspect operator in a :class:`SourceSteps`, a new target a function of its steps; a new job adds
its row to :data:`CHAINS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias, XComArg

from airflow_provider_milvusdm.assets import ALIAS
from airflow_provider_milvusdm.config.jobs import F2M, H2M, M2H, M2M
from airflow_provider_milvusdm.config.validation import Params
from airflow_provider_milvusdm.operators.approval import ApprovePlanOperator
from airflow_provider_milvusdm.operators.assets import PublishAssetsOperator
from airflow_provider_milvusdm.operators.base import FAULT, MigrationOperator
from airflow_provider_milvusdm.operators.faiss import FaissInspectOperator
from airflow_provider_milvusdm.operators.group import RESULT
from airflow_provider_milvusdm.operators.hdf5 import (
    Hdf5ExportOperator,
    Hdf5InspectOperator,
    Hdf5UnitsOperator,
    Hdf5VerifyOperator,
)
from airflow_provider_milvusdm.operators.milvus import (
    MilvusCreateCollectionOperator,
    MilvusLoadOperator,
    MilvusUnitsOperator,
    MilvusVerifyOperator,
)
from airflow_provider_milvusdm.operators.milvus1x import (
    Milvus1xCheckOperator,
    Milvus1xInspectOperator,
    Milvus1xSegmentOperator,
)
from airflow_provider_milvusdm.operators.params import (
    ADDRESS,
    UNIT_MIB_TEMPLATE,
    json_arguments,
    json_template,
    text_arguments,
)
from airflow_provider_milvusdm.operators.plan import PlanOperator
from airflow_provider_milvusdm.operators.preflight import check_run
from airflow_provider_milvusdm.operators.report import ReportOperator
from airflow_provider_milvusdm.operators.resolve import ResolveOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.mappedoperator import MappedOperator

RETRIES = {
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,  # the delay doubles; Airflow takes True for the factor 1
    "max_retry_delay": timedelta(minutes=10),
}
MAP_INDEX = "{{ task.label }}"

PLAN_ONLY = {"plan_only": json_template("dry_run")}
POLICIES = text_arguments("duplicate_ids", "invalid_vectors", "skipped_rows_dir") | PLAN_ONLY
NAMES = text_arguments("id_field", "vector_field", "auto_id") | json_arguments("rename", "alias")
FILES = (
    text_arguments("dest_collection_name", "dest_partition_name", "id_offset", "ids")
    | json_arguments("data_path", "collection_parameter")
    | {"unit_mib": UNIT_MIB_TEMPLATE}
)


@dataclass(frozen=True)
class SourceSteps:
    """The steps that read a source."""

    inspect: type[MigrationOperator]
    arguments: Mapping[str, Any]
    """Arguments of ``inspect`` and ``check``; those that are no params of a job are omitted from its chain."""
    resolve: type[ResolveOperator] = ResolveOperator
    check: type[MigrationOperator] | None = None
    """Inspects the source again once its rows were read; None: no server writes to it."""


MILVUS1X = SourceSteps(
    inspect=Milvus1xInspectOperator,
    resolve=Milvus1xSegmentOperator,
    check=Milvus1xCheckOperator,
    arguments=text_arguments(
        "source_milvus_path",
        "mysql_conn_id",
        "mysql_charset",
        "catalog_path",
        "tables_path",
        "wal_path",
        "unflushed_log",
        "unlisted_segments",
        "partitions",
    )
    | json_arguments("source_collection")
    | {"unit_mib": UNIT_MIB_TEMPLATE},
)
HDF5_FILES = SourceSteps(Hdf5InspectOperator, FILES | text_arguments("data_dir", "embeddings", "ids_dataset"))
FAISS_INDEX = SourceSteps(FaissInspectOperator, FILES | json_arguments("allow_lossy"))

CheckSource = Callable[["MappedOperator"], Any]
"""Adds the step that inspects the source again behind the step that reads its rows; returns what it found."""
TargetSteps = Callable[[PlanOperator, CheckSource], tuple["MappedOperator", str | None]]
"""Adds the steps of a target, behind the plan; returns verify_counts, and the id of the task that asks for approval."""


def to_milvus(plan: PlanOperator, check_source: CheckSource) -> tuple[MappedOperator, str]:
    """The steps that write to Milvus 2.x."""
    address = text_arguments(*ADDRESS)
    method = text_arguments("load_method")
    settings = json_arguments("create_index", "target")
    prepare = (
        text_arguments("mode", "overwrite", "max_deletions", "id_scope")
        | json_arguments("take_over", "approval")
        | PLAN_ONLY
        | method
        | settings
        | address
    )
    approve = ApprovePlanOperator(
        task_id="approve_plan", collections=plan.output, **json_arguments("approval_hours"), **prepare
    )
    create = MilvusCreateCollectionOperator.partial(
        task_id="create_collection",
        approved=approve.output,
        first_task=plan.first_task,
        map_index_template=MAP_INDEX,
        **prepare,
    ).expand(collections=plan.output)
    units = MilvusUnitsOperator(
        task_id="units", collections=plan.output, created=XComArg(create, RESULT), trigger_rule="all_done"
    )
    load = MilvusLoadOperator.partial(
        task_id="load_partitions", map_index_template=MAP_INDEX, **method, **address
    ).expand(units=units.output)
    verify = MilvusVerifyOperator.partial(
        task_id="verify_counts",
        created=XComArg(create, RESULT),
        loaded=XComArg(load, RESULT),
        faults=[XComArg(create, FAULT), XComArg(load, FAULT)],
        changes=check_source(load),
        first_task=plan.first_task,
        map_index_template=MAP_INDEX,
        trigger_rule="all_done",
        **text_arguments("verify", "verify_search", "search_recall"),
        **json_arguments("search_params"),
        **method,
        **settings,
        **address,
    ).expand(collections=plan.output)
    PublishAssetsOperator.partial(
        task_id="publish_assets",
        map_index_template=MAP_INDEX,
        outlets=[AssetAlias(ALIAS)],
        reports=XComArg(verify, RESULT),
        trigger_rule="all_done",
        **address,
    ).expand(collections=plan.output)
    return verify, approve.task_id


def to_hdf5(plan: PlanOperator, check_source: CheckSource) -> tuple[MappedOperator, None]:
    """The steps that write HDF5 files."""
    units = Hdf5UnitsOperator(
        task_id="units",
        collections=plan.output,
        first_task=plan.first_task,
        **text_arguments("data_dir"),
        **PLAN_ONLY,
    )
    export = Hdf5ExportOperator.partial(task_id="export_partitions", map_index_template=MAP_INDEX).expand(
        units=units.output
    )
    verify = Hdf5VerifyOperator.partial(
        task_id="verify_counts",
        exported=XComArg(export, RESULT),
        faults=[XComArg(export, FAULT)],
        changes=check_source(export),
        first_task=plan.first_task,
        map_index_template=MAP_INDEX,
        trigger_rule="all_done",
        **PLAN_ONLY,
    ).expand(collections=plan.output)
    return verify, None


@dataclass(frozen=True)
class Chain:
    """A row of the table of jobs."""

    source: SourceSteps
    target: TargetSteps


CHAINS: dict[type[Params], Chain] = {
    M2M: Chain(MILVUS1X, to_milvus),
    H2M: Chain(HDF5_FILES, to_milvus),
    F2M: Chain(FAISS_INDEX, to_milvus),
    M2H: Chain(MILVUS1X, to_hdf5),
}
"""The table of jobs, by their params."""


def add_chain(job: type[Params]) -> None:
    """Add the steps of a job to the DAG, or the task group, of the ``with`` block around the call."""
    chain = CHAINS[job]
    inspect = chain.source.inspect(
        task_id="inspect_source", pre_execute=check_run(job), **_of_job(job, chain.source.arguments)
    )
    resolve = chain.source.resolve.partial(
        task_id="resolve_ids", first_task=inspect.task_id, map_index_template=MAP_INDEX, **POLICIES
    ).expand(partitions=inspect.output)
    plan = PlanOperator(
        task_id="plan",
        groups=inspect.output,
        resolved=XComArg(resolve, RESULT),
        faults=XComArg(resolve, FAULT),
        first_task=inspect.task_id,
        trigger_rule="all_done",
        **_of_job(job, NAMES),
    )
    verify, approval = chain.target(plan, partial(_add_check, job, inspect))
    ReportOperator(
        task_id="report",
        collections=plan.output,
        reports=XComArg(verify, RESULT),
        faults=XComArg(verify, FAULT),
        first_tasks=[inspect.task_id, plan.task_id],
        approval=approval,
        trigger_rule="all_done",
    )


def _add_check(job: type[Params], inspect: MigrationOperator, read: MappedOperator) -> Any:
    source = CHAINS[job].source
    if source.check is None:
        return ()
    arguments: dict[str, Any] = {"inspected": inspect.output, **_of_job(job, source.arguments)}
    check = source.check(task_id="check_source", trigger_rule="all_done", **arguments)
    read >> check
    return check.output


def _of_job(job: type[Params], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of arguments that have the names of params, those whose params the job has."""
    return {name: template for name, template in arguments.items() if name in job.model_fields}
