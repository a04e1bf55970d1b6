"""The ``target`` block: settings of collections in Milvus 2.x, for all collections and for single ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from airflow_provider_milvusdm.config.validation import Params
from airflow_provider_milvusdm.model.collections import Metric


class CollectionSettings(Params):
    """Settings of one collection; None leaves the index and the metric to the source, and the rest to the target."""

    index_type: str | None = None
    index_params: dict[str, int | float | str | bool] | None = None
    metric_type: Metric | None = Field(default=None, strict=False)
    shards: int | None = Field(default=None, ge=1, le=64)
    consistency_level: Literal["Strong", "Session", "Bounded", "Eventually"] | None = None
    max_partitions: int | None = Field(default=None, ge=1)
    replicas: int | None = Field(default=None, ge=1)
    mmap: bool | None = None
    dynamic_field: bool | None = None
    load: bool | None = None


class TargetSettings(CollectionSettings):
    """Settings for all collections; those in ``collections``, by the source's name, take precedence."""

    collections: dict[str, CollectionSettings] = Field(default={})

    def of(self, collection: str) -> CollectionSettings:
        """The settings of one collection."""
        own = self.collections.get(collection, CollectionSettings())
        merged = self.model_dump(exclude={"collections"}, exclude_none=True) | own.model_dump(exclude_none=True)
        return CollectionSettings(**merged)
