"""The trigger form of Airflow's UI: the order of the params, their sections, and the labels of their choices.

Only the params without a section are shown when the form opens, and before the sections. Facts about the form hold for
Airflow 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIRST = ""
"""Stands for the params without a section."""
SECTIONS: dict[str, tuple[str, ...]] = {
    FIRST: (
        "source_milvus_path",
        "source_collection",
        "data_path",
        "data_dir",
        "dest_collection_name",
        "milvus_conn_id",
        "mode",
        "dry_run",
    ),
    "Source": (
        "mysql_conn_id",
        "mysql_charset",
        "catalog_path",
        "tables_path",
        "wal_path",
        "embeddings",
        "ids_dataset",
        "collection_parameter",
    ),
    "Target": (
        "dest_host",
        "dest_port",
        "dest_uri",
        "dest_partition_name",
        "rename",
        "alias",
        "partitions",
        "create_index",
        "target",
        "id_field",
        "vector_field",
        "auto_id",
    ),
    "Policy": (
        "duplicate_ids",
        "id_scope",
        "invalid_vectors",
        "skipped_rows_dir",
        "unflushed_log",
        "unlisted_segments",
        "ids",
        "id_offset",
        "allow_lossy",
        "overwrite",
        "max_deletions",
        "take_over",
        "approval",
        "approval_hours",
        "verify",
        "verify_search",
        "search_recall",
        "search_params",
    ),
    "Performance": ("load_method", "unit_mib"),
}
"""The params of all jobs, by section, in the order of the form."""
CHOICES: dict[str, dict[str, str]] = {
    "mode": {
        "skip": "Skip: leave what exists as it is",
        "append": "Append: add the rows to what exists",
        "overwrite": "Overwrite: replace what exists",
        "sync": "Sync: insert, delete and replace rows until it equals the source",
        "abandon": "Abandon: load nothing, and undo an interrupted run",
    },
    "mysql_charset": {
        "auto": "Detect it from the names",
        "latin1": "latin1",
        "utf8mb4": "utf8mb4",
    },
    "partitions": {
        "keep": "Keep them as partitions",
        "partition_key": "Store the tags in a partition key",
    },
    "auto_id": {
        "keep": "The target makes ids for new rows",
        "off": "New rows must have an id",
    },
    "duplicate_ids": {
        "error": "The collection fails",
        "keep_first": "Keep the first row of each id",
        "keep_last": "Keep the last row of each id",
        "remap": "Keep all rows, with new primary keys",
    },
    "id_scope": {
        "collection": "In the whole collection",
        "partition": "In its partition",
    },
    "invalid_vectors": {
        "error": "The collection fails",
        "skip": "Skip the rows, and save them to files",
    },
    "unflushed_log": {
        "replay": "Apply them",
        "ignore": "Ignore them",
        "error": "The collection fails",
    },
    "unlisted_segments": {
        "error": "The collection fails",
        "ignore": "Ignore them",
    },
    "ids": {
        "row_number": "Number the rows",
        "auto": "The target makes the ids",
    },
    "overwrite": {
        "swap": "Swap: drop the old collection once the new one is verified",
        "in_place": "In place: drop the old collection first",
    },
    "verify": {
        "counts": "Count the rows",
        "sample": "Count the rows, and compare a sample",
        "full": "Compare all rows",
        "none": "None",
    },
    "load_method": {
        "insert": "Insert requests",
        "bulk_import": "Bulk import of files",
        "auto": "Bulk import if the connection has an import URL",
    },
}
"""A label for each choice of a param."""
BOUNDS = ("minimum", "maximum", "exclusiveMinimum")


def arrange_form(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The JSON schemas of a job's params as those of the form, in its order.

    ``properties``: the JSON schemas by name.
    """
    places = [(section, name) for section, names in SECTIONS.items() for name in names if name in properties]
    return {name: _arranged(name, section, properties[name]) for section, name in places}


def _arranged(name: str, section: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    arranged = _without_clamping(schema)
    if section:
        arranged["section"] = section
    if "enum" in schema:
        arranged["values_display"] = {choice: CHOICES[name][choice] for choice in schema["enum"]}
    return arranged


def _without_clamping(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its bounds in ``allOf``, where Airflow checks them and the form does not see them.

    The form silently replaces a number by the bound that it exceeds: 99999 for a port becomes 65535.
    """
    bounds = {bound: schema[bound] for bound in BOUNDS if bound in schema}
    others = {key: value for key, value in schema.items() if key not in bounds}
    return others | ({"allOf": [bounds]} if bounds else {})
