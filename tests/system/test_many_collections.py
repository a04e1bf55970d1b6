"""Many small collections in one task: faults and kills leave the others alone."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import DagRun, TaskRun, read_run, read_task_logs, read_task_state, read_xcom
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.collections_2x import stored_in_all
from tests.support.directories import write_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.processes import wait_until
from tests.support.targets import milvus_client

ONE_AT_A_TIME = """
from datetime import timedelta

from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.operators import done, milvus

milvus.WAITING = 1
done.WRITE_SECONDS = 0
dag = migration_dag("one_at_a_time", default_args={"retries": 3, "retry_delay": timedelta(seconds=1)})
"""
"""A server takes a second or more to verify a collection: there is time to be killed between two of them."""

REFUSING = """
from pathlib import Path

from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.operators.milvus import MilvusLoadOperator

load = MilvusLoadOperator._load


def load_unless_refused(operator, first_units, import_store, client, unit, checkpoints):
    if unit.name == "c01" and Path({refused!r}).exists():
        raise OSError("made up")
    return load(operator, first_units, import_store, client, unit, checkpoints)


MilvusLoadOperator._load = load_unless_refused
dag = migration_dag("refusing", default_args={{"retries": 0}})
"""
"""Collection `c01` can't be loaded as long as there is a file."""


def write_collections(path: Path, number: int) -> Milvus1xDirectory:
    """Collections `c00`, `c01`, ... of two partitions."""
    partitions = {"_default": range(20), "a": range(20, 30)}
    return write_directory(path, {f"c{collection:02}": partitions for collection in range(number)})


def check_stored(uri: str, directory: Milvus1xDirectory, names: list[str]) -> None:
    with milvus_client(uri) as client:
        assert sorted(client.list_collections()) == names
        assert stored_in_all(client, names) == {
            name: {tag: directory.live(name, tag) for tag in ("_default", "a")} for name in names
        }


def states(run: DagRun, task_id: str) -> list[str | None]:
    return [task.state for task in run.tasks if task.task_id == task_id]


def test_damaged_collections_leave_those_in_the_same_group_alone(
    tmp_path: Path, target_uri: str, templates_env: dict[str, str]
) -> None:
    directory = write_collections(tmp_path / "milvus", 40)
    damaged = ["c03", "c17", "c39"]
    whole = [f"c{number:02}" for number in range(40) if f"c{number:02}" not in damaged]
    sound = {}
    for name in damaged:
        vectors = next((directory.tables_folder / name).rglob("*.rv"))
        sound[vectors] = vectors.read_bytes()
        vectors.write_bytes(sound[vectors][:-4])
    conf = {"source_milvus_path": str(directory.path), "dest_uri": target_uri}
    ended = dags_test(templates_env, "milvusdm_m2m", conf)

    assert ended.run is not None, ended.output
    assert ended.state == "failed", ended.output
    assert states(ended.run, "resolve_ids") == ["failed"]
    assert sorted(map(str, states(ended.run, "create_collection"))) == ["skipped", "success"]
    assert states(ended.run, "load_partitions") == ["success"]
    assert sorted(map(str, states(ended.run, "verify_counts"))) == ["failed", "success"]
    assert {task.try_number for task in ended.run.tasks} == {1}
    report = read_xcom(templates_env, ended.run, "report", key="report")["collections"]
    assert [entry["collection"] for entry in report if entry["status"] == "failed"] == damaged
    assert all(entry["collection"] in entry["faults"][0] for entry in report if entry["status"] == "failed")
    check_stored(target_uri, directory, whole)

    for vectors, content in sound.items():
        vectors.write_bytes(content)
    again = dags_test(templates_env, "milvusdm_m2m", conf)
    assert again.state == "success", again.output
    check_stored(target_uri, directory, sorted([*whole, *damaged]))


def test_a_task_killed_in_the_middle_of_its_group_repeats_only_what_was_not_done(
    tmp_path: Path, empty_milvus_server_uri: str, airflow: StandaloneAirflow
) -> None:
    directory, env = write_collections(tmp_path / "milvus", 12), airflow.env
    airflow.add_dags("one_at_a_time", ONE_AT_A_TIME)
    noted: dict[str, Any] = {}

    def killed() -> bool:
        [task] = verify_tasks() or [None]
        if not task or task.state != "running" or not task.pid:
            return False
        with suppress(KeyError):
            run = read_run(env, "one_at_a_time", run_id)
            noted.update(read_task_state(env, run, "verify_counts", map_index=0, key="done 1 0")["outcomes"])
            os.kill(task.pid, signal.SIGKILL)
        return bool(noted)

    def verify_tasks() -> list[TaskRun]:
        tasks = read_run(env, "one_at_a_time", run_id).tasks
        return [task for task in tasks if (task.task_id, task.map_index) == ("verify_counts", 0)]

    conf = {"source_milvus_path": str(directory.path), "dest_uri": empty_milvus_server_uri}
    run_id = airflow.trigger("one_at_a_time", conf)
    wait_until(killed, 240, airflow.tails)
    run = airflow.wait_for_run("one_at_a_time", run_id, seconds=300)
    logs = read_task_logs(env, run)
    assert run.state == "success", logs
    [verify] = [task for task in run.tasks if task.task_id == "verify_counts"]
    assert verify.try_number == 2
    last = logs[logs.index("task_id=verify_counts") :]
    last = last[last.index("attempt=2.log") :]
    repeated = set(re.findall(r"(c\d\d): done, ", last[: last.find("--- ", 1)]))
    assert len(repeated) < 12
    assert repeated.isdisjoint(f"c{int(number):02}" for number in noted)
    report = read_xcom(env, run, "report", key="report")["collections"]
    assert [entry["status"] for entry in report] == ["verified"] * 12
    check_stored(empty_milvus_server_uri, directory, [f"c{number:02}" for number in range(12)])


def test_after_a_collection_failed_to_load_its_task_is_cleared_and_finds_the_others_loaded(
    tmp_path: Path, milvus_lite_uri: str, airflow: StandaloneAirflow
) -> None:
    """The others have got their names meanwhile."""
    directory, refused = write_collections(tmp_path / "milvus", 3), tmp_path / "refused"
    refused.touch()
    airflow.add_dags("refusing", REFUSING.format(refused=str(refused)))
    conf = {"source_milvus_path": str(directory.path), "dest_uri": milvus_lite_uri}
    run = airflow.wait_for_run("refusing", airflow.trigger("refusing", conf))
    assert run.state == "failed"
    assert states(run, "load_partitions") == ["failed"]
    report = read_xcom(airflow.env, run, "report", key="report")["collections"]
    assert {entry["collection"]: entry["status"] for entry in report} == {
        "c00": "verified",
        "c01": "failed",
        "c02": "verified",
    }

    refused.unlink()
    airflow.clear(run, "load_partitions", downstream=True)
    run = airflow.wait_for_run("refusing", run.run_id)
    assert run.state == "success", read_task_logs(airflow.env, run)
    report = read_xcom(airflow.env, run, "report", key="report")["collections"]
    assert [sum(part["loaded"] for part in entry["partitions"]) for entry in report] == [30] * 3
    check_stored(milvus_lite_uri, directory, ["c00", "c01", "c02"])
