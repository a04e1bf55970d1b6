"""Collections that keep the ids of the source and make ids for rows that come without one later on.

Milvus 2.6.3 and later take ids for a collection with auto_id if it has the property ``allow_insert_auto_id``; Milvus
Lite takes them for any. An upsert is another matter: a server gives the row a new id (issue 46891 of milvus-io/milvus),
so rows in doubt are deleted by id and inserted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.targets.milvus_rows import IDS_A_QUERY, is_lite, server_version
from airflow_provider_milvusdm.vectors import CollectionSpec, TargetCollection, ranges

if TYPE_CHECKING:
    from pymilvus import MilvusClient

PROPERTY = "allow_insert_auto_id"
FIRST_VERSION = (2, 6, 3)


def can_generate_ids(client: MilvusClient) -> bool:
    """Whether the target makes ids in a collection that keeps those it's given."""
    return is_lite(client) or (server_version(client) or ()) >= FIRST_VERSION


def generates_ids(auto_id: bool, properties: Mapping[str, str]) -> bool:
    """Whether an existing collection makes ids and keeps those it's given."""
    return auto_id and properties.get(PROPERTY, "").lower() == "true"


def upsert_changes_ids(client: MilvusClient, target: TargetCollection) -> bool:
    """Whether an upsert of rows with ids would give them others."""
    if target.auto_id or is_lite(client):
        return False
    return bool(client.describe_collection(target.name)["auto_id"])


def delete_ids(client: MilvusClient, collection: str, partition: str, ids: list[int]) -> None:
    """Delete rows by id, whether they are there or not; ``partition`` empty: of all partitions."""
    for start, stop in ranges(0, len(ids), IDS_A_QUERY):
        client.delete(collection, ids=ids[start:stop], partition_name=partition)


def id_notes(collection: CollectionSpec, generates: bool) -> tuple[str, ...]:
    """What the report has to say to an application that inserted without ids."""
    if not collection.generated_ids:
        return ()
    if generates:
        return ("the 1.x server made its ids, and so does the target for rows inserted without one (auto_id)",)
    return (
        "the 1.x server made its ids, and the target makes none in this collection: the application has to insert rows "
        "with an id of their own",
    )
