"""What Airflow's own database says of a run: `airflow dags test` and the exit codes tell less."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDED = {"success", "failed"}


@dataclass(frozen=True)
class TaskRun:
    task_id: str
    map_index: int
    """-1 where the task isn't mapped."""
    state: str | None
    rendered_map_index: str | None
    try_number: int
    pid: int | None
    """Of the process that runs it, or did last."""
    hostname: str


@dataclass(frozen=True)
class DagRun:
    dag_id: str
    run_id: str
    state: str
    tasks: tuple[TaskRun, ...]

    @property
    def states(self) -> dict[tuple[str, int], str | None]:
        """Each task's state by its id and map index."""
        return {(task.task_id, task.map_index): task.state for task in self.tasks}


def read_runs(env: Mapping[str, str], dag_id: str) -> list[DagRun]:
    """The runs of a DAG, oldest first."""
    found = _query(env, "SELECT run_id, state FROM dag_run WHERE dag_id = ? ORDER BY id", dag_id)
    return [DagRun(dag_id, run_id, state, _read_tasks(env, dag_id, run_id)) for run_id, state in found]


def read_run(env: Mapping[str, str], dag_id: str, run_id: str) -> DagRun:
    """One run of a DAG, as it is now."""
    return next(run for run in read_runs(env, dag_id) if run.run_id == run_id)


def read_xcom(
    env: Mapping[str, str], run: DagRun, task_id: str, *, map_index: int = -1, key: str = "return_value"
) -> Any:
    """What a task pushed; a KeyError where it pushed nothing."""
    return _read_value(env, "xcom", run, task_id, map_index, key)


def read_task_state(env: Mapping[str, str], run: DagRun, task_id: str, *, map_index: int = -1, key: str) -> Any:
    """What a task keeps across retries in `task_state_store`; a KeyError where it keeps nothing."""
    return _read_value(env, "task_state_store", run, task_id, map_index, key)


def read_events(env: Mapping[str, str], run: DagRun, event: str) -> set[tuple[str, int]]:
    """The tasks that an event of Airflow's audit log names, by id and map index."""
    sql = "SELECT task_id, map_index FROM log WHERE dag_id = ? AND run_id = ? AND event = ?"
    return set(_query(env, sql, run.dag_id, run.run_id, event))


def read_task_logs(env: Mapping[str, str], run: DagRun) -> str:
    """The logs of all tasks and tries of a run, each under its file's name."""
    folder = Path(env["AIRFLOW_HOME"]) / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"
    return "\n".join(f"--- {log}\n{log.read_text()}" for log in sorted(folder.rglob("*.log")))


def _read_tasks(env: Mapping[str, str], dag_id: str, run_id: str) -> tuple[TaskRun, ...]:
    sql = (
        "SELECT task_id, map_index, state, rendered_map_index, try_number, pid, hostname FROM task_instance"
        " WHERE dag_id = ? AND run_id = ? ORDER BY task_id, map_index"
    )
    return tuple(TaskRun(*row) for row in _query(env, sql, dag_id, run_id))


def _read_value(env: Mapping[str, str], table: str, run: DagRun, task_id: str, map_index: int, key: str) -> Any:
    place = "dag_id = ? AND run_id = ? AND task_id = ? AND map_index = ? AND key = ?"
    sql = f"SELECT CAST(value AS TEXT) FROM {table} WHERE {place}"
    rows = _query(env, sql, run.dag_id, run.run_id, task_id, map_index, key)
    if not rows:
        raise KeyError(f"no {key!r} of {task_id}[{map_index}] in {table} of {run.run_id}")
    return json.loads(rows[0][0])


def _query(env: Mapping[str, str], sql: str, *arguments: object) -> list[tuple[Any, ...]]:
    url = env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    if not url.startswith("sqlite"):
        return _query_postgresql(url, sql.replace("?", "%s"), arguments)
    database = Path(env["AIRFLOW_HOME"]) / "airflow.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(sql, arguments).fetchall()


def _query_postgresql(url: str, sql: str, arguments: tuple[object, ...]) -> list[tuple[Any, ...]]:
    import psycopg2  # only tests/e2e needs it

    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection, connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return list(cursor.fetchall())
