"""A task does not go on with other params, or another target, than the first task of the run checked."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_milvusdm.config.jobs import H2M, M2H, M2M
from airflow_provider_milvusdm.config.validation import Params
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.operators.edits import refuse_edits
from tests.support.killed import Checkpoints

CHECKED = {"mode": "skip", "dry_run": True, "dest_uri": "http://login:secret@milvus:19530"}


class Run:
    """A run whose first task has checked its params; another task may run several times."""

    def __init__(self, *, first_task_began_at: int = 1) -> None:
        self.store, self.first_task_began_at, self.max_tries = Checkpoints(), first_task_began_at, 0
        self.params = CHECKED | {"of_the_dag": 1}

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: Any) -> Any:
        assert (task_ids, key) == ("inspect_source", "run")
        params = CHECKED | {"dest_uri": "http://login:***@milvus:19530"}
        return {"params": params, "address": "http://milvus:19530", "first_try": self.first_task_began_at}

    def refuse_edits(self, first_try: int = 1, address: str = "", max_tries: int | None = None) -> None:
        self.max_tries = first_try + 2 if max_tries is None else max_tries
        context: Any = {"ti": self, "params": self.params, "task_state_store": self.store}
        refuse_edits(context, "inspect_source", first_try, ["mode", "dry_run", "of_the_dag"], address)


def test_edited_params_and_another_target_are_refused() -> None:
    run = Run()
    run.refuse_edits(address="http://milvus:19530")
    with pytest.raises(ConfigurationError, match=r"the target, which was http://milvus:19530 and is other\.db"):
        run.refuse_edits(address="other.db")
    run.params |= {"dry_run": False, "mode": "overwrite"}
    with pytest.raises(ConfigurationError, match="changed: mode, dry_run"):
        run.refuse_edits()


def test_params_that_the_task_does_not_use_may_change() -> None:
    run = Run()
    run.params |= {"dest_uri": "other.db", "of_the_dag": 2}
    run.refuse_edits()


def test_a_task_that_was_cleared_goes_on_as_edited() -> None:
    run = Run()
    run.params |= {"dry_run": False}
    run.refuse_edits(first_try=2)


def test_a_retry_is_not_taken_for_a_cleared_task_if_the_dag_has_fewer_retries_now() -> None:
    run = Run()
    run.refuse_edits(max_tries=3)
    run.params |= {"mode": "overwrite"}
    with pytest.raises(ConfigurationError, match="changed: mode"):
        run.refuse_edits(first_try=2, max_tries=3)
    run.refuse_edits(first_try=3, max_tries=4)


def test_a_cleared_task_is_not_taken_for_a_retry_if_the_dag_has_more_retries_now() -> None:
    run = Run()
    run.refuse_edits(max_tries=3)
    run.params |= {"mode": "overwrite"}
    for _ in range(2):
        run.refuse_edits(max_tries=4)


def test_a_task_that_was_cleared_together_with_the_first_one_does_not() -> None:
    run = Run(first_task_began_at=2)
    run.params |= {"dry_run": False}
    for _ in range(2):  # and once more
        with pytest.raises(ConfigurationError, match="changed: dry_run"):
            run.refuse_edits(first_try=3)
    run.refuse_edits(first_try=4)
    run.first_task_began_at = 5
    with pytest.raises(ConfigurationError, match="changed: dry_run"):
        run.refuse_edits(first_try=6)


@pytest.mark.parametrize(
    ("job", "compared"),
    [
        (M2M, {"resolve_ids", "plan", "create_collection", "verify_counts"}),
        (H2M, {"resolve_ids", "plan", "create_collection", "verify_counts"}),
        (M2H, {"resolve_ids", "plan", "units", "verify_counts"}),
    ],
)
def test_the_tasks_that_decide_what_is_written_and_verified_compare(job: type[Params], compared: set[str]) -> None:
    dag = migration_dag("any", job)
    first_tasks = {
        task.task_id: task.partial_kwargs.get("first_task") if task.is_mapped else getattr(task, "first_task", None)
        for task in dag.tasks
    }
    assert {name for name, first_task in first_tasks.items() if first_task == "inspect_source"} == compared


@pytest.mark.parametrize("job", [M2M, H2M])
def test_params_that_only_the_first_task_reads_are_compared_by_none(job: type[Params]) -> None:
    """A DAG may compute them: the newest file of a folder, or a collection's name by the date."""
    dag = migration_dag("any", job)
    used = {
        name
        for task in dag.tasks
        if task.task_id not in ("inspect_source", "check_source")
        for name in task.template_fields
    }
    assert not used & {"source_milvus_path", "source_collection", "data_path", "dest_collection_name"}
