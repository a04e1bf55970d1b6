"""The jobs of MilvusDM, each with its params: M2M, H2M, F2M, M2H."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic.config import JsonDict

from airflow_provider_milvusdm.config import OptionalPort, OptionalText, Params, Selection, parse_selection
from airflow_provider_milvusdm.sources.files import local_path
from airflow_provider_milvusdm.target_settings import TargetSettings
from airflow_provider_milvusdm.vectors import ALL_COLLECTIONS, PARTITION_TAG, Metric

LocalPath = Annotated[str, AfterValidator(local_path)]
FIELD_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
SOURCE: JsonDict = {"section": "Source"}
PLACES: JsonDict = {"section": "Source: other places"}
TARGET: JsonDict = {"section": "Target"}
ROWS: JsonDict = {"section": "Rows"}


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


class RowsParams(Params):
    """What to do with rows, whatever they come from and go to."""

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
        title="Folder for rows left out",
        description="A run writes into <skipped_rows_dir>/<run>/<collection>/<partition>.h5.",
        json_schema_extra=ROWS,
    )
    unit_mib: int = Field(
        default=256,
        ge=1,
        title="Size of a load unit (MiB)",
        description="What one load task takes.",
        json_schema_extra=ROWS,
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("invalid_vectors") == "skip" and not params.get("skipped_rows_dir"):
            yield "invalid_vectors: skip without skipped_rows_dir: the rows left out have to be saved somewhere"


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
        description="Takes the place of the connection's host.",
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
    mode: Literal["skip", "append", "overwrite", "sync"] = Field(
        default="skip",
        title="If the target exists",
        description="skip leaves it as it is, append adds to it, overwrite drops it (or the named partitions) first, "
        "sync makes its ids those of the source: inserts what is missing, deletes what the source does not have; with "
        "verify: full, rows that differ are loaded again.",
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
        default="sample",
        title="Verification",
        description="counts: every partition is counted. sample: rows are read back and compared bit for bit, too. "
        "full: every id and every byte is. none: what the target acknowledged is taken for loaded.",
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
        if "@" in str(params.get("dest_uri")):
            yield "dest_uri: a login belongs into the connection that milvus_conn_id names, not into a param"
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


Aliases = Annotated[dict[str, str] | str | None, WithJsonSchema({"type": ["null", "string", "object"]})]


class M2M(Milvus1xParams, MilvusParams):
    """Milvus 1.x to Milvus 2.x."""

    partitions: Literal["keep", "partition_key"] = Field(
        default="keep",
        title="Partitions",
        description="keep: they stay partitions, as many as the target allows. partition_key: their tags go to a field "
        "partition_tag, the partition key of one collection, in which an id may not be in two of them.",
        json_schema_extra=TARGET,
    )
    auto_id: Literal["keep", "off"] = Field(
        default="keep",
        title="Ids that the 1.x server made",
        description="keep: the target goes on making ids for rows inserted without, where it can (Milvus 2.6.3 and "
        "later, Milvus Lite). off: it takes rows with an id alone.",
        json_schema_extra=TARGET,
    )
    alias: Aliases = Field(  # type: ignore[assignment]
        default=None,
        title="Aliases",
        description='{"news": "articles"}, or a text where one collection is migrated: the collection is loaded under '
        "a name of its own, and this alias switched to it once it is verified; what the alias stood for stays.",
        json_schema_extra=TARGET,
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("partitions") == "partition_key" and PARTITION_TAG in (
            params.get("id_field"),
            params.get("vector_field"),
        ):
            yield f"id_field or vector_field is {PARTITION_TAG}, which partitions: partition_key needs for the tags"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) and value else value


class H2M(ToOneCollection):
    """HDF5 to Milvus 2.x."""

    data_path: Annotated[
        list[str] | None,
        BeforeValidator(_listed),
        WithJsonSchema({"type": ["null", "array"], "items": {"type": "string"}}),
    ] = Field(
        default=None,
        title="HDF5 files",
        description="Paths, as the workers see them, or URLs: s3://conn_id@bucket/path; or data_dir.",
        json_schema_extra=SOURCE,
    )
    data_dir: OptionalText = Field(
        default=None,
        title="Folder of HDF5 files",
        description="All its *.h5 and *.hdf5, by name; or data_path.",
        json_schema_extra=SOURCE,
    )
    embeddings: str = Field(
        default="embeddings",
        min_length=1,
        title="Dataset of the vectors",
        description="A name, or a path through groups such as /train.",
        json_schema_extra=SOURCE,
    )
    ids_dataset: str = Field(
        default="ids",
        min_length=1,
        title="Dataset of the ids",
        description="Where it isn't there, see ids.",
        json_schema_extra=SOURCE,
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("mode") == "sync" and params.get("ids") == "auto":
            yield "mode: sync with ids: auto: ids made by the target can't tell which rows are there already"
        if bool(params.get("data_path")) == bool(params.get("data_dir")):
            yield f"data_path or data_dir: one of the two, found {'both' if params.get('data_path') else 'neither'}"
        if params.get("ids") == "auto" and params.get("duplicate_ids") == "remap":
            yield "ids: auto and duplicate_ids: remap: both make keys, one of them is enough"


class F2M(ToOneCollection):
    """A Faiss index to Milvus 2.x."""

    data_path: LocalPath = Field(
        min_length=1,
        title="Faiss index",
        description="Path of the file, as the workers see it.",
        json_schema_extra=SOURCE,
    )
    allow_lossy: bool = Field(
        default=False,
        title="Allow loss",
        description="Reconstruct vectors of an index that keeps only codes of them (PQ, SQ).",
        json_schema_extra=ROWS,
    )


class M2H(Milvus1xParams, RowsParams):
    """Milvus 1.x to HDF5."""

    data_dir: LocalPath = Field(
        min_length=1,
        title="Folder for the HDF5 files",
        description="A run writes into <data_dir>/<run>/<collection>/<partition>.h5.",
        json_schema_extra=TARGET,
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Everything but writing: what would be read and written.",
        json_schema_extra=ROWS,
    )


class ScheduleParams(Params):
    """What a YAML file may say of the DAG that is made of it; the command line has no use for it."""

    schedule: str | None = None
    start_date: date | None = Field(default=None, strict=False)
    tags: tuple[str, ...] = Field(default=(), strict=False)
    owner: str | None = None
    retries: int | None = Field(default=None, ge=0)


JOBS: dict[str, type[Params]] = {"M2M": M2M, "H2M": H2M, "F2M": F2M, "M2H": M2H}
