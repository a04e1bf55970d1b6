"""A collection that the target has already: its properties, and whether the rows fit into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.model.collections import SOURCE_ID, CollectionSpec, Metric, TargetCollection
from airflow_provider_milvusdm.targets.milvus.marker import Marker, read_marker
from airflow_provider_milvusdm.targets.milvus.prepare.auto_id import accepts_new_ids
from airflow_provider_milvusdm.targets.milvus.prepare.new_collection import TAG_BYTES, vector_type

if TYPE_CHECKING:
    from pymilvus import MilvusClient


@dataclass(frozen=True)
class Existing:
    """A collection that the target has already."""

    partitions: frozenset[str]
    fields: tuple[Mapping[str, Any], ...]
    auto_id: bool
    dynamic: bool
    """Its rows may have values that the schema does not name."""
    accepts_new_ids: bool
    """It makes ids for rows without one, and keeps the ids of others."""
    marker: Marker | None
    collection_id: int
    """The target's own; it stays when the collection is renamed."""

    @property
    def generation(self) -> str:
        """Generation of its marker; empty without one."""
        return self.marker.generation if self.marker else ""


def find_existing(client: MilvusClient, name: str) -> Existing | None:
    """The collection of this name; None where there is none. Raises TargetError where its marker can't be read."""
    if not client.has_collection(name):
        return None
    description = client.describe_collection(name)
    auto_id, properties = bool(description["auto_id"]), description.get("properties", {})
    return Existing(
        partitions=frozenset(client.list_partitions(name)),
        fields=tuple(description["fields"]),
        auto_id=auto_id,
        dynamic=bool(description["enable_dynamic_field"]),
        accepts_new_ids=accepts_new_ids(auto_id, properties),
        marker=read_marker(name, properties),
        collection_id=int(description["collection_id"]),
    )


def other_fields(existing: Existing, target: TargetCollection) -> list[str]:
    """The fields that a source has no values for: of the schema, and the dynamic field."""
    own = (target.id_field, target.vector_field, target.partition_field)
    names = [found["name"] for found in existing.fields if found["name"] not in own]
    return [*names, *(["the dynamic field"] if existing.dynamic else [])]


def check_fit(
    client: MilvusClient, existing: Existing, target: TargetCollection, collection: CollectionSpec, metric: Metric
) -> None:
    """Raises TargetError where the rows of ``collection`` do not fit into the existing one."""
    wanted = vector_type(collection)
    found = _differences(existing, target, wanted, collection.dimension)
    found += _metric_difference(client, target, metric)
    if found:
        raise TargetError(
            f"collection {target.name!r} of the target does not fit",
            expected=f"{target.id_field} INT64 primary key, {target.vector_field} "
            f"{wanted.name} of dimension {collection.dimension}, and no other field that needs a value",
            found="; ".join(found),
            cure="Use mode overwrite, or rename to load into a collection of its own.",
        )


def _metric_difference(client: MilvusClient, target: TargetCollection, wanted: Metric) -> list[str]:
    for name in client.list_indexes(target.name, field_name=target.vector_field):
        found = client.describe_index(target.name, name).get("metric_type", wanted)
        if found != wanted:
            return [f"its index has metric {found}, the source {wanted}"]
    return []


def _differences(existing: Existing, target: TargetCollection, vector_type: Any, dimension: int) -> list[str]:
    """The differences between an existing collection and what is needed."""
    from pymilvus import DataType

    fields = {found["name"]: found for found in existing.fields}
    key, vector = fields.pop(target.id_field, {}), fields.pop(target.vector_field, {})
    found = []
    if not key.get("is_primary") or key.get("type") != DataType.INT64:
        found.append(f"{target.id_field} is not an INT64 primary key")
    if existing.auto_id != target.ids_by_target and not existing.accepts_new_ids:
        found.append(f"its ids are {'' if existing.auto_id else 'not '}made by the target (auto_id)")
    if vector.get("type") != vector_type:
        found.append(f"{target.vector_field} is not a {vector_type.name}")
    elif vector.get("params", {}).get("dim") != dimension:
        found.append(f"{target.vector_field} has dimension {vector['params'].get('dim')}")
    if target.own_keys and fields.pop(SOURCE_ID, {}).get("type") != DataType.INT64:
        found.append(f"{SOURCE_ID} is not an INT64 field")
    if target.partition_field:
        found += _key_differences(target.partition_field, fields.pop(target.partition_field, {}))
    required = [name for name, other in fields.items() if not (other.get("nullable") or other.get("default_value"))]
    if required:
        found.append(f"fields {', '.join(required)} need values")
    return found


def _key_differences(name: str, field: Mapping[str, Any]) -> list[str]:
    """The differences between a field and a partition key that can store any tag."""
    from pymilvus import DataType

    if field.get("type") != DataType.VARCHAR or not field.get("is_partition_key"):
        return [f"{name} is not a VARCHAR partition key"]
    if field["params"]["max_length"] < TAG_BYTES:
        return [f"{name} holds {field['params']['max_length']} bytes at most, not {TAG_BYTES}"]
    return []
