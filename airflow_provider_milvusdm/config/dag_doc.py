"""The documentation of a job's DAG, which Airflow's UI shows: what it does, its params, what to do when it fails."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from inspect import getdoc
from typing import Any

from airflow_provider_milvusdm.config.form import arrange_form
from airflow_provider_milvusdm.config.jobs import F2M, H2M, M2H, M2M
from airflow_provider_milvusdm.config.params import Milvus1xParams, MilvusParams
from airflow_provider_milvusdm.config.validation import Params

WHAT_IT_DOES: dict[type[Params], str] = {
    M2M: "Reads the data directory of a Milvus 1.x server, and loads its collections into Milvus 2.x.",
    H2M: "Reads HDF5 files, and loads their rows into one collection of Milvus 2.x.",
    F2M: "Reads the file of a Faiss index, and loads its rows into one collection of Milvus 2.x.",
    M2H: "Reads the data directory of a Milvus 1.x server, and writes an HDF5 file for each partition.",
}
ANY_TARGET = (
    (
        "plan",
        "Two collections would get the same name, or `rename` or `alias` names an unknown one: correct the param.",
    ),
)
FROM_MILVUS1X = (
    (
        "resolve_ids",
        "A collection or partition does not exist, a file is damaged, or rows can't be stored in Milvus 2.x (duplicate "
        "ids, NaN): the message names them. Correct `source_collection`, repair the source, or choose a policy.",
    ),
)
FROM_FILES = (
    (
        "resolve_ids",
        "A file is damaged, or rows can't be stored in Milvus 2.x (duplicate ids, NaN): the message names them. Repair "
        "the file, or choose a policy.",
    ),
)
TO_MILVUS = (
    (
        "create_collection",
        "The target has a collection that does not fit, another run works on it, or the login lacks a right. Nothing "
        "was changed.",
    ),
    (
        "load_partitions",
        "The target went away or is full. A retry continues where the attempt ended; a new run with the same params "
        "does, too.",
    ),
)
TO_HDF5 = (
    (
        "export_partitions",
        "The folder `data_dir` can't be written to, its disk is full, or the workers do not share it.",
    ),
)
CHECKED = (("check_source", "A Milvus 1.x server still writes to the source: stop it, or copy its directory."),)
TO_THE_END = (
    (
        "verify_counts",
        "The collection differs from the source, or an earlier task of it failed: the message says which.",
    ),
    ("report", "At least one collection failed: the message repeats the first fault and the cure of each."),
)


def dag_title(job: type[Params]) -> str:
    """What a job is called: ``Milvus 1.x → Milvus 2.x``."""
    return str(getdoc(job)).rstrip(".").removeprefix("A ").replace(" to ", " → ")


def dag_doc(job: type[Params]) -> str:
    """The documentation as Markdown."""
    return "\n".join(
        [
            f"{WHAT_IT_DOES[job]} The result is verified against the source, which is only read, and reported. Set "
            "`dry_run` to see what a run would do.",
            "",
            "### If a run fails",
            "",
            "Open the task `report`: its last lines name each failed collection with its first fault and the cure. "
            "Then start a run with the same params: it continues where the failed one ended. The red tasks say more:",
            "",
            *_table(("red task", "cause and cure"), ((f"`{task}`", text) for task, text in _causes(job))),
            "",
            "### If a run stays queued",
            "",
            "It waits for the run of this DAG that is at work, because one works at a time (`max_active_runs`). Open "
            "that run: a task of it may wait for its next attempt or for approval, and the task's log says so.",
            "",
            "### Params",
            "",
            *_table(("param", "default", "meaning"), (_param(name, schema) for name, schema in _schemas(job))),
        ]
    )


def _causes(job: type[Params]) -> Iterable[tuple[str, str]]:
    to_milvus, milvus1x = issubclass(job, MilvusParams), issubclass(job, Milvus1xParams)
    reached = "the target can't be reached or refuses the login, " if to_milvus else ""
    yield (
        "inspect_source",
        f"The params are wrong, {reached}or the source can't be read. The message lists all faults of the params.",
    )
    yield from FROM_MILVUS1X if milvus1x else FROM_FILES
    yield from ANY_TARGET
    yield from TO_MILVUS if to_milvus else TO_HDF5
    yield from CHECKED if milvus1x else ()
    yield from TO_THE_END


def _schemas(job: type[Params]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return arrange_form(job.model_json_schema()["properties"]).items()


def _param(name: str, schema: Mapping[str, Any]) -> tuple[str, str, str]:
    if "default" not in schema:
        default = "required"
    elif schema["default"] in (None, ""):
        default = ""
    else:
        default = f"`{json.dumps(schema['default']).strip(chr(34))}`"
    meaning = f"{schema['title']}. {schema['description']}"
    return f"`{name}`", default, re.sub(r"([*<_])", r"\\\1", meaning)


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    for row in (heading, ("---",) * len(heading), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
