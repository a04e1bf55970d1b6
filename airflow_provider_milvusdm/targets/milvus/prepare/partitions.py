"""Partitions of a collection: check how many the target allows, create them, drop them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.targets.milvus.server.capabilities import drops_loaded_partitions, max_partitions
from airflow_provider_milvusdm.targets.milvus.server.sending import sent_before

if TYPE_CHECKING:
    from pymilvus import MilvusClient

LIMITS = ("exceeds max configuration", "max general capacity")
"""Texts in a server's message: too many partitions in a collection, too many shards of all partitions together."""
CURE = (
    "Keep the tags in a field of one collection instead (partitions: partition_key), or raise "
    "rootCoord.maxPartitionNum in the target's milvus.yaml and say so (target: max_partitions)."
)


def refuse_too_many(
    client: MilvusClient, collection: str, partitions: Collection[str], settings: CollectionSettings
) -> None:
    """Raises TargetError where a collection would have more ``partitions`` than the target allows."""
    limit = settings.max_partitions or max_partitions(client)
    if limit is not None and len(partitions) > limit:
        raise _too_many(collection, f"at most {limit}, {_origin(settings)}", str(len(partitions)))


def make_partitions(client: MilvusClient, collection: str, names: Iterable[str]) -> None:
    """Create partitions. Raises TargetError, and leaves none of them, where the target does not allow so many."""
    from pymilvus import MilvusException

    made: list[str] = []
    for name in names:
        try:
            client.create_partition(collection, name)
        except MilvusException as error:
            if not any(limit in error.message for limit in LIMITS):
                raise
            for own in made:
                drop_partition(client, collection, own)
            found = f"partition {name!r} refused after {len(made)} others: {error.message}"
            raise _too_many(collection, "as many as the target allows", found) from None
        made.append(name)


def drop_partition(client: MilvusClient, collection: str, name: str, deadline: float | None = None) -> None:
    """Drop a partition with its rows. Raises LateError where ``deadline`` is over before it is dropped."""
    with sent_before(client, deadline) as timeout:
        if not drops_loaded_partitions(client):
            client.release_partitions(collection, [name], timeout=timeout)
        client.drop_partition(collection, name, timeout=timeout)


def _origin(settings: CollectionSettings) -> str:
    return "the value of target: max_partitions" if settings.max_partitions else "the default of the target's version"


def _too_many(collection: str, expected: str, found: str) -> TargetError:
    return TargetError(
        f"collection {collection!r} would have more partitions than the target allows",
        expected=expected,
        found=found,
        cure=CURE,
    )
