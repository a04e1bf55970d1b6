"""Milvus 2.x collections that tests create and read without the package."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from pymilvus import DataType, MilvusClient

Rows: TypeAlias = Mapping[int, bytes]
"""Vectors by id."""
Partitions: TypeAlias = Mapping[str, Rows]


def make_collection(
    client: MilvusClient,
    name: str,
    partitions: Partitions,
    *,
    dimension: int = 8,
    metric: str | None = None,
    loaded: bool = False,
) -> None:
    """Create a collection of float vectors like a user; `metric` adds an index, `loaded` also loads it."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimension)
    client.create_collection(name, schema=schema)
    for partition, rows in partitions.items():
        if partition != "_default":
            client.create_partition(name, partition)
        insert(client, name, partition, rows)
    if metric or loaded:
        create_index(client, name, metric or "L2")
    if loaded:
        client.load_collection(name)


def insert(client: MilvusClient, collection: str, partition: str, rows: Rows) -> None:
    """Insert, and flush: Milvus Lite keeps unflushed rows of all partitions by id alone."""
    data = [{"id": row_id, "embedding": np.frombuffer(vector, "<f4")} for row_id, vector in rows.items()]
    if data:
        client.insert(collection, data, partition_name=partition)
        if is_lite(client):
            client.flush(collection)


def create_index(client: MilvusClient, collection: str, metric: str, field: str = "embedding") -> None:
    params = client.prepare_index_params()
    params.add_index(field, index_type="FLAT", metric_type=metric)
    client.create_index(collection, params)


def stored(client: MilvusClient, collection: str, **fields: str) -> dict[str, dict[int, bytes]]:
    """All rows of a loaded collection by partition; asserts that each is counted and returned once."""
    collection = called(client, collection)
    _await_writes(client, collection)
    return {
        partition: _stored(client, collection, partition, **fields) for partition in client.list_partitions(collection)
    }


def _await_writes(client: MilvusClient, collection: str) -> None:
    """Wait until reads see all writes: one strong read takes a server 0.2 s, further reads none."""
    client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")


def stored_in_all(client: MilvusClient, collections: Sequence[str]) -> dict[str, dict[str, dict[int, bytes]]]:
    """The same for many collections, which are indexed and loaded first."""
    load_all(client, collections)
    return {name: stored(client, name) for name in collections}


def load_all(client: MilvusClient, collections: Sequence[str]) -> None:
    """Index and load many collections concurrently, because each takes seconds."""

    def load(collection: str) -> None:
        name = called(client, collection)
        if not client.list_indexes(name):
            create_index(client, name, "L2")
        client.load_collection(name)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(load, collections))


def called(client: MilvusClient, collection: str) -> str:
    """The present name of a collection: a new one has a name of its own until it is verified."""
    if client.has_collection(collection):
        return collection
    [name] = own_names(client, collection)
    return name


def own_names(client: MilvusClient, collection: str) -> list[str]:
    """Names of collections that are to become `collection`, or were it."""
    own = re.compile(re.escape(collection[:224]) + "__milvusdm_[0-9a-f]{16}(_old)?")
    return [name for name in client.list_collections() if own.fullmatch(name)]


def marker(client: MilvusClient, collection: str) -> Any:
    """The marker that a migration leaves on a collection."""
    return json.loads(client.describe_collection(called(client, collection))["properties"]["milvusdm.migration"])


def is_lite(client: MilvusClient) -> bool:
    return str(client.get_server_version()).startswith("milvus_lite")


def _stored(
    client: MilvusClient,
    collection: str,
    partition: str,
    *,
    id_field: str = "id",
    vector_field: str = "embedding",
) -> dict[int, bytes]:
    pages = client.query_iterator(
        collection,
        batch_size=4096,
        filter="",
        output_fields=[id_field, vector_field],
        partition_names=[partition],
        consistency_level="Eventually",
    )
    rows: dict[int, bytes] = {}
    while page := pages.next():
        for row in page:
            assert row[id_field] not in rows, f"{collection}/{partition} serves {row[id_field]} twice"
            rows[row[id_field]] = _bytes(row[vector_field])
    pages.close()
    count = _count(client, collection, partition)
    assert count == len(rows), f"{collection}/{partition} serves {len(rows)} rows and counts {count}"
    return rows


def _count(client: MilvusClient, collection: str, partition: str) -> int:
    """Milvus Lite's `count(*)` ignores partitions, a server's statistics ignore deletions."""
    if is_lite(client):
        return int(client.get_partition_stats(collection, partition)["row_count"])
    [found] = client.query(
        collection,
        filter="",
        output_fields=["count(*)"],
        partition_names=[partition],
        consistency_level="Eventually",
    )
    return int(found["count(*)"])


def _bytes(vector: Any) -> bytes:
    """A binary vector comes as a list of one bytes object, a float vector as floats."""
    if isinstance(vector[0], bytes):
        return vector[0]
    return np.asarray(vector, "<f4").tobytes()
