"""The chain of each job: as tasks, as one task group, and as a DAG.

inspect source → resolve IDs → plan → create collection → units → load partitions → check source → verify → report

Only Milvus 1.x is looked at again: no other source has a catalog, or a server that may go on writing.

It is flat, for a mapped task inside a mapped group is not allowed. Verify is mapped over every collection that was
asked for, not over those that got so far: so one collection's fault leaves the others alone, and can't be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from airflow_provider_milvusdm.config.jobs import F2M, H2M, M2H, M2M
from airflow_provider_milvusdm.config.params import IMPORT_UNIT_MIB, UNIT_MIB
from airflow_provider_milvusdm.config.validation import Params, read_params
from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.operators.base import FAULT, REPORT, MigrationOperator, run_folder
from airflow_provider_milvusdm.operators.faiss import FaissInspectOperator
from airflow_provider_milvusdm.operators.hdf5 import (
    Hdf5ExportOperator,
    Hdf5InspectOperator,
    Hdf5UnitsOperator,
    Hdf5VerifyOperator,
)
from airflow_provider_milvusdm.operators.inspect_files import FilesInspectOperator
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
from airflow_provider_milvusdm.operators.plan import PlanOperator
from airflow_provider_milvusdm.operators.report import ReportOperator
from airflow_provider_milvusdm.operators.resolve import ResolveOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import MappedOperator


RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": True}
MAP_INDEX = "{{ task.label }}"
UNIT_SIZE = (
    "{{ params.unit_mib or "
    f"({UNIT_MIB} if params.get('load_method', 'insert') == 'insert' else {IMPORT_UNIT_MIB})"
    " }}"
)


def text(name: str) -> str:
    """Template of a param that is text or a number, empty where it is null."""
    return f"{{{{ params.{name} if params.{name} is not none else '' }}}}"


def value(name: str) -> str:
    """Template of a param of any type, as JSON."""
    return f"{{{{ params.{name} | tojson }}}}"


def refuse_bad_params(job: type[Params]) -> Callable[[Context], None]:
    """Tell all faults of a run's params at once, before its first step; other params of the DAG are its own.

    So is a folder that can't be written into.
    """

    def refuse(context: Context) -> None:
        from airflow.sdk.exceptions import AirflowFailException

        from airflow_provider_milvusdm.storage.hdf5_output import require_writable

        own = set(context["dag"].params) - set(job.model_fields)
        try:
            read_params(job, {name: value for name, value in context["params"].items() if name not in own})
            for name in job.written_folders:
                if folder := context["params"].get(name):
                    require_writable(run_folder(folder, f"{context['dag'].dag_id}/{context['run_id']}"), name)
        except MilvusdmError as error:
            raise AirflowFailException(str(error)) from None

    return refuse


def inspect_milvus1x(job: type[Params], **options: str) -> Milvus1xInspectOperator:
    """The first step of a job that reads Milvus 1.x."""
    return Milvus1xInspectOperator(
        task_id="inspect_source", pre_execute=refuse_bad_params(job), **milvus1x_arguments(), **options
    )


def milvus1x_arguments() -> dict[str, str]:
    """Arguments of the operators that inspect Milvus 1.x."""
    places = ("source_milvus_path", "mysql_conn_id", "mysql_charset", "catalog_path", "tables_path", "wal_path")
    arguments = {name: text(name) for name in (*places, "unflushed_log", "unlisted_segments")}
    return arguments | {"source_collection": value("source_collection"), "unit_mib": UNIT_SIZE}


def check_source(inspect: MigrationOperator, read: MappedOperator) -> Any:
    """Look at a 1.x source again once its rows were read; what changed. No other source has a catalog to look at."""
    if not isinstance(inspect, Milvus1xInspectOperator):
        return ()
    check = Milvus1xCheckOperator(
        task_id="check_source", inspected=inspect.output, trigger_rule="all_done", **milvus1x_arguments()
    )
    read >> check
    return check.output


def inspect_files(operator: type[FilesInspectOperator], job: type[Params], **options: str) -> FilesInspectOperator:
    """The first step of a job whose files become one collection."""
    return operator(
        task_id="inspect_source",
        data_path=value("data_path"),
        dest_collection_name=text("dest_collection_name"),
        dest_partition_name=text("dest_partition_name"),
        collection_parameter=value("collection_parameter"),
        id_offset=text("id_offset"),
        ids=text("ids"),
        unit_mib=UNIT_SIZE,
        pre_execute=refuse_bad_params(job),
        **options,
    )


def milvus1x_to_milvus() -> None:
    """M2M, driven by the DAG's params."""
    inspect = inspect_milvus1x(M2M, partitions=text("partitions"))
    to_milvus(inspect, rename=value("rename"), auto_id=text("auto_id"))


