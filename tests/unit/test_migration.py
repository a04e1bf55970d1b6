"""The chain as Airflow sees it: its shape, its params, its serialized form."""

from __future__ import annotations

import json
import runpy
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import ParamValidationError
from airflow.sdk import DAG, Param, XComArg
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_milvusdm.config.jobs import H2M, JOBS
from airflow_provider_milvusdm.config.validation import parse_selection, read_params
from airflow_provider_milvusdm.migration import migration_dag, migration_group, migration_params
from airflow_provider_milvusdm.operators.base import RUN, run_folder
from airflow_provider_milvusdm.operators.params import parse_argument, refuse_bad_params
from tests.support.reading import assert_in_order, not_root
from tests.support.repository import ROOT

CHAIN = {
    "inspect_source": ("all_success", set()),
    "resolve_ids": ("all_success", {"inspect_source"}),
    "plan": ("all_done", {"inspect_source", "resolve_ids"}),
    "approve_plan": ("all_success", {"plan"}),
    "create_collection": ("all_success", {"plan", "approve_plan"}),
    "units": ("all_done", {"plan", "create_collection"}),
    "load_partitions": ("all_success", {"units"}),
    "check_source": ("all_done", {"inspect_source", "load_partitions"}),
    "verify_counts": ("all_done", {"plan", "create_collection", "load_partitions", "check_source"}),
    "publish_assets": ("all_done", {"plan", "verify_counts"}),
    "report": ("all_done", {"plan", "verify_counts"}),
}
MAPPED = {
    "resolve_ids": ("partitions", "inspect_source"),
    "create_collection": ("collections", "plan"),
    "load_partitions": ("units", "units"),
    "verify_counts": ("collections", "plan"),
    "publish_assets": ("collections", "plan"),
}


EXPORT = {
    **{task_id: CHAIN[task_id] for task_id in ("inspect_source", "resolve_ids", "plan", "report")},
    "units": ("all_success", {"plan"}),
    "export_partitions": ("all_success", {"units"}),
    "check_source": ("all_done", {"inspect_source", "export_partitions"}),
    "verify_counts": ("all_done", {"plan", "export_partitions", "check_source"}),
}
FILES = {
    **{task_id: task for task_id, task in CHAIN.items() if task_id != "check_source"},
    "verify_counts": ("all_done", {"plan", "create_collection", "load_partitions"}),
}
CHAINS = {"M2M": CHAIN, "H2M": FILES, "F2M": FILES, "M2H": EXPORT}
REQUIRED = {
    "M2M": {"source_milvus_path": "/data"},
    "H2M": {"dest_collection_name": "news"},
    "F2M": {"data_path": "/data/a.index", "dest_collection_name": "news"},
    "M2H": {"source_milvus_path": "/data", "data_dir": "/data/hdf5"},
}


def template(kind: str) -> DAG:
    found: DAG = runpy.run_path(str(ROOT / "dags" / f"milvusdm_{kind.lower()}.py"))["dag"]
    return found


@pytest.fixture(scope="module")
def dag() -> DAG:
    return template("M2M")


