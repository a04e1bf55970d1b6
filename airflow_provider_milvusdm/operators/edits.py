"""Params, and a target, that were edited since the first task of a run checked them.

Airflow reads a DAG's file, and with it the defaults of its params, anew for each task of a run; another worker may have
another version of the file.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.validation import without_password
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.operators.overview import RUN_FACTS
from airflow_provider_milvusdm.operators.xcom import NOT_MAPPED

if TYPE_CHECKING:
    from airflow.sdk import Context

NOTED = "checked"
"""Key in the task state: the first try of the first task, and ``max_tries`` of this task when it ran since for the
first time. It is the same for an attempt and its retries, however many retries the DAG has by then."""


def refuse_edits(context: Context, first_task: str, first_try: int, params: Collection[str], address: str) -> None:
    """Raises ConfigurationError if a task would work with other params, or another target, than were checked.

    Not so if the task was cleared since: whoever does that may have edited them on purpose.

    :param first_task: id of the task that checked them.
    :param first_try: of the tries of this task since it was scheduled, or cleared, the number of the first.
    :param params: names of those that this task uses.
    :param address: that of the target; empty if this task does not use it.
    """
    facts = context["ti"].xcom_pull(task_ids=first_task, key=RUN_FACTS, map_indexes=NOT_MAPPED) or {}
    edited = [
        name
        for name, value in facts.get("params", {}).items()
        if name in params and name in context["params"] and without_password(context["params"][name]) != value
    ]
    if address and facts.get("address", address) != address:
        edited.append(f"the target, which was {facts['address']} and is {address}")
    if not _was_cleared_since(context, first_try, facts.get("first_try", 1)) and edited:
        raise ConfigurationError(
            "the DAG's params, or the connection, were edited since the first task of this run checked them",
            expected="those that the first task checked",
            found=f"changed: {', '.join(edited)}",
            cure="This task changed nothing. Start a new run; or clear this task, and those after it, to go on as "
            "edited.",
        )


def _was_cleared_since(context: Context, first_try: int, of_first_task: int) -> bool:
    """Whether the task was cleared since the first task ran; both may have been cleared together before."""
    store: Any = context["task_state_store"]
    noted, max_tries = store.get(NOTED), context["ti"].max_tries
    if noted and noted["first_task"] == of_first_task:
        return bool(noted["max_tries"] != max_tries)
    if of_first_task == 1 and first_try > 1:
        return True
    store.set(NOTED, {"first_task": of_first_task, "max_tries": max_tries})
    return False
