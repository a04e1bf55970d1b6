"""Rows of a Milvus 2.x collection: how many, which ids are there, what vectors they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.vectors import TargetCollection, VectorBatch

Row: TypeAlias = tuple[Any, ...]
"""The bytes of a vector, and the scalar fields asked for."""
LOWEST_ID = -(2**63)
IDS_A_QUERY = 16384
LITE_IDS_A_QUERY = 1 << 17
"""Each query of Milvus Lite goes through all rows."""
VECTORS_A_QUERY = 256
"""A server sends at most 64 MiB: this many vectors of 32,768 dimensions, its limit, are 32 MiB."""


def is_lite(client: MilvusClient) -> bool:
    """Whether this is Milvus Lite (a local file), which lacks some of Milvus and differs in some."""
    return str(client.get_server_version()).startswith("milvus_lite")


def count_rows(client: MilvusClient, collection: str, partition: str) -> int:
    """Rows of a partition, exactly; the collection must be loaded.

    ``count(*)`` of Milvus Lite takes no notice of partitions; its statistics are exact, a server's are not.
    """
    if is_lite(client):
        return int(client.get_partition_stats(collection, partition)["row_count"])
    result = client.query(
        collection,
        filter="",
        output_fields=["count(*)"],
        partition_names=[partition],
        consistency_level="Strong",
    )
    return int(result[0]["count(*)"])


def filter_ids(field: str, ids: Iterable[int]) -> str:
    """A filter that matches ``ids``: -2^63 can't be written as a literal for a 2.3 server."""
    literals = [str(row_id) for row_id in ids if row_id != LOWEST_ID]
    found = f"{field} in [{', '.join(literals)}]"
    return f"{found} or {field} < {LOWEST_ID + 1}" if LOWEST_ID in ids else found


def existing_ids(client: MilvusClient, target: TargetCollection, partition: str, ids: Sequence[int]) -> list[int]:
    """Those of ``ids`` that the partition holds."""
    found: list[int] = []
    for some in _chunks(ids, IDS_A_QUERY):
        rows = client.query(
            target.name,
            filter=filter_ids(target.id_field, some),
            output_fields=[target.id_field],
            partition_names=[partition],
            consistency_level="Strong",
        )
        found += [row[target.id_field] for row in rows]
    return found


def stream_ids(client: MilvusClient, target: TargetCollection, partition: str) -> Iterator[npt.NDArray[np.int64]]:
    """All ids of a partition, in their order, in batches.

    A server answers a limited query in the order of the keys; Milvus Lite only where it's an iterator's.
    """
    lite = is_lite(client)
    most, options = (LITE_IDS_A_QUERY, {"iterator": "True"}) if lite else (IDS_A_QUERY, {})
    behind = ""
    while True:
        rows = client.query(
            target.name,
            filter=behind,
            output_fields=[target.id_field],
            partition_names=[partition],
            consistency_level="Strong",
            limit=most,
            **options,
        )
        yield np.array([row[target.id_field] for row in rows], np.int64)
        if len(rows) < most:
            return
        behind = f"{target.id_field} > {rows[-1][target.id_field]}"


def read_rows(
    client: MilvusClient,
    target: TargetCollection,
    partition: str,
    ids: Sequence[int],
    columns: Iterable[str] = (),
    most: int = VECTORS_A_QUERY,
) -> dict[int, Row]:
    """The rows with these ids, as far as the partition holds them; ``most`` of them in one query."""
    found: dict[int, Row] = {}
    for some in _chunks(ids, most):
        rows = client.query(
            target.name,
            filter=filter_ids(target.id_field, some),
            output_fields=[target.id_field, target.vector_field, *columns],
            partition_names=[partition],
            consistency_level="Strong",
        )
        for row in rows:
            scalars = (row[name] for name in columns)
            found[row[target.id_field]] = (vector_bytes(row[target.vector_field]), *scalars)
    return found


def rows_of(batch: VectorBatch) -> dict[int, Row]:
    """The rows of a batch by id, as :func:`read_rows` returns them."""
    columns = [
        [values] * len(batch) if isinstance(values, str) else values.tolist() for values in batch.columns.values()
    ]
    vectors = (vector.tobytes() for vector in batch.vectors)
    return dict(zip(batch.ids.tolist(), zip(vectors, *columns, strict=True), strict=True))


def delete_ids(client: MilvusClient, target: TargetCollection, partition: str, ids: Sequence[int]) -> None:
    """Delete rows of a partition; Milvus Lite deletes them from all others, too."""
    for some in _chunks(ids, IDS_A_QUERY):
        client.delete(target.name, filter=filter_ids(target.id_field, some), partition_name=partition)
    if len(ids) and is_lite(client):
        client.flush(target.name)


def vector_bytes(value: object) -> bytes:
    """A vector as a query returns it (floats, or a list of one bytes object for a binary one) as bytes."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], bytes):
        value = value[0]
    return value if isinstance(value, bytes) else np.asarray(value, dtype="<f4").tobytes()


def _chunks(ids: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), most):
        yield ids[start : start + most]
