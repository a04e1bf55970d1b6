"""How manifests pass between tasks: each group is in XCom under a key of its own, and tasks pass references to groups.

A mapped task pulls the whole list that it is mapped over, and a task after mapped tasks pulls all that they returned.
So these lists hold references, of about a hundred bytes each, and a task pulls only the groups that it needs.

A reference to results also names the input of the task. If a mapping is shorter when it runs again, Airflow still
hands out the results of the tasks that it removed; and a task that is cleared alone finds results of other inputs.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable, Mapping
from typing import Any

from airflow_provider_milvusdm.exceptions import MilvusdmError

Reference = dict[str, Any]
"""Where a group of manifests is: ``task``, ``map_index``, ``xcom``; of results also ``of``: the input of their task."""
NOT_MAPPED = -1
KEY_BYTES = 8


def push_group(instance: Any, manifests: Iterable[Any], of: str = "") -> Reference:
    """Push a group of manifests that belong to the input ``of``, and return its reference.

    Each try has keys of its own: an attempt that was given up and wakes up can't replace what another pushed.
    """
    key = secrets.token_hex(KEY_BYTES)
    instance.xcom_push(key=key, value=list(manifests))
    map_index = {} if instance.map_index in (None, NOT_MAPPED) else {"map_index": instance.map_index}
    return {"task": instance.task_id, "xcom": key, **map_index, **({"of": of} if of else {})}


def is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and {"task", "xcom"} <= value.keys()


def pull(instance: Any, value: Any) -> list[Any]:
    """The manifests that a reference stands for; any other value is a group of manifests itself.

    Raises MilvusdmError if XCom has no such group any more.
    """
    if not is_reference(value):
        return list(value)
    manifests = instance.xcom_pull(
        task_ids=value["task"], key=value["xcom"], map_indexes=value.get("map_index", NOT_MAPPED)
    )
    if manifests is None:
        raise MilvusdmError(
            "the result of an earlier task is missing",
            where=f"XCom {value['xcom']!r} of task {value['task']}",
            expected="manifests",
            found="none: the task was cleared, or its XCom was deleted",
            cure=f"Clear task {value['task']} and all tasks after it.",
        )
    return list(manifests)


def pull_all(instance: Any, values: Any, of: Container[str] | None = None) -> list[Any]:
    """The manifests that a (mapped) task passed on; with ``of`` only those that belong to these inputs."""
    groups = [value for value in list_values(values) if of is None or _belongs(value, of)]
    return [manifest for group in groups for manifest in pull(instance, group)]


def _belongs(value: Any, of: Container[str]) -> bool:
    return not is_reference(value) or value.get("of") in of


def list_keys(values: Any) -> set[str]:
    """What results name as their input: keys of the references that a task returned; ``""`` for other values."""
    return {input_of(value) for value in list_values(values)}


def input_of(value: Any) -> str:
    """What the results of a task with this input belong to: the input, or what that belongs to itself."""
    return str(value.get("of", value["xcom"])) if is_reference(value) else ""


def list_references(values: Any) -> list[Reference]:
    """The references that a (mapped) upstream task returned."""
    return [value for value in list_values(values) if is_reference(value)]


def list_values(values: Any) -> list[Any]:
    """The values that a (mapped) upstream task returned, without the gaps that failed and skipped tasks leave."""
    if values is None or isinstance(values, Mapping):
        return [values] if values else []
    return [value for value in values[:] if value is not None]