@pytest.fixture(scope="module", params=list(JOBS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def any_dag(kind: str) -> DAG:
    """The template of each job in turn."""
    return template(kind)


def test_each_chain_has_its_tasks_edges_and_trigger_rules(kind: str, any_dag: DAG) -> None:
    found = {task.task_id: (task.trigger_rule, task.upstream_task_ids) for task in any_dag.tasks}
    assert found == CHAINS[kind]


def test_verify_is_mapped_over_all_collections_that_were_asked_for_and_other_steps_over_their_inputs(dag: DAG) -> None:
    mapped = {task.task_id: task for task in dag.tasks if isinstance(task, MappedOperator)}
    assert set(mapped) == set(MAPPED)
    for task_id, (argument, upstream) in MAPPED.items():
        [(name, values)] = mapped[task_id].expand_input.value.items()
        assert name == argument
        assert isinstance(values, XComArg)
        assert [task.task_id for task, _ in values.iter_references()] == [upstream]


def test_mapped_tasks_have_readable_indexes_and_every_task_is_retried(any_dag: DAG) -> None:
    for task in any_dag.tasks:
        assert task.retries == 3
        assert bool(task.map_index_template) == isinstance(task, MappedOperator)


def test_the_delay_between_retries_doubles_and_is_limited(dag: DAG) -> None:
    for task in dag.tasks:
        assert (task.retry_exponential_backoff, type(task.retry_exponential_backoff)) == (2.0, float)
        assert task.retry_delay < task.max_retry_delay == timedelta(minutes=10)


def test_tasks_are_in_the_default_pool_unless_another_is_named(dag: DAG) -> None:
    assert {task.pool for task in dag.tasks} == {"default_pool"}
    named = migration_dag("named", pool="milvus", default_args={"owner": "search"})
    assert {(task.pool, task.owner, task.retries) for task in named.tasks} == {("milvus", "search", 3)}
    with DAG("own") as own:
        migration_group("move", pool="milvus")
    assert {task.pool for task in own.tasks} == {"milvus"}


def test_one_run_at_a_time_and_no_runs_for_the_past(kind: str, any_dag: DAG) -> None:
    found = (any_dag.dag_id, any_dag.max_active_runs, any_dag.catchup, any_dag.schedule)
    assert found == (f"milvusdm_{kind.lower()}", 1, False, None)


def test_every_argument_with_a_template_is_a_template_field(any_dag: DAG) -> None:
    for task in any_dag.tasks:
        arguments = task.partial_kwargs if isinstance(task, MappedOperator) else vars(task)
        templated = {name for name, value in arguments.items() if isinstance(value, str) and "params." in value}
        assert templated <= set(task.template_fields), task.task_id


def test_every_param_reaches_a_task(kind: str, any_dag: DAG) -> None:
    used = json.dumps(DagSerialization.to_dict(any_dag))
    unused = {name for name in JOBS[kind].model_fields if f"params.{name} " not in used}
    assert not unused


def test_each_param_is_typed_described_and_has_a_default_or_is_required(kind: str, any_dag: DAG) -> None:
    assert set(any_dag.params) == set(JOBS[kind].model_fields)
    for name in any_dag.params:
        param = any_dag.params.get_param(name)
        assert param.schema["type"], name
        assert param.schema["title"], name
        assert param.description, name
        if name in REQUIRED[kind]:
            with pytest.raises(ParamValidationError, match="No value passed and Param has no default value"):
                param.resolve()
        else:
            param.resolve()


def test_the_form_offers_choices_and_refuses_others(dag: DAG) -> None:
    choices = {name: dag.params.get_param(name).schema.get("enum") for name in ("mode", "verify", "unflushed_log")}
    assert choices == {
        "mode": ["skip", "append", "overwrite", "sync", "abandon"],
        "verify": ["full", "sample", "counts", "none"],
        "unflushed_log": ["replay", "ignore", "error"],
    }
    bad = [
        ("mode", "x"),
        ("dest_port", 0),
        ("dest_port", 99_999),
        ("max_deletions", 1.1),
        ("unit_mib", 0),
        *(("source_collection", empty) for empty in ("", [], {})),
        ("source_milvus_path", ""),
        ("rename", 5),
    ]
    for name, value in bad:
        with pytest.raises(ParamValidationError):
            dag.params.get_param(name).resolve(value)


def test_what_the_form_sends_is_accepted(kind: str, any_dag: DAG) -> None:
    sent = {name: any_dag.params.get_param(name).value for name in any_dag.params if name not in REQUIRED[kind]}
    files = {"data_dir": "/data"} if kind == "H2M" else {}
    read_params(JOBS[kind], {**sent, **REQUIRED[kind], **files})


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"unit_mib": None, "load_method": "insert"}, "256"),
        ({"unit_mib": None, "load_method": "bulk_import"}, "1024"),
        ({"unit_mib": None, "load_method": "auto"}, "1024"),
        ({"unit_mib": None}, "256"),
        ({"unit_mib": 64, "load_method": "bulk_import"}, "64"),
    ],
)
def test_a_load_unit_is_larger_by_bulk_import(dag: DAG, params: dict[str, Any], expected: str) -> None:
    assert dag.get_template_env().from_string(dag.get_task("inspect_source").unit_mib).render(params=params) == expected


@pytest.mark.parametrize("collections", ["*", "news\nmore/2021-03", ["news"], {"news": None, "more": ["2021-03"]}])
def test_collections_are_accepted_as_lines_and_as_json(dag: DAG, collections: Any) -> None:
    assert dag.params.get_param("source_collection").resolve(collections) == collections
    inspect = dag.get_task("inspect_source")
    template = dag.get_template_env().from_string(inspect.source_collection)
    rendered = template.render(params={"source_collection": collections})
    assert parse_selection(parse_argument(rendered)) == parse_selection(collections)


def test_each_dag_is_documented(any_dag: DAG) -> None:
    assert " → " in any_dag.dag_display_name
    assert "### If a run fails" in str(any_dag.doc_md)


def test_no_param_takes_a_secret(any_dag: DAG) -> None:
    assert not [name for name in any_dag.params if "password" in name or "token" in name or "mysql_parameter" in name]


def test_given_defaults_replace_those_of_the_model() -> None:
    params = migration_params(source_milvus_path="/data", mode="append", create_index=False)
    assert [params[name].value for name in ("source_milvus_path", "mode", "create_index", "verify")] == [
        "/data",
        "append",
        False,
        "full",
    ]
    with pytest.raises(TypeError, match="unknown params modes"):
        migration_params(modes="append")


def test_a_null_replaces_the_default_of_a_param_that_can_be_null() -> None:
    params = migration_params(H2M, ids_dataset=None, mode=None)
    assert (params["ids_dataset"].resolve(), params["mode"].resolve()) == (None, "skip")


