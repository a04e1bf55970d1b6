"""What the first task checks before it reads the source."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_milvusdm.config.jobs import M2M
from airflow_provider_milvusdm.exceptions import UnknownHostError, UnreachableError
from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.operators import preflight
from airflow_provider_milvusdm.operators.base import FAULT
from airflow_provider_milvusdm.operators.preflight import check_run
from tests.support.reading import assert_in_order


class Instance:
    """A task instance that keeps what is pushed."""

    task_id, map_index, try_number, max_tries = "inspect_source", -1, 1, 3

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        return json.loads(json.dumps(self.pushed[key]))

    @property
    def fault(self) -> str:
        return str(self.pushed[self.pushed[FAULT]["xcom"]][0]["fault"])


def check(instance: Instance, **params: Any) -> Any:
    """The context of the first task, after its check."""
    dag = migration_dag("any", M2M)
    values = {name: dag.params.get_param(name).value for name in dag.params if name != "source_milvus_path"}
    context: Any = {
        "dag": dag,
        "task": dag.get_task("inspect_source"),
        "ti": instance,
        "params": {"source_milvus_path": "/data", **values, **params},
    }
    check_run(M2M)(context)
    return context


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        ({"mode": "sync", "duplicate_ids": "remap"}, ["These params can't be used", "mode: sync"]),
        ({"milvus_conn_id": "absent"}, ["absent", "Create the connection in Airflow, or correct milvus_conn_id"]),
        ({"dest_uri": "/nowhere/lite.db"}, ["Not a path for Milvus Lite", "/nowhere/lite.db"]),
        ({"dest_host": "http://milvus:19530"}, ["dest_host: an address", "set dest_uri"]),
        ({"dest_host": "milvus:19530"}, ["dest_host: an address", "set dest_uri"]),
        ({"dest_host": "mil vus"}, ["is invalid", "only the name of a host", "dest_host"]),
    ],
)
def test_what_no_retry_can_help_fails_at_once_and_is_left_for_the_report(
    params: dict[str, Any], parts: list[str]
) -> None:
    instance = Instance()
    with pytest.raises(AirflowFailException) as fault:
        check(instance, **params)
    assert_in_order(str(fault.value), parts)
    assert instance.fault == str(fault.value)


def test_a_target_that_is_away_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(hook: Any, *, creates: bool) -> str:
        raise UnreachableError("away", cure="Start it.")

    monkeypatch.setattr(preflight, "reach", away)
    instance = Instance()
    with pytest.raises(UnreachableError):
        check(instance, dest_host="milvus")
    assert instance.fault == "Away. What to do: Start it."


def test_a_host_that_does_not_exist_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(hook: Any, *, creates: bool) -> str:
        raise UnknownHostError("there is no host 'milvus'", cure="Correct it.")

    monkeypatch.setattr(preflight, "reach", unknown)
    instance = Instance()
    with pytest.raises(AirflowFailException, match="There is no host 'milvus'"):
        check(instance, dest_host="milvus")
    assert instance.fault == "There is no host 'milvus'. What to do: Correct it."


@pytest.mark.parametrize(
    ("mode", "creates"),
    [("skip", True), ("overwrite", True), ("append", False), ("sync", False), ("abandon", False)],
)
def test_the_right_to_create_is_asked_for_where_collections_are_created(
    monkeypatch: pytest.MonkeyPatch, mode: str, creates: bool
) -> None:
    asked: list[tuple[str, bool]] = []

    def reached(hook: Any, *, creates: bool) -> str:
        asked.append((hook.client_arguments()["uri"], creates))
        return "Milvus"

    monkeypatch.setattr(preflight, "reach", reached)
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps({"conn_type": "milvus", "host": "milvus"}))
    check(Instance(), mode=mode, dest_port="19531")
    assert asked == [("http://milvus:19531", creates)]


def test_a_milvus_lite_file_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(preflight, "reach", lambda *_, **__: pytest.fail("it was opened"))
    check(Instance(), dest_uri=str(tmp_path / "lite.db"))
    assert list(tmp_path.iterdir()) == []
