"""Manifests that pass between tasks: each stands in XCom under a key of its own, and references to it are handed on.

A mapped task pulls the whole list that it is mapped over, and a task behind mapped ones all that these returned: so
what is in there are references, of a hundred bytes, and a task pulls in full what is its own.

A reference says what it answers, too. Where a mapping became shorter when it was run again, Airflow goes on handing out
what its removed tasks had left; and a task that is cleared alone finds what others left in answer to something else.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable, Mapping
from typing import Any

from airflow_provider_milvusdm.exceptions import MilvusdmError

Reference = dict[str, Any]
"""``task``, ``map_index``, ``xcom``: where it is; of a result also its ``collection``, and ``of``: what it answers."""
NOT_MAPPED = -1
KEY_BYTES = 8


def hand_out(instance: Any, manifests: Iterable[Any]) -> list[Reference]:
    """References to ``manifests``, to be mapped over."""
    return [_put(instance, manifest) for manifest in manifests]


def hand_in(instance: Any, manifest: Any, collection: str, of: str) -> Reference:
    """A reference to a task's result, which is an answer to ``of``."""
    return _put(instance, manifest) | {"collection": collection, "of": of}


def _put(instance: Any, manifest: Any) -> Reference:
    """A key is of one try alone: an attempt that was given up, and wakes, puts nothing under another's."""
    key = secrets.token_hex(KEY_BYTES)
    instance.xcom_push(key=key, value=manifest)
    place = {} if instance.map_index in (None, NOT_MAPPED) else {"map_index": instance.map_index}
    return {"task": instance.task_id, "xcom": key, **place}


def is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and {"task", "xcom"} <= value.keys()


def pull(instance: Any, value: Any) -> Any:
    """The manifest that a reference stands for; what is none is a manifest itself."""
    if not is_reference(value):
        return value
    manifest = instance.xcom_pull(
        task_ids=value["task"], key=value["xcom"], map_indexes=value.get("map_index", NOT_MAPPED)
    )
    if manifest is None:
        raise MilvusdmError(
            "what an earlier task handed on is gone",
            where=f"XCom {value['xcom']!r} of task {value['task']}",
            expected="a manifest",
            found="none: the task was cleared, or its XCom was deleted",
            cure=f"Clear {value['task']} and what follows.",
        )
    return manifest


def pull_all(instance: Any, xcoms: Any, of: Container[str] | None = None) -> list[Any]:
    """The manifests that a (mapped) task handed on; of its results those alone that answer one of ``of``."""
    return [pull(instance, value) for value in all_values(xcoms) if of is None or _answers(value, of)]


def _answers(value: Any, of: Container[str]) -> bool:
    return not is_reference(value) or value.get("of") in of


def keys_of(xcoms: Any) -> set[str]:
    """Keys of what a task handed out: what is an answer to them is of the same try. That to a manifest is empty."""
    return {value["xcom"] if is_reference(value) else "" for value in all_values(xcoms)}


def all_values(xcoms: Any) -> list[Any]:
    """The values that a (mapped) upstream task left, those that failed or were skipped left out."""
    if xcoms is None or isinstance(xcoms, Mapping):
        return [xcoms] if xcoms else []
    return [value for value in xcoms[:] if value is not None]
