"""How manifests pass between tasks: each is in XCom under a key of its own, and tasks pass references to it.

A mapped task pulls the whole list that it is mapped over, and a task after mapped tasks pulls all that they returned.
So these lists hold references, of about a hundred bytes each, and a task pulls only the manifests that it needs.

A reference to a result also names the input of the task. If a mapping is shorter when it runs again, Airflow still
hands out the results of the tasks that it removed; and a task that is cleared alone finds results of other inputs.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable, Mapping
from typing import Any

from airflow_provider_milvusdm.exceptions import MilvusdmError

Reference = dict[str, Any]
"""Where a manifest is: ``task``, ``map_index``, ``xcom``; of a result also ``collection``, and ``of``: its input."""
NOT_MAPPED = -1
KEY_BYTES = 8


def push_all(instance: Any, manifests: Iterable[Any]) -> list[Reference]:
    """Push manifests, and return the references to map over."""
    return [_push(instance, manifest) for manifest in manifests]


def push_result(instance: Any, manifest: Any, collection: str, of: str) -> Reference:
    """Push the result of a task whose input is identified by ``of``, and return its reference."""
    return _push(instance, manifest) | {"collection": collection, "of": of}


def _push(instance: Any, manifest: Any) -> Reference:
    """Each try has keys of its own: an attempt that was given up and wakes up can't replace what another pushed."""
    key = secrets.token_hex(KEY_BYTES)
    instance.xcom_push(key=key, value=manifest)
    map_index = {} if instance.map_index in (None, NOT_MAPPED) else {"map_index": instance.map_index}
    return {"task": instance.task_id, "xcom": key, **map_index}


def is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and {"task", "xcom"} <= value.keys()


def pull(instance: Any, value: Any) -> Any:
    """The manifest that a reference stands for; any other value is returned as it is.

    Raises MilvusdmError if XCom has no such manifest any more.
    """
    if not is_reference(value):
        return value
    manifest = instance.xcom_pull(
        task_ids=value["task"], key=value["xcom"], map_indexes=value.get("map_index", NOT_MAPPED)
    )
    if manifest is None:
        raise MilvusdmError(
            "the result of an earlier task is missing",
            where=f"XCom {value['xcom']!r} of task {value['task']}",
            expected="a manifest",
            found="none: the task was cleared, or its XCom was deleted",
            cure=f"Clear task {value['task']} and all tasks after it.",
        )
    return manifest


def pull_all(instance: Any, values: Any, of: Container[str] | None = None) -> list[Any]:
    """The manifests that a (mapped) task passed on; with ``of`` only the results of these inputs."""
    return [pull(instance, value) for value in list_values(values) if of is None or _is_result(value, of)]


def _is_result(value: Any, of: Container[str]) -> bool:
    return not is_reference(value) or value.get("of") in of


def list_keys(values: Any) -> set[str]:
    """Keys of the references that a task returned; a manifest in place of a reference has the key ``""``."""
    return {value["xcom"] if is_reference(value) else "" for value in list_values(values)}


def list_values(values: Any) -> list[Any]:
    """The values that a (mapped) upstream task returned, without the gaps that failed and skipped tasks leave."""
    if values is None or isinstance(values, Mapping):
        return [values] if values else []
    return [value for value in values[:] if value is not None]
