"""The jobs of MilvusDM, each with its params: M2M, H2M, F2M, M2H."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from airflow_provider_milvusdm.config.params import (
    ROWS,
    SOURCE,
    TARGET,
    Milvus1xParams,
    MilvusParams,
    RowsParams,
    ToOneCollection,
)
from airflow_provider_milvusdm.config.validation import OptionalText, Params
from airflow_provider_milvusdm.model.collections import PARTITION_TAG
from airflow_provider_milvusdm.storage.paths import local_path

LocalPath = Annotated[str, AfterValidator(local_path)]
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
        if params.get("partitions") == "partition_key" and params.get("id_scope") == "partition":
            yield "partitions: partition_key with id_scope: partition: an id stands on one row of such a collection"


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
    ids_dataset: OptionalText = Field(
        default="ids?",
        title="Dataset of the ids",
        description="A name, which must be there in each file; ids?: ids where there is one; null or empty: none. Rows "
        "without ids: see ids.",
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

    written_folders: ClassVar[tuple[str, ...]] = ("data_dir", "skipped_rows_dir")

    data_dir: LocalPath = Field(
        min_length=1,
        title="Folder for the HDF5 files",
        description="A run writes into <data_dir>/<dag>/<run>/<collection>/<partition>.h5.",
        json_schema_extra=TARGET,
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Everything but writing: what would be read and written.",
        json_schema_extra=ROWS,
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        data, skipped = (params.get(name) for name in cls.written_folders)
        if data and skipped and os.path.abspath(str(data)) == os.path.abspath(str(skipped)):
            yield "data_dir and skipped_rows_dir are one folder: files would take each other's place"


class ScheduleParams(Params):
    """What a YAML file may say of the DAG that is made of it; the command line has no use for it."""

    schedule: str | None = None
    start_date: date | None = Field(default=None, strict=False)
    tags: tuple[str, ...] = Field(default=(), strict=False)
    owner: str | None = None
    retries: int | None = Field(default=None, ge=0)


JOBS: dict[str, type[Params]] = {"M2M": M2M, "H2M": H2M, "F2M": F2M, "M2H": M2H}