def test_a_scheduled_dag_needs_its_source_and_is_serialized() -> None:
    with pytest.raises(ValueError, match="required params without default values"):
        migration_dag("nightly", schedule="@daily")
    dag = migration_dag("nightly", schedule="@daily", defaults={"source_milvus_path": "/data"}, tags=["mine"])
    dag.validate()
    serialized = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    again = DagSerialization.from_dict(serialized)
    assert set(again.task_dict) == set(CHAIN)
    assert again.tags == {"mine"}
    assert again.params["source_milvus_path"] == "/data"
    assert "@daily" in json.dumps(serialized) or "0 0 * * *" in json.dumps(serialized)


def test_each_template_is_serialized(kind: str, any_dag: DAG) -> None:
    serialized = DagSerialization.to_dict(any_dag)
    assert set(DagSerialization.from_dict(json.loads(json.dumps(serialized))).task_dict) == set(CHAINS[kind])


def test_tasks_carry_no_copies_of_the_params(any_dag: DAG) -> None:
    """Airflow validates each copy several times a run, and serializes it."""
    assert [task.task_id for task in any_dag.tasks if task.params] == []


def test_each_job_is_scheduled_once_its_required_params_have_defaults(kind: str) -> None:
    made = migration_dag("nightly", JOBS[kind], schedule="@daily", defaults=REQUIRED[kind])
    made.validate()
    assert {name: made.params[name] for name in REQUIRED[kind]} == REQUIRED[kind]


def test_each_chain_is_a_task_group_for_a_users_own_dag(kind: str) -> None:
    job = JOBS[kind]
    params: dict[str, Any] = {**migration_params(job, **REQUIRED[kind]), "mine": Param(1, type="integer")}
    with DAG("own", schedule=None, params=params) as dag:
        migration_group("move", job)
    assert {task.task_id: (task.trigger_rule, task.upstream_task_ids) for task in dag.tasks} == {
        f"move.{task_id}": (rule, {f"move.{upstream}" for upstream in upstreams})
        for task_id, (rule, upstreams) in CHAINS[kind].items()
    }
    DagSerialization.to_dict(dag)


def run_of(dag: DAG, task_id: str, run_id: str) -> str:
    """The argument `run` of a task, rendered."""
    task = dag.get_task(task_id)
    text = task.partial_kwargs.get("run", RUN) if isinstance(task, MappedOperator) else task.run
    return str(dag.get_template_env().from_string(text).render(ti={"dag_id": dag.dag_id}, run_id=run_id))


@pytest.mark.parametrize("task_id", ["units", "resolve_ids"])
def test_runs_of_two_dags_with_the_same_id_have_different_folders(tmp_path: Path, task_id: str) -> None:
    names = ("a", "b", "导出", "备份")
    runs = [run_of(migration_dag(name, JOBS["M2H"]), task_id, "scheduled__2026-11-30") for name in names]
    folders = [run_folder(str(tmp_path), run) for run in (*runs, "a/..")]
    assert folders == [*(tmp_path / name / "scheduled__2026-11-30" for name in names), tmp_path / "a" / "_."]


def test_the_folder_of_a_dag_whose_name_is_too_long_for_one_can_be_created(tmp_path: Path) -> None:
    names = ["x" * 250, *("导" * 249 + last for last in "出入")]
    folders = [run_folder(str(tmp_path), f"{name}/run") for name in names]
    for folder in folders:
        folder.mkdir(parents=True)
    assert folders[0] == tmp_path / names[0] / "run"
    assert len(set(folders)) == 3


def refuse(kind: str, dag: DAG, folder: Path, name: str) -> None:
    """Run the check that the first task makes before its step."""
    others = {"data_dir": tempfile.gettempdir(), "invalid_vectors": "skip", "skipped_rows_dir": tempfile.gettempdir()}
    context: Any = {"dag": dag, "params": {**REQUIRED[kind], **others, name: str(folder)}, "run_id": "manual"}
    refuse_bad_params(JOBS[kind])(context)


@pytest.mark.parametrize(
    ("kind", "name"), [("M2H", "data_dir"), ("M2H", "skipped_rows_dir"), ("H2M", "skipped_rows_dir")]
)
def test_a_folder_that_can_not_be_written_to_is_found_first(kind: str, name: str) -> None:
    dag = migration_dag("any", JOBS[kind])
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        folder.chmod(0o777)
        refuse(kind, dag, folder / "not" / "yet", name)
        (folder / "file").touch()
        (folder / "closed").mkdir(mode=0o555)
        (folder / "link").symlink_to(folder / "nowhere")
        for bad, found in (
            ("file", "not a folder"),
            ("closed", "may not write"),
            ("closed/x", "may not"),
            ("link", "not a f"),
        ):
            with not_root(), pytest.raises(AirflowFailException) as fault:
                refuse(kind, dag, folder / bad, name)
            assert_in_order(str(fault.value), [f"The folder of {name}", f"{folder / bad}/any/manual", "found", found])
        assert sorted(path.name for path in folder.iterdir()) == ["closed", "file", "link"]
