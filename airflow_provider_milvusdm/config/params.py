"""Params that jobs have in common: of a Milvus 1.x source, of rows, of a Milvus 2.x target.

Titles and descriptions are those of the trigger form; its order, sections and labels are in ``form.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, WithJsonSchema

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

TYPED_ADDRESS = re.compile(r"[a-z]+://.*|[^:]+:[0-9]+/?", re.IGNORECASE)
"""What people type for a host: ``https://host:19530``, ``host:19530``."""
FIELD_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"

UNIT_MIB = 256
IMPORT_UNIT_MIB = 1024
"""For bulk import: a server takes seconds between two import jobs, whatever their size is."""


class Milvus1xParams(Params):
    """A Milvus 1.x source."""

    source_milvus_path: str = Field(
        min_length=1,
        title="Milvus 1.x data directory",
        description="The directory that contains db/ and wal/, or its URL: s3://conn_id@bucket/path. It is only read.",
    )
    source_collection: Annotated[
        Selection,
        BeforeValidator(parse_selection),
        WithJsonSchema(
            {
                "type": ["string", "array", "object"],
                "items": {"type": "string"},
                "minLength": 1,
                "minItems": 1,
                "minProperties": 1,
            }
        ),
    ] = Field(
        default=ALL_COLLECTIONS,
        validate_default=True,
        min_length=1,
        title="Collections",
        description="One a line: news is a whole collection, news/2021-03 a partition of it, * all collections. "
        'As JSON: {"news": null, "more": ["2021-03", "_default"]}.',
    )
    mysql_conn_id: OptionalText = Field(
        default=None,
        title="MySQL connection of the catalog",
        description="Only if the 1.x server stored its metadata in MySQL. Empty: the catalog is db/meta.sqlite.",
    )
    mysql_charset: Literal["auto", "latin1", "utf8mb4"] = Field(
        default="auto",
        title="Charset of the MySQL catalog",
        description="The charset of the connection over which the 1.x server wrote the catalog. auto: found out from "
        "the names in the catalog; if that is not possible, the run fails and asks for this param.",
    )
    catalog_path: OptionalText = Field(
        default=None,
        title="Catalog file",
        description="The path of meta.sqlite, if it is not <source_milvus_path>/db/meta.sqlite.",
    )
    tables_path: OptionalText = Field(
        default=None,
        title="Folder of segments",
        description="The path of the folder, if it is not <source_milvus_path>/db/tables.",
    )
    wal_path: OptionalText = Field(
        default=None,
        title="Log folder",
        description="The path of the 1.x server's log (WAL), if it is not <source_milvus_path>/wal.",
    )
    rename: dict[str, str] = Field(
        default={},
        title="Names in the target",
        description='{"news": "articles"} renames a collection, {"news/2021": "y2021"} renames a partition.',
    )
    unflushed_log: Literal["replay", "ignore", "error"] = Field(
        default="replay",
        title="Operations that are only in the 1.x server's log",
        description="replay: the insertions and deletions in the log are applied, as the server does when it starts. "
        "ignore: they are not migrated, and the report counts them. error: collections with such operations fail.",
    )
    unlisted_segments: Literal["error", "ignore"] = Field(
        default="error",
        title="Segment folders that are not in the catalog",
        description="Their rows may be missing, for example if the catalog was copied without its -wal file. error: "
        "their collection fails. ignore: they are not migrated, and the report counts them.",
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if "@" in str(params.get("mysql_conn_id")):
            yield "mysql_conn_id: a login belongs in the connection, of which this is the id, not in a param"


class RowsParams(Params):
    """What to do with rows of any source, for any target."""

    written_folders: ClassVar[tuple[str, ...]] = ("skipped_rows_dir",)

    duplicate_ids: Literal["error", "keep_first", "keep_last"] = Field(
        default="error",
        title="If several rows of a partition have the same id",
        description="error: the collection fails, and the message lists the ids. keep_first, keep_last: the first or "
        "last row of each id is taken. Rows with the same id and the same vector always count as one row.",
    )
    invalid_vectors: Literal["error", "skip"] = Field(
        default="error",
        title="Vectors with NaN or infinity",
        description="error: the collection fails, and the message lists the ids. skip: the rows are not loaded, and "
        "saved to files in skipped_rows_dir.",
    )
    skipped_rows_dir: OptionalText = Field(
        default=None,
        title="Folder for excluded rows",
        description="A run writes to <skipped_rows_dir>/<dag>/<run>/<collection>/<partition>.h5. All workers must "
        "share it.",
    )
    unit_mib: OptionalSize = Field(
        default=None,
        title="Size of a load unit (MiB)",
        description=f"How much one load task loads. Empty: {UNIT_MIB}, or {IMPORT_UNIT_MIB} for bulk import.",
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("invalid_vectors") == "skip" and not params.get("skipped_rows_dir"):
            yield "invalid_vectors: skip without skipped_rows_dir: the folder for the excluded rows is missing"


class MilvusParams(RowsParams):
    """A Milvus 2.x target."""

    duplicate_ids: Literal["error", "keep_first", "keep_last", "remap"] = Field(  # type: ignore[assignment]
        default="error",
        title="If several rows of a partition have the same id",
        description="error: the collection fails, and the message lists the ids. keep_first, keep_last: the first or "
        "last row of each id is loaded; rows with the same id and the same vector count as one row. remap: every row "
        "is loaded with a new primary key, and its id goes to the indexed field source_id.",
    )
    id_scope: Literal["collection", "partition"] = Field(
        default="collection",
        title="Where an id must be unique",
        description="collection: a collection fails if rows with different vectors have the same id in different "
        "partitions, because a query or search over the whole collection returns only one of them. partition: such "
        "rows are loaded, for applications that always name the partition.",
    )
    milvus_conn_id: str = Field(
        default="milvus_default",
        min_length=1,
        title="Milvus connection",
        description="Airflow connection to the target.",
    )
    dest_host: OptionalText = Field(
        default=None,
        title="Target host",
        description="Replaces the connection's host. If the connection has a host and a login, only hosts in its "
        "allowed_hosts are accepted.",
    )
    dest_port: OptionalPort = Field(
        default=None,
        title="Target port",
        description="Replaces the connection's port.",
    )
    dest_uri: OptionalText = Field(
        default=None,
        title="Target URI",
        description="Replaces host and port: http(s)://host:port, or the path of a Milvus Lite file.",
    )
    mode: Literal["skip", "append", "overwrite", "sync", "abandon"] = Field(
        default="skip",
        title="If the target exists",
        description="skip: it stays as it is. append: the rows are added to it. overwrite: the new collection replaces "
        "it, or the named partitions are emptied first. sync: rows are inserted, deleted and replaced until it equals "
        "the source. abandon: nothing is loaded, and what an interrupted run left is undone.",
    )
    overwrite: Literal["swap", "in_place"] = Field(
        default="swap",
        title="How a collection is overwritten",
        description="swap: the old collection is dropped after the new one is verified. in_place: the old collection "
        "is dropped before the new one is loaded, if the target has no room for both. Readers then find no collection "
        "until the new one is verified, and if the load fails the old rows are lost.",
    )
    take_over: bool = Field(
        default=False,
        title="Take over",
        description="Continue what another run left half loaded, if it is unknown whether that run has ended: a run of "
        "another Airflow, or of the command line on another host. If it still runs, its writes are refused.",
    )
    max_deletions: float = Field(
        default=0.1,
        ge=0,
        le=1,
        title="Largest share of rows that sync may delete",
        description="The share of the target's rows, in the partitions that are migrated: 0.1 is a tenth. A sync that "
        "would delete more fails and changes nothing, because the source is often a bad copy then.",
    )
    alias: OptionalText = Field(
        default=None,
        title="Alias",
        description="The collection is loaded under a name of its own, and this alias is switched to it once it is "
        "verified. The collection that the alias pointed to before stays.",
    )
    id_field: str = Field(
        default="id",
        pattern=FIELD_NAME,
        title="Primary key field",
        description="Name of the field for the ids.",
    )
    vector_field: str = Field(
        default="embedding",
        pattern=FIELD_NAME,
        title="Vector field",
        description="Name of the field for the vectors.",
    )
    create_index: bool = Field(
        default=True,
        title="Build the index",
        description="Build the index that the source has, or the nearest one of Milvus 2.x, and load the collection.",
    )
    target: Annotated[TargetSettings, WithJsonSchema({"type": "object"})] = Field(
        default=TargetSettings(),
        title="Settings of the target",
        description="index_type, index_params, metric_type, shards, consistency_level, replicas, mmap, dynamic_field, "
        "load, max_partitions, for all collections; under collections for single ones: "
        '{"load": false, "collections": {"news": {"index_type": "DISKANN"}}}.',
    )
    load_method: Literal["insert", "bulk_import", "auto"] = Field(
        default="insert",
        title="How rows are loaded",
        description="insert: by insert requests. bulk_import: as files in the target's object store, at the "
        "connection's import_url. auto: by bulk import if the connection has an import_url, else by insert.",
    )
    verify: Literal["full", "sample", "counts", "none"] = Field(
        default="full",
        title="Verification",
        description="full: all ids and vectors are compared bit for bit. sample: the rows of every partition are "
        "counted, and a sample of them is compared. counts: they are counted. none: rows that the target acknowledged "
        "count as loaded.",
    )
    verify_search: int = Field(
        default=0,
        ge=0,
        le=10_000,
        title="Searches to compare",
        description="How many vectors of the source to search in the target. The report shows the recall of the 10 "
        "nearest rows, compared with the exact answer from the source, and the latency. 0: none.",
    )
    search_recall: float = Field(
        default=0.9,
        ge=0,
        le=1,
        title="Minimum recall",
        description="A collection whose recall is lower fails.",
    )
    search_params: Annotated[dict[str, int | FiniteFloat | str | bool], WithJsonSchema({"type": "object"})] = Field(
        default={},
        title="Search params",
        description='The params with which the application searches: {"nprobe": 64}, {"ef": 128}. Empty: the defaults.',
    )
    approval: bool = Field(
        default=False,
        title="Ask for approval",
        description="Before anything is created or dropped in the target, the run waits until somebody approves the "
        "plan: which collections are created, overwritten or appended to, and how many rows are lost.",
    )
    approval_hours: float = Field(
        default=24,
        gt=0,
        le=8760,
        title="Hours to wait for approval",
        description="A run that nobody approves in this time fails, and changes nothing.",
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Change nothing in the target, and report what would be read and created.",
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("dest_uri") and (params.get("dest_host") or params.get("dest_port")):
            yield "dest_uri and dest_host or dest_port are both set: leave one of them empty"
        for name in ("dest_uri", "dest_host", "milvus_conn_id"):
            if "@" in str(params.get(name)):
                yield f"{name}: a login belongs in the connection (milvus_conn_id is its id), not in a param"
        if TYPED_ADDRESS.fullmatch(str(params.get("dest_host"))):
            yield (
                "dest_host: an address, but only the name of a host is expected: set dest_uri (https://host:port) "
                "instead, or dest_host and dest_port"
            )
        if params.get("mode") == "sync" and params.get("duplicate_ids") == "remap":
            yield "mode: sync with duplicate_ids: remap: the new keys don't say which rows are in the target"
        if params.get("mode") in ("sync", "append") and params.get("alias"):
            yield f"mode: {params['mode']} with alias: an alias is only switched to a collection that is newly loaded"
        if params.get("create_index") is False and params.get("alias"):
            yield "create_index: false with alias: the collection could not be searched under its alias"


class CollectionParameter(Params):
    """MilvusDM's ``collection_parameter``; ``index_file_size`` has no meaning in Milvus 2.x."""

    dimension: int | None = Field(default=None, ge=1)
    index_file_size: int | None = None
    metric_type: Metric | None = Field(default=None, strict=False)

    def notes(self) -> tuple[str, ...]:
        """Remarks for the report."""
        if self.index_file_size is None:
            return ()
        return (f"index_file_size {self.index_file_size} is ignored: Milvus 2.x chooses the size of segments itself",)


class ToOneCollection(MilvusParams):
    """Files that become one collection, or one partition of it."""

    dest_collection_name: str = Field(
        min_length=1,
        title="Collection",
        description="Name of the collection in the target.",
    )
    dest_partition_name: OptionalText = Field(
        default=None,
        title="Partition",
        description="Name of the partition in the target. Empty: the files are the whole collection, in _default.",
    )
    collection_parameter: Annotated[CollectionParameter, WithJsonSchema({"type": "object"})] = Field(
        default=CollectionParameter(),
        title="Collection parameters",
        description="dimension (checked against the data), metric_type, index_file_size (ignored by Milvus 2.x).",
    )
    id_offset: int = Field(
        default=0,
        title="First row number",
        description="The first id, if rows without ids get row numbers.",
    )
    ids: Literal["row_number", "auto"] = Field(
        default="row_number",
        title="Ids for rows without ids",
        description="row_number: rows are numbered from id_offset over all files, so that a retry is exact. auto: the "
        "target makes the ids, and an interrupted load may have to start from the beginning.",
    )
