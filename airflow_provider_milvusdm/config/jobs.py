"""The jobs, each with its params: M2M, H2M, F2M, M2H. Another source or target is a model here and a row in JOBS."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from airflow_provider_milvusdm.config.params import (
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
        description="keep: they become partitions, as many as the target allows. partition_key: the tags go to a field "
        "partition_tag, the partition key of a collection in which every id must be unique.",
    )
    auto_id: Literal["keep", "off"] = Field(
        default="keep",
        title="If the 1.x server made the ids",
        description="keep: the target makes ids for new rows that are inserted without one, if it supports that "
        "(Milvus 2.6.3 and later, Milvus Lite). off: new rows must have an id.",
    )
    alias: Aliases = Field(  # type: ignore[assignment]
        default=None,
        title="Aliases",
        description='{"news": "articles"}, or a text if one collection is migrated. The collection is loaded under a '
        "name of its own, and this alias is switched to it once it is verified. The collection that the alias pointed "
        "to before stays.",
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
            yield "partitions: partition_key with id_scope: partition: ids must be unique in such a collection"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) and value else value


class H2M(ToOneCollection):
    """HDF5 to Milvus 2.x."""

    data_path: Annotated[
        list[str] | None,
        BeforeValidator(_as_list),
        WithJsonSchema({"type": ["null", "array"], "items": {"type": "string"}}),
    ] = Field(
        default=None,
        title="HDF5 files",
        description="Paths on the workers, or URLs: s3://conn_id@bucket/path. Set this or data_dir.",
    )
    data_dir: OptionalText = Field(
        default=None,
        title="Folder of HDF5 files",
        description="All *.h5 and *.hdf5 files in it are read, in the order of their names. Set this or data_path.",
    )
    embeddings: str = Field(
        default="embeddings",
        min_length=1,
        title="Dataset of the vectors",
        description="A name, or a path such as /train/vectors.",
    )
    ids_dataset: OptionalText = Field(
        default="ids?",
        title="Dataset of the ids",
        description="A name or path that must exist in each file. ids?: the dataset ids if it exists. Null or empty: "
        "no dataset; the param ids says which ids the rows get.",
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        if params.get("mode") == "sync" and params.get("ids") == "auto":
            yield "mode: sync with ids: auto: ids made by the target don't identify the rows that are in it"
        if bool(params.get("data_path")) == bool(params.get("data_dir")):
            yield f"data_path or data_dir: one of the two, found {'both' if params.get('data_path') else 'neither'}"
        if params.get("ids") == "auto" and params.get("duplicate_ids") == "remap":
            yield "ids: auto and duplicate_ids: remap: both make primary keys; choose one of them"


class F2M(ToOneCollection):
    """A Faiss index to Milvus 2.x."""

    data_path: LocalPath = Field(
        min_length=1,
        title="Faiss index",
        description="The path of the file on the workers.",
    )
    allow_lossy: bool = Field(
        default=False,
        title="Accept loss of precision",
        description="Accept an index that stores only codes of its vectors (PQ, SQ); the vectors are reconstructed.",
    )


class M2H(Milvus1xParams, RowsParams):
    """Milvus 1.x to HDF5."""

    written_folders: ClassVar[tuple[str, ...]] = ("data_dir", "skipped_rows_dir")

    data_dir: LocalPath = Field(
        min_length=1,
        title="Folder for the HDF5 files",
        description="A run writes to <data_dir>/<dag>/<run>/<collection>/<partition>.h5. All workers must share it.",
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Write nothing, and report what would be read and written.",
    )

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        yield from super().contradictions(params)
        data, skipped = (params.get(name) for name in cls.written_folders)
        if data and skipped and os.path.realpath(str(data)) == os.path.realpath(str(skipped)):
            yield "data_dir and skipped_rows_dir are the same folder: their files would overwrite each other"


class ScheduleParams(Params):
    """What a YAML file says about the DAG that is made of it; the command line ignores it."""

    schedule: str | None = None
    start_date: date | None = Field(default=None, strict=False)
    tags: tuple[str, ...] = Field(default=(), strict=False)
    owner: str | None = None
    retries: int | None = Field(default=None, ge=0, le=1000)
    pool: str | None = Field(default=None, min_length=1)


JOBS: dict[str, type[Params]] = {"M2M": M2M, "H2M": H2M, "F2M": F2M, "M2H": M2H}