def hdf5_to_milvus() -> None:
    """H2M, driven by the DAG's params."""
    options = {name: text(name) for name in ("data_dir", "embeddings", "ids_dataset")}
    to_milvus(inspect_files(Hdf5InspectOperator, H2M, **options))


def faiss_to_milvus() -> None:
    """F2M, driven by the DAG's params."""
    to_milvus(inspect_files(FaissInspectOperator, F2M, allow_lossy=value("allow_lossy")))


def milvus1x_to_hdf5() -> None:
    """M2H, driven by the DAG's params."""
    inspect = inspect_milvus1x(M2H)
    plan = resolve_and_plan(inspect, rename=value("rename"))
    units = Hdf5UnitsOperator(
        task_id="units",
        collections=plan.output,
        data_dir=text("data_dir"),
        plan_only=value("dry_run"),
    )
    export = Hdf5ExportOperator.partial(task_id="export_partitions", map_index_template=MAP_INDEX).expand(
        unit=units.output
    )
    verify = Hdf5VerifyOperator.partial(
        task_id="verify_counts",
        exported=export.output,
        faults=[XComArg(export, FAULT)],
        changes=check_source(inspect, export),
        plan_only=value("dry_run"),
        map_index_template=MAP_INDEX,
        trigger_rule="all_done",
    ).expand(collection=plan.output)
    report(plan, verify)


def resolve_and_plan(inspect: MigrationOperator, **names: str) -> PlanOperator:
    """The steps of every job after its source was inspected."""
    operator = Milvus1xSegmentOperator if isinstance(inspect, Milvus1xInspectOperator) else ResolveOperator
    policies = {name: text(name) for name in ("duplicate_ids", "invalid_vectors", "skipped_rows_dir")}
    policies["plan_only"] = value("dry_run")
    resolve = operator.partial(task_id="resolve_ids", map_index_template=MAP_INDEX, **policies).expand(
        partitions=inspect.output
    )
    return PlanOperator(
        task_id="plan",
        groups=inspect.output,
        resolved=resolve.output,
        faults=XComArg(resolve, FAULT),
        trigger_rule="all_done",
        **names,
    )


def report(plan: PlanOperator, verify: MappedOperator) -> ReportOperator:
    """The last step of every job."""
    return ReportOperator(
        task_id="report",
        collections=plan.output,
        reports=XComArg(verify, REPORT),
        faults=XComArg(verify, FAULT),
        trigger_rule="all_done",
    )


def to_milvus(inspect: MigrationOperator, **names: str) -> None:
    """The chain into Milvus 2.x, from any source."""
    target = {name: text(name) for name in ("milvus_conn_id", "dest_host", "dest_port", "dest_uri")}
    settings = {"create_index": value("create_index"), "target": value("target"), "verify": text("verify")}
    names |= {"id_field": text("id_field"), "vector_field": text("vector_field"), "alias": value("alias")}
    plan = resolve_and_plan(inspect, **names)
    create = MilvusCreateCollectionOperator.partial(
        task_id="create_collection",
        mode=text("mode"),
        overwrite=text("overwrite"),
        take_over=value("take_over"),
        max_deletions=text("max_deletions"),
        id_scope=text("id_scope"),
        load_method=text("load_method"),
        plan_only=value("dry_run"),
        map_index_template=MAP_INDEX,
        **settings,
        **target,
    ).expand(collection=plan.output)
    units = MilvusUnitsOperator(
        task_id="units", collections=plan.output, created=create.output, trigger_rule="all_done"
    )
    load = MilvusLoadOperator.partial(
        task_id="load_partitions", load_method=text("load_method"), map_index_template=MAP_INDEX, **target
    ).expand(unit=units.output)
    verify = MilvusVerifyOperator.partial(
        task_id="verify_counts",
        created=create.output,
        loaded=load.output,
        faults=[XComArg(create, FAULT), XComArg(load, FAULT)],
        changes=check_source(inspect, load),
        load_method=text("load_method"),
        verify_search=text("verify_search"),
        search_recall=text("search_recall"),
        search_params=value("search_params"),
        map_index_template=MAP_INDEX,
        trigger_rule="all_done",
        **settings,
        **target,
    ).expand(collection=plan.output)
    report(plan, verify)


CHAINS: dict[type[Params], Callable[[], None]] = {
    M2M: milvus1x_to_milvus,
    H2M: hdf5_to_milvus,
    F2M: faiss_to_milvus,
    M2H: milvus1x_to_hdf5,
}
