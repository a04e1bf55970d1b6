"""One model of a migration: DAG params, ``--conf`` and MilvusDM's YAML files all become this."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.vectors import ALL_COLLECTIONS

FIELD_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"

Selection = dict[str, list[str] | None]
"""Collections, each with the partition tags wanted of it, or None for all; ``*`` stands for every collection."""

OptionalText = Annotated[str | None, WithJsonSchema({"type": ["null", "string"]})]
OptionalPort = Annotated[
    int | None,
    Field(ge=1, le=65535),
    BeforeValidator(lambda port: int(port) if isinstance(port, str) and port.isdecimal() else port),
    WithJsonSchema({"type": ["null", "integer"], "minimum": 1, "maximum": 65535}),
]
"""MilvusDM took it in quotes, too."""


def parse_selection(value: Any) -> Any:
    """``source_collection`` in any of its spellings as an object.

    A name, a list of names, ``*``, or a mapping of names to a tag, a list of tags, or nothing for all.
    """
    if isinstance(value, str):
        return {value: None} if value else value
    if isinstance(value, list | tuple):
        return dict.fromkeys(value) if all(isinstance(name, str) for name in value) else value
    if isinstance(value, Mapping):
        return {name: [tags] if isinstance(tags, str) else tags or None for name, tags in value.items()}
    return value


class Migration(BaseModel):
    """Params of a migration from Milvus 1.x to Milvus 2.x, as in MilvusDM's M2M with some of our own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source_milvus_path: str = Field(
        min_length=1,
        title="Milvus 1.x data directory",
        description="The directory that holds db/ and wal/, as the workers see it. It is only read.",
        json_schema_extra={"section": "Source"},
    )
    source_collection: Annotated[
        Selection,
        BeforeValidator(parse_selection),
        WithJsonSchema({"type": "object", "minProperties": 1}),
    ] = Field(
        default={ALL_COLLECTIONS: None},
        min_length=1,
        title="Collections",
        description='{"news": null} is a collection, {"news": ["2021", "_default"]} some of its partitions, '
        '{"*": null} every collection.',
        json_schema_extra={"section": "Source"},
    )
    mysql_conn_id: OptionalText = Field(
        default=None,
        title="MySQL connection of the catalog",
        description="Only where the 1.x server kept its metadata in MySQL; empty: db/meta.sqlite.",
        json_schema_extra={"section": "Source"},
    )
    catalog_path: OptionalText = Field(
        default=None,
        title="Catalog file",
        description="meta.sqlite, where it is not <source_milvus_path>/db/meta.sqlite.",
        json_schema_extra={"section": "Source: other places"},
    )
    tables_path: OptionalText = Field(
        default=None,
        title="Tables folder",
        description="The folder of segments, where it is not <source_milvus_path>/db/tables.",
        json_schema_extra={"section": "Source: other places"},
    )
    wal_path: OptionalText = Field(
        default=None,
        title="Log folder",
        description="The 1.x server's log, where it is not <source_milvus_path>/wal.",
        json_schema_extra={"section": "Source: other places"},
    )
    milvus_conn_id: str = Field(
        default="milvus_default",
        min_length=1,
        title="Milvus connection",
        description="Airflow connection to the target.",
        json_schema_extra={"section": "Target"},
    )
    dest_host: OptionalText = Field(
        default=None,
        title="Target host",
        description="Takes the place of the connection's host.",
        json_schema_extra={"section": "Target"},
    )
    dest_port: OptionalPort = Field(
        default=None,
        title="Target port",
        description="Takes the place of the connection's port.",
        json_schema_extra={"section": "Target"},
    )
    dest_uri: OptionalText = Field(
        default=None,
        title="Target URI",
        description="Instead of host and port: http(s)://host:port, or the path of a Milvus Lite file.",
        json_schema_extra={"section": "Target"},
    )
    mode: Literal["skip", "append", "overwrite"] = Field(
        default="skip",
        title="If the target exists",
        description="skip leaves it as it is, append adds to it, overwrite drops it (or the named partitions) first.",
        json_schema_extra={"section": "Target"},
    )
    rename: dict[str, str] = Field(
        default={},
        title="Names in the target",
        description='{"news": "articles"} renames a collection, {"news/2021": "y2021"} a partition of it.',
        json_schema_extra={"section": "Target"},
    )
    id_field: str = Field(
        default="id",
        pattern=FIELD_NAME,
        title="Primary key field",
        description="Name of the field for the ids.",
        json_schema_extra={"section": "Target"},
    )
    vector_field: str = Field(
        default="embedding",
        pattern=FIELD_NAME,
        title="Vector field",
        description="Name of the field for the vectors.",
        json_schema_extra={"section": "Target"},
    )
    create_index: bool = Field(
        default=True,
        title="Build the index",
        description="Carry the source's index over, load the collection and leave it ready to search.",
        json_schema_extra={"section": "Target"},
    )
    duplicate_ids: Literal["error"] = Field(
        default="error",
        title="If an id stands on several rows of a partition",
        description="error: the collection is refused and the ids are named.",
        json_schema_extra={"section": "Rows"},
    )
    unflushed_log: Literal["error", "ignore"] = Field(
        default="error",
        title="Rows that only the 1.x server's log holds",
        description="error: a collection that has such rows is refused. ignore: they are left behind, and counted.",
        json_schema_extra={"section": "Rows"},
    )
    verify: Literal["counts", "sample"] = Field(
        default="sample",
        title="Verification",
        description="counts: every partition is counted. sample: rows are read back and compared bit for bit, too.",
        json_schema_extra={"section": "Rows"},
    )
    unit_mib: int = Field(
        default=256,
        ge=1,
        title="Size of a load unit (MiB)",
        description="What one load task takes.",
        json_schema_extra={"section": "Rows"},
    )


def read_migration(params: Mapping[str, Any]) -> Migration:
    """Check params, and tell all their faults at once. Raises ConfigurationError."""
    try:
        migration = Migration.model_validate(dict(params))
    except ValidationError as error:
        raise ConfigurationError(
            "these params can't be used:\n" + "\n".join(f"- {fault}" for fault in _faults(error)),
            cure="Correct them and start again; nothing has been read or written.",
        ) from None
    if migration.dest_uri and (migration.dest_host or migration.dest_port):
        raise ConfigurationError(
            "dest_uri and dest_host or dest_port are both set", expected="one of them", cure="Remove the other."
        )
    return migration


def _faults(error: ValidationError) -> Iterable[str]:
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"{name}: there is no such param{_hint(name)}"
        elif fault["type"] == "missing":
            yield f"{name}: required"
        else:
            yield f"{name}: {fault['msg']}, found {fault['input']!r}"


def _hint(name: str) -> str:
    """What ``name`` may have been meant to be."""
    if name == "mysql_parameter":
        return "; make an Airflow connection of it and give its id as mysql_conn_id"
    close = difflib.get_close_matches(name, Migration.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else ""
