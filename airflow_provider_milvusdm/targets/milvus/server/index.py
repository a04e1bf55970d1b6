"""Index and load a Milvus 2.x collection, which it needs before it can be searched, or even counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import ChangedTargetError, ConfigurationError, TargetError
from airflow_provider_milvusdm.model.collections import SOURCE_ID, CollectionSpec, Metric, TargetCollection
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec, target_index
from airflow_provider_milvusdm.targets.milvus.server.capabilities import (
    has_bulk_imports,
    has_timestamps,
    loads_single_partitions,
    product_name,
    scalar_index_type,
    vector_index_types,
)
from airflow_provider_milvusdm.targets.milvus.server.queries import map_concurrently
from airflow_provider_milvusdm.targets.milvus.server.waiting import wait_until_done

if TYPE_CHECKING:
    from pymilvus import MilvusClient

POLL_SECONDS = 0.1
ONE_INDEX = Lock()
"""Held while an index is asked for. Of those that are asked for at the same moment, a 2.3.5 server forgets some until
it looks for work again, once a minute."""


def index_for(
    client: MilvusClient, collection: CollectionSpec, settings: CollectionSettings | None = None
) -> IndexSpec:
    """The index of a collection in this target: the user's, else the source's or the most similar one.

    Raises ConfigurationError where the target lacks the user's index type, or the metric does not fit the vectors.
    """
    supported = vector_index_types(client)
    index = target_index(collection, supported)
    if settings is None:
        return index
    if supported is not None and settings.index_type not in (None, *supported):
        raise ConfigurationError(
            f"{product_name(client)} has no index {settings.index_type}",
            expected=", ".join(sorted(supported)),
            found=f"target: index_type {settings.index_type}",
            cure="Use one of these, or a Milvus 2.x server.",
        )
    if settings.index_type or settings.index_params is not None:
        index = replace(index, index_type=settings.index_type or index.index_type, params=settings.index_params or {})
    return replace(index, metric=_metric(collection, settings) or index.metric)


def _metric(collection: CollectionSpec, settings: CollectionSettings) -> Metric | None:
    """The metric that the user wants instead of the source's; None: the source's."""
    wanted = settings.metric_type
    if wanted and wanted != collection.metric and (wanted.is_binary or collection.metric.is_binary):
        raise ConfigurationError(
            f"collection {collection.name!r} can't be compared by {wanted}",
            expected=f"{collection.metric}, or for float vectors of unit length L2, IP or COSINE",
            found=f"target: metric_type {wanted}",
            cure="Remove metric_type from target.",
        )
    return wanted


def has_index(client: MilvusClient, target: TargetCollection) -> bool:
    return bool(client.list_indexes(target.name, field_name=target.vector_field))


def is_loaded(client: MilvusClient, target: TargetCollection, partition: str = "") -> bool:
    """Whether the collection, or the ``partition`` of it, is loaded."""
    from pymilvus.client.types import LoadState

    return bool(client.get_load_state(target.name, partition_name=partition)["state"] == LoadState.Loaded)


def released_partitions(client: MilvusClient, target: TargetCollection) -> list[str]:
    """The partitions of a loaded collection that are not loaded."""
    if not loads_single_partitions(client) or target.partition_field:
        return []
    names = client.list_partitions(target.name)
    loaded = map_concurrently(client, partial(is_loaded, client, target), names)
    return [name for name, is_there in zip(names, loaded, strict=True) if not is_there]


def create_index(client: MilvusClient, target: TargetCollection, index: IndexSpec) -> None:
    params = client.prepare_index_params()
    params.add_index(
        target.vector_field,
        index_type=index.index_type,
        metric_type=index.metric.value,
        params=dict(index.params),
    )
    if target.own_keys:
        params.add_index(SOURCE_ID, index_type=scalar_index_type(client))
    began = _read_timestamp(client)
    with ONE_INDEX:
        client.create_index(target.name, params, sync=False)
    for index_name in [name for field in params for name in client.list_indexes(target.name, field.field_name)]:
        _wait_for_index(client, target, index_name, began)


def _read_timestamp(client: MilvusClient) -> int:
    """The present time of the target, as its own timestamp; 0 if it has none."""
    if not has_timestamps(client):
        return 0
    return int(client._get_connection().alloc_timestamp(context=client._generate_call_context()))


def _wait_for_index(client: MilvusClient, target: TargetCollection, name: str, began: int) -> None:
    """Wait until the index covers all rows that existed at ``began``, a timestamp of the target.

    Raises StalledError, or MilvusException where the index can't be built.
    """
    from pymilvus import MilvusException

    def left() -> str:
        found = client.describe_index(target.name, name, timestamp=began)
        if found["state"] == "Failed":
            handler, context = client._get_connection(), client._generate_call_context()
            raise MilvusException(message=handler.get_index_state(target.name, name, context=context)[1])
        return "" if found["state"] == "Finished" else f"{found['state']}, {found['indexed_rows']} rows indexed"

    wait_until_done(left, f"index {name!r} of collection {target.name!r}", shortest=POLL_SECONDS)


def drop_indexes(client: MilvusClient, target: TargetCollection, names: Iterable[str]) -> None:
    for name in names:
        client.drop_index(target.name, name)


def refresh(client: MilvusClient, target: TargetCollection) -> None:
    """Load the rows that bulk imports added, where a server has the collection loaded already."""
    if has_bulk_imports(client) and is_loaded(client, target):
        client.refresh_load(target.name, _async=True)
        _wait_until_loaded(client, target, is_refresh=True)


def make_searchable(client: MilvusClient, target: TargetCollection, index: IndexSpec, replicas: int = 1) -> None:
    """Build the index, where there is none, and load the collection."""
    if not has_index(client, target):
        create_index(client, target, index)
    load_collection(client, target, **({"replica_number": replicas} if replicas > 1 else {}))


def load_collection(client: MilvusClient, target: TargetCollection, **options: int) -> None:
    """Load the collection, and wait until it is loaded. Raises StalledError."""
    client.load_collection(target.name, _async=True, **options)
    _wait_until_loaded(client, target)


def _wait_until_loaded(client: MilvusClient, target: TargetCollection, **options: bool) -> None:
    handler, context = client._get_connection(), client._generate_call_context()

    def left() -> str:
        percent = handler.get_loading_progress(target.name, context=context, **options)
        return "" if percent >= 100 else f"{percent} % loaded"

    wait_until_done(left, f"loading collection {target.name!r}", shortest=POLL_SECONDS)


@contextmanager
def searchable(
    client: MilvusClient,
    target: TargetCollection,
    index: IndexSpec,
    settings: CollectionSettings,
    *,
    keep: bool,
) -> Iterator[None]:
    """Index and load the collection: for good (``keep``), or only inside the block.

    A server can't count or read a collection without an index. Where the user wants none, a FLAT index is built inside
    the block, which costs nothing. After a TargetError the collection is left as it was, unless another run has changed
    it: that run may need the index, and have loaded the collection.
    """
    indexes, loaded = set(client.list_indexes(target.name)), is_loaded(client, target)
    indexed, released = has_index(client, target), released_partitions(client, target) if loaded else []
    if loaded and not released and not keep:
        yield
        return
    if not indexed and not keep:
        index = IndexSpec("BIN_FLAT" if index.metric.is_binary else "FLAT", index.metric)
    make_searchable(client, target, index, settings.replicas or 1)
    if released:  # loaded beside others, partitions are said to be there seconds before their rows are served
        refresh(client, target)
    own = set(client.list_indexes(target.name)) - indexes

    def leave(*, keep: bool) -> None:
        if not keep:
            _restore(client, target, own, indexed=indexed, loaded=loaded)
        elif settings.load is False and not loaded:
            client.release_collection(target.name)
        if released and not (keep and settings.load is not False):
            client.release_partitions(target.name, released)

    try:
        yield
    except ChangedTargetError:
        raise
    except TargetError:
        leave(keep=False)
        raise
    except BaseException:
        leave(keep=keep)
        raise
    leave(keep=keep)


def _restore(
    client: MilvusClient, target: TargetCollection, own: Iterable[str], *, indexed: bool, loaded: bool
) -> None:
    """Leave the collection as it was before: without our ``own`` indexes, and loaded only if it was."""
    if not (indexed and loaded):
        client.release_collection(target.name)
    if not indexed:
        drop_indexes(client, target, own)
        if loaded:  # only Milvus Lite loads a collection without an index
            load_collection(client, target)
