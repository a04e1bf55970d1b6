"""Params that jobs have in common: of a Milvus 1.x source, of rows, of a Milvus 2.x target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.config import JsonDict

from airflow_provider_milvusdm.config.target_settings import TargetSettings
from airflow_provider_milvusdm.config.validation import (
    OptionalPort,
    OptionalSize,
    OptionalText,
    Params,
    Selection,
    parse_selection,
)
from airflow_provider_milvusdm.model.collections import ALL_COLLECTIONS, Metric

FIELD_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
SOURCE: JsonDict = {"section": "Source"}
PLACES: JsonDict = {"section": "Source: other places"}
TARGET: JsonDict = {"section": "Target"}
ROWS: JsonDict = {"section": "Rows"}

UNIT_MIB = 256
IMPORT_UNIT_MIB = 1024
"""A server that imports waits seconds between two jobs, however large they are."""


class Milvus1xParams(Params):
    """Where a Milvus 1.x server left its data."""

    source_milvus_path: str = Field(
        min_length=1,
        title="Milvus 1.x data directory",
        description="The directory that holds db/ and wal/, or its URL: s3://conn_id@bucket/path. It is only read.",
        json_schema_extra=SOURCE,
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
        json_schema_extra=SOURCE,
    )
    mysql_conn_id: OptionalText = Field(
        default=None,
        title="MySQL connection of the catalog",
        description="Only where the 1.x server kept its metadata in MySQL; empty: db/meta.sqlite.",
        json_schema_extra=SOURCE,
    )
    mysql_charset: Literal["auto", "latin1", "utf8mb4"] = Field(
        default="auto",
        title="Charset of the MySQL catalog",
        description="Of the connection that the 1.x server wrote it over. auto: told by the names; where they don't "
        "tell, it is asked for.",
        json_schema_extra=PLACES,
    )
    catalog_path: OptionalText = Field(
        default=None,
        title="Catalog file",
        description="meta.sqlite, where it is not <source_milvus_path>/db/meta.sqlite.",
        json_schema_extra=PLACES,
    )
    tables_path: OptionalText = Field(
        default=None,
        title="Tables folder",
        description="The folder of segments, where it is not <source_milvus_path>/db/tables.",
        json_schema_extra=PLACES,
    )
    wal_path: OptionalText = Field(
        default=None,
        title="Log folder",
        description="The 1.x server's log, where it is not <source_milvus_path>/wal.",
        json_schema_extra=PLACES,
    )
    rename: dict[str, str] = Field(
        default={},
        title="Names in the target",
        description='{"news": "articles"} renames a collection, {"news/2021": "y2021"} a partition of it.',
        json_schema_extra=TARGET,
    )
    unflushed_log: Literal["replay", "ignore", "error"] = Field(
        default="replay",
        title="Rows that only the 1.x server's log holds",
        description="replay: what the log inserts and deletes is applied, as the server does at its start. ignore: it "
        "is left behind, and counted. error: a collection that has such rows is refused.",
        json_schema_extra=ROWS,
    )
    unlisted_segments: Literal["error", "ignore"] = Field(
        default="error",
        title="Segment folders that the catalog does not name",
        description="Their rows may be missing, as where the catalog was copied without its -wal. error: their "
        "collection is refused. ignore: they are left behind, and counted.",
        json_schema_extra=ROWS,
    )


class RowsParams(Params):
    """What to do with rows, whatever they come from and go to."""

    written_folders: ClassVar[tuple[str, ...]] = ("skipped_rows_dir",)

    duplicate_ids: Literal["error", "keep_first", "keep_last"] = Field(
        default="error",
        title="If an id stands on several rows of a partition",
        description="error: the collection is refused and the ids are named. keep_first, keep_last: one row of each is "
        "taken. Rows with the same id and the same vector are one row, whatever is chosen.",
        json_schema_extra=ROWS,
    )
    invalid_vectors: Literal["error", "skip"] = Field(
        default="error",
        title="Vectors with NaN or infinity",
        description="error: the collection is refused and the ids are named. skip: the rows are saved to a file below "
        "skipped_rows_dir and left out.",
        json_schema_extra=ROWS,
    )
    skipped_rows_dir: OptionalText = Field(
        default=None,
        title="Folder for rows excluded",
        description="A run writes into <skipped_rows_dir>/<dag>/<run>/<collection>/<partition>.h5.",
        json_schema_extra=ROWS,
    )
    unit_mib: OptionalSize = Field(
        default=None,
        title="Size of a load unit (MiB)",
        description=f"What one load task takes; empty: {UNIT_MIB}, by bulk import {IMPORT_UNIT_MIB}.",
        json_schema_extra=ROWS,
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("invalid_vectors") == "skip" and not params.get("skipped_rows_dir"):
            yield "invalid_vectors: skip without skipped_rows_dir: the rows excluded have to be saved somewhere"


class MilvusParams(RowsParams):
    """The target, a Milvus 2.x."""

    duplicate_ids: Literal["error", "keep_first", "keep_last", "remap"] = Field(  # type: ignore[assignment]
        default="error",
        title="If an id stands on several rows of a partition",
        description="error: the collection is refused and the ids are named. keep_first, keep_last: one row of each is "
        "loaded; rows with the same id and the same vector are one row. remap: every row is loaded, under a key of its "
        "own, with its id in the indexed field source_id.",
        json_schema_extra=ROWS,
    )
    id_scope: Literal["collection", "partition"] = Field(
        default="collection",
        title="What an id is of one row in",
        description="collection: rows that share an id in different partitions, with different vectors, are refused, "
        "for a query or search over the whole collection returns one of them. partition: they are loaded, for an "
        "application that always names its partition.",
        json_schema_extra=ROWS,
    )
    milvus_conn_id: str = Field(
        default="milvus_default",
        min_length=1,
        title="Milvus connection",
        description="Airflow connection to the target.",
        json_schema_extra=TARGET,
    )
    dest_host: OptionalText = Field(
        default=None,
        title="Target host",
        description="Takes the place of the connection's host. A connection with a host and a login refuses another, "
        "unless its allowed_hosts lists it.",
        json_schema_extra=TARGET,
    )
    dest_port: OptionalPort = Field(
        default=None,
        title="Target port",
        description="Takes the place of the connection's port.",
        json_schema_extra=TARGET,
    )
    dest_uri: OptionalText = Field(
        default=None,
        title="Target URI",
        description="Instead of host and port: http(s)://host:port, or the path of a Milvus Lite file.",
        json_schema_extra=TARGET,
    )
    mode: Literal["skip", "append", "overwrite", "sync", "abandon"] = Field(
        default="skip",
        title="If the target exists",
        description="skip leaves it as it is, append adds to it, overwrite puts the new collection in its place (or "
        "empties the named partitions first), sync makes it what the source is: inserts what is missing, deletes what "
        "the source does not have, loads again what differs; unless verify is full, only the ids of what an earlier "
        "run brought are compared. abandon loads nothing, and undoes what a run left half done.",
        json_schema_extra=TARGET,
    )
    overwrite: Literal["swap", "in_place"] = Field(
        default="swap",
        title="How a collection is overwritten",
        description="swap: the old one stays as it is until the new one is verified, and is dropped then. in_place: it "
        "is dropped before the new one is loaded, where the target has no room for both; readers find nothing until "
        "that is verified, and if the load fails the old rows are gone.",
        json_schema_extra=TARGET,
    )
    take_over: bool = Field(
        default=False,
        title="Take over",
        description="Go on with what another run left half loaded, where nobody can tell whether that run has ended: "
        "one of another Airflow, or of the command line on another host. What it should still write is refused.",
        json_schema_extra=TARGET,
    )
    max_deletions: float = Field(
        default=0.1,
        ge=0,
        le=1,
        title="Most rows that sync may delete",
        description="A share of the rows that the target holds in the partitions asked for. A sync that would delete "
        "more is refused, and changes nothing: the source is often a bad copy then.",
        json_schema_extra=TARGET,
    )
    alias: OptionalText = Field(
        default=None,
        title="Alias",
        description="The collection is loaded under a name of its own, and this alias switched to it once it is "
        "verified; what the alias stood for stays.",
        json_schema_extra=TARGET,
    )
    id_field: str = Field(
        default="id",
        pattern=FIELD_NAME,
        title="Primary key field",
        description="Name of the field for the ids.",
        json_schema_extra=TARGET,
    )
    vector_field: str = Field(
        default="embedding",
        pattern=FIELD_NAME,
        title="Vector field",
        description="Name of the field for the vectors.",
        json_schema_extra=TARGET,
    )
    create_index: bool = Field(
        default=True,
        title="Build the index",
        description="Carry the source's index over, load the collection and leave it ready to search.",
        json_schema_extra=TARGET,
    )
    target: Annotated[TargetSettings, WithJsonSchema({"type": "object"})] = Field(
        default=TargetSettings(),
        title="Settings of the target",
        description="index_type, index_params, metric_type, shards, consistency_level, replicas, mmap, dynamic_field, "
        "load, max_partitions; and the same by collection: "
        '{"load": false, "collections": {"news": {"index_type": "DISKANN"}}}.',
        json_schema_extra=TARGET,
    )
    load_method: Literal["insert", "bulk_import", "auto"] = Field(
        default="insert",
        title="How rows are loaded",
        description="bulk_import: as files in the target's object store, which the connection's import_url names. "
        "auto: by bulk import where there is one, else insert.",
        json_schema_extra=ROWS,
    )
    verify: Literal["counts", "sample", "full", "none"] = Field(
        default="full",
        title="Verification",
        description="full: every id and every byte is read back and compared. sample: every partition is counted, and "
        "some rows are compared. counts: no row is. none: what the target acknowledged is taken for loaded.",
        json_schema_extra=ROWS,
    )
    verify_search: int = Field(
        default=0,
        ge=0,
        le=10_000,
        title="Searches to compare",
        description="How many vectors of the source to search in the target: recall of the 10 nearest, against the "
        "exact answer from the source, and latency are in the report. 0: none.",
        json_schema_extra=ROWS,
    )
    search_recall: float = Field(
        default=0.9,
        ge=0,
        le=1,
        title="Least recall",
        description="Below it the collection fails.",
        json_schema_extra=ROWS,
    )
    search_params: Annotated[dict[str, int | float | str | bool], WithJsonSchema({"type": "object"})] = Field(
        default={},
        title="Search params",
        description='As the application searches: {"nprobe": 64}, {"ef": 128}; empty: the target\'s own.',
        json_schema_extra=ROWS,
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Everything up to the target, which is asked and not touched: what would be read and created.",
        json_schema_extra=ROWS,
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("dest_uri") and (params.get("dest_host") or params.get("dest_port")):
            yield "dest_uri and dest_host or dest_port are both set: one of them is enough"
        for name in ("dest_uri", "dest_host"):
            if "@" in str(params.get(name)):
                yield f"{name}: a login belongs into the connection that milvus_conn_id names, not into a param"
        if params.get("mode") == "sync" and params.get("duplicate_ids") == "remap":
            yield "mode: sync with duplicate_ids: remap: keys made of places can't tell which rows are there already"
        if params.get("mode") in ("sync", "append") and params.get("alias"):
            yield f"mode: {params['mode']} with alias: an alias is switched to a collection that is loaded anew"
        if params.get("create_index") is False and params.get("alias"):
            yield "create_index: false with alias: its readers could not search the collection"


class CollectionParameter(Params):
    """MilvusDM's ``collection_parameter``; ``index_file_size`` means nothing to Milvus 2.x."""

    dimension: int | None = Field(default=None, ge=1)
    index_file_size: int | None = None
    metric_type: Metric | None = Field(default=None, strict=False)

    def notes(self) -> tuple[str, ...]:
        """What the report has to say of it."""
        if self.index_file_size is None:
            return ()
        return (f"index_file_size {self.index_file_size} means nothing to Milvus 2.x, which sizes its segments itself",)


class ToOneCollection(MilvusParams):
    """Files become one collection, or one partition of it."""

    dest_collection_name: str = Field(
        min_length=1,
        title="Collection",
        description="Name of the collection in the target.",
        json_schema_extra=TARGET,
    )
    dest_partition_name: OptionalText = Field(
        default=None,
        title="Partition",
        description="Name of the partition in the target; empty: the whole collection, and its _default.",
        json_schema_extra=TARGET,
    )
    collection_parameter: Annotated[CollectionParameter, WithJsonSchema({"type": "object"})] = Field(
        default=CollectionParameter(),
        title="Collection parameters",
        description="dimension (checked against the data), metric_type, index_file_size (means nothing to Milvus 2.x).",
        json_schema_extra=TARGET,
    )
    id_offset: int = Field(
        default=0,
        title="First row number",
        description="Where rows without ids are numbered from.",
        json_schema_extra=ROWS,
    )
    ids: Literal["row_number", "auto"] = Field(
        default="row_number",
        title="Ids of rows without",
        description="row_number: numbered from id_offset over all files, so that a retry is exact. auto: the target "
        "makes them, and a load that ends in doubt has to be done anew.",
        json_schema_extra=ROWS,
    )
