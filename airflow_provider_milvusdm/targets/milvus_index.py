"""Index and memory: what a Milvus 2.x collection needs before it can be searched, or only counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.targets.milvus_rows import is_lite
from airflow_provider_milvusdm.targets.milvus_schema import IndexSpec, target_index
from airflow_provider_milvusdm.vectors import CollectionSpec, TargetCollection

if TYPE_CHECKING:
    from pymilvus import MilvusClient

LITE_INDEXES = frozenset({"FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW"})


def index_for(client: MilvusClient, collection: CollectionSpec) -> IndexSpec:
    """The index that this target gets for this collection."""
    return target_index(collection, LITE_INDEXES if is_lite(client) else None)


def has_index(client: MilvusClient, target: TargetCollection) -> bool:
    return bool(client.list_indexes(target.name, field_name=target.vector_field))


def make_searchable(client: MilvusClient, target: TargetCollection, index: IndexSpec) -> None:
    """Build the index (where there is none) and load the collection."""
    if not has_index(client, target):
        params = client.prepare_index_params()
        params.add_index(
            target.vector_field,
            index_type=index.index_type,
            metric_type=index.metric.value,
            params=dict(index.params),
        )
        client.create_index(target.name, params)
    client.load_collection(target.name)


@contextmanager
def searchable(
    client: MilvusClient, target: TargetCollection, index: IndexSpec, *, keep: bool
) -> Iterator[None]:
    """Have the collection indexed and loaded, for good (``keep``) or only inside the block.

    Milvus counts and reads nothing from a collection without an index, so where the user wants none
    a FLAT one, which costs nothing to build, stands in for it.
    """
    borrowed = not keep and not has_index(client, target)
    if borrowed:
        flat = "BIN_FLAT" if index.metric.is_binary else "FLAT"
        index = IndexSpec(flat, index.metric)
    make_searchable(client, target, index)
    try:
        yield
    finally:
        if borrowed:
            client.release_collection(target.name)
            for name in client.list_indexes(target.name, field_name=target.vector_field):
                client.drop_index(target.name, name)
