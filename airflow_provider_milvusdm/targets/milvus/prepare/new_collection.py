"""Create an empty collection, and let the target refuse its settings before any rows are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.model.collections import SOURCE_ID, CollectionSpec, TargetCollection
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.prepare.auto_id import PROPERTY
from airflow_provider_milvusdm.targets.milvus.server.capabilities import checks_index_settings
from airflow_provider_milvusdm.targets.milvus.server.index import create_index, drop_indexes, make_searchable
from airflow_provider_milvusdm.targets.milvus.server.quiet import quiet_refusals

if TYPE_CHECKING:
    from pymilvus import MilvusClient

TAG_BYTES = 4 * 255
"""A partition tag of 1.x has at most 255 characters; a VARCHAR of Milvus 2.x is limited in bytes."""
SERVICE_ERRORS = range(100)
"""Error codes of a server that is away or busy; refusals have higher codes (``merr/errors.go`` of Milvus)."""


@dataclass(frozen=True)
class NewCollection:
    """A collection to create for the rows of ``collection``; ``index``: None where the user wants none."""

    client: MilvusClient
    target: TargetCollection
    collection: CollectionSpec
    settings: CollectionSettings
    index: IndexSpec | None

    @property
    def digest(self) -> str:
        """Digest of everything that can't be changed once the collection exists."""
        target, settings = replace(self.target, name=""), self.settings
        made_of = (
            target,
            vector_type(self.collection).name,
            self.collection.dimension,
            self._settings(),
            settings.mmap,
        )
        text = repr((*made_of, bool(settings.dynamic_field)))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def create(self, marker: Mapping[str, str]) -> None:
        """Create it with this marker. Raises TargetError, and leaves nothing, where the target refuses its settings."""
        from pymilvus import MilvusException

        try:
            with quiet_refusals():
                properties = {**marker, **self._properties()}
                self.client.create_collection(
                    self.target.name, schema=self._schema(), **self._settings(), properties=properties
                )
                self._try_index()
        except MilvusException as error:
            if not isinstance(error.code, int) or error.code in SERVICE_ERRORS:
                raise
            if self._is_created(marker):
                self.client.drop_collection(self.target.name)
            raise self._refusal(error.message) from None

    def _is_created(self, marker: Mapping[str, str]) -> bool:
        """Whether the collection exists with this marker, so that nothing else created it meanwhile."""
        if not self.client.has_collection(self.target.name):
            return False
        properties = self.client.describe_collection(self.target.name).get("properties", {})
        return bool(marker.items() <= properties.items())

    def _try_index(self) -> None:
        """Let a server refuse the index, or the replicas, while there are no rows.

        The index is dropped again: loading does not wait for an index that is built while rows are written.
        """
        if self.index is None or not checks_index_settings(self.client):
            return
        create_index(self.client, self.target, self.index)
        if self.settings.replicas and self.settings.replicas > 1:
            make_searchable(self.client, self.target, self.index, self.settings.replicas)
            self.client.release_collection(self.target.name)
        drop_indexes(self.client, self.target, self.client.list_indexes(self.target.name))

    def _refusal(self, reason: str) -> TargetError:
        return TargetError(
            f"the target refuses the collection for the rows of {self.collection.name!r}",
            expected=f"index {self.index or 'none'}, target: {self.settings.model_dump_json(exclude_none=True)}",
            found=reason,
            cure="Correct target (index_type, index_params, metric_type, shards, replicas); nothing was written.",
        )

    def _schema(self) -> Any:
        from pymilvus import DataType

        schema = self.client.create_schema(
            auto_id=self.target.ids_by_target or self.target.accepts_new_ids,
            enable_dynamic_field=bool(self.settings.dynamic_field),
        )
        schema.add_field(self.target.id_field, DataType.INT64, is_primary=True)
        schema.add_field(self.target.vector_field, vector_type(self.collection), dim=self.collection.dimension)
        if self.target.own_keys:
            schema.add_field(SOURCE_ID, DataType.INT64)
        if self.target.partition_field:
            schema.add_field(self.target.partition_field, DataType.VARCHAR, max_length=TAG_BYTES, is_partition_key=True)
        return schema

    def _settings(self) -> dict[str, Any]:
        """Arguments of ``create_collection`` for the settings that the user gave."""
        given = {"num_shards": self.settings.shards, "consistency_level": self.settings.consistency_level}
        return {name: value for name, value in given.items() if value is not None}

    def _properties(self) -> dict[str, str]:
        mmap = {} if self.settings.mmap is None else {"mmap.enabled": str(self.settings.mmap).lower()}
        return mmap | ({PROPERTY: "true"} if self.target.accepts_new_ids else {})


def vector_type(collection: CollectionSpec) -> Any:
    """``pymilvus.DataType`` of the vectors."""
    from pymilvus import DataType

    return DataType.BINARY_VECTOR if collection.metric.is_binary else DataType.FLOAT_VECTOR
