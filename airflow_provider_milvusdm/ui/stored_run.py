"""What Airflow's database holds of a run: its facts, its task instances, its XComs and its task state.

This is the only module that knows Airflow's tables. What it returns are plain values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select

from airflow_provider_milvusdm.operators.xcom import NOT_MAPPED, is_reference

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

KEYS_AT_ONCE = 500
"""Keys in one query: SQLite takes at most 32,766 parameters, and a short query is planned sooner."""


@dataclass(frozen=True)
class Task:
    """A task instance, as it is now."""

    task_id: str
    map_index: int
    state: str
    """Empty if it has none yet."""
    label: str
    operator: str
    try_number: int
    started: datetime | None
    ended: datetime | None
    max_tries: int = 0
    """The same for an attempt and its retries; another one once the task was cleared."""


class StoredRun:
    """A run in Airflow's database. Values that a custom backend keeps elsewhere are read through that backend."""

    def __init__(self, session: Session, run: DagRun) -> None:
        self.session, self.run = session, run

    @property
    def dag_id(self) -> str:
        return str(self.run.dag_id)

    @property
    def run_id(self) -> str:
        return str(self.run.run_id)

    @property
    def state(self) -> str:
        return str(self.run.state)

    @property
    def started_by(self) -> str:
        """The user who started the run; or how it was started, such as ``scheduled``."""
        return str(self.run.triggering_user_name or self.run.run_type)

    @property
    def started(self) -> str:
        """In ISO 8601; empty if it has not started."""
        return self.run.start_date.isoformat() if self.run.start_date else ""

    @property
    def ended(self) -> str:
        """In ISO 8601; empty if it has not ended."""
        return self.run.end_date.isoformat() if self.run.end_date else ""

    def tasks(self) -> list[Task]:
        """The task instances."""
        columns: tuple[Any, ...] = (
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.state,
            TaskInstance.rendered_map_index,
            TaskInstance.operator,
            TaskInstance.try_number,
            TaskInstance.start_date,
            TaskInstance.end_date,
            TaskInstance.max_tries,
        )
        query = select(*columns).where(TaskInstance.dag_id == self.run.dag_id, TaskInstance.run_id == self.run.run_id)
        return [
            Task(task_id, index, str(state or ""), label or "", operator or "", tries or 0, *others)
            for task_id, index, state, label, operator, tries, *others in self.session.execute(query)
        ]

    def xcoms(self, task_ids: Iterable[str], key: str) -> dict[tuple[str, int], Any]:
        """What tasks pushed under a key, by their ids and map indexes."""
        query = self._xcoms().where(XComModel.task_id.in_(list(task_ids)), XComModel.key == key)
        return {(task_id, index): _value(value) for task_id, index, _, value in self.session.execute(query)}

    def groups(self, references: Iterable[Any]) -> Iterator[tuple[Mapping[str, Any], list[Any]]]:
        """The groups of manifests that references stand for, each with its reference; lost ones are left out."""
        wanted = {_place(reference): reference for reference in references if is_reference(reference)}
        rest = iter(wanted)
        while places := list(islice(rest, KEYS_AT_ONCE)):
            query = self._xcoms().where(XComModel.key.in_([key for _, _, key in places]))
            for task_id, index, key, value in self.session.execute(query):
                group = _value(value)
                if (task_id, index, key) in wanted and isinstance(group, list):
                    yield wanted[task_id, index, key], group

    def task_state(self, task_ids: Iterable[str], key: str) -> dict[tuple[str, int], Any]:
        """What running tasks keep under a key in their task state, by their ids and map indexes."""
        query = select(TaskStateStoreModel.task_id, TaskStateStoreModel.map_index, TaskStateStoreModel.value).where(
            TaskStateStoreModel.dag_run_id == self.run.id,
            TaskStateStoreModel.task_id.in_(list(task_ids)),
            TaskStateStoreModel.key == key,
        )
        return {(task_id, index): _json(value) for task_id, index, value in self.session.execute(query)}

    def _xcoms(self) -> Any:
        return select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).where(
            XComModel.dag_run_id == self.run.id
        )


def find_run(session: Session, dag_id: str, run_id: str) -> StoredRun | None:
    """The run; None if there is no such run."""
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return StoredRun(session, run) if run else None


def _place(reference: Mapping[str, Any]) -> tuple[str, int, str]:
    return reference["task"], reference.get("map_index", NOT_MAPPED), reference["xcom"]


def _value(stored: Any) -> Any:
    """An XCom as the task pushed it; JSON needs no decoding, and a backend may have stored its address instead."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.xcom import XCom

    return stored if XCom is BaseXCom else XCom.deserialize_value(SimpleNamespace(value=stored))


def _json(text: str) -> Any:
    """A value of the task state; None where a custom backend stored something else than JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
