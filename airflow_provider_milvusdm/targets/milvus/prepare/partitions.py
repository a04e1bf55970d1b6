"""Partitions of a collection: how many the target allows, and making them.

A server does not say what ``rootCoord.maxPartitionNum`` it was given: by default 4,096 up to 2.3 and 1,024 since 2.4
(issue 30059 of milvus-io/milvus). Milvus Lite has no limit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.targets.milvus.server.capabilities import is_lite, server_version

if TYPE_CHECKING:
    from pymilvus import MilvusClient

MAX_PARTITIONS = 1024
MAX_PARTITIONS_BEFORE_2_4 = 4096
LIMITS = ("exceeds max configuration", "max general capacity")
"""In what a server says: of one collection's partitions, and of the shards of all collections' partitions."""
CURE = (
    "Keep the tags in a field of one collection instead (partitions: partition_key), or raise "
    "rootCoord.maxPartitionNum in the target's milvus.yaml and say so (target: max_partitions)."
)


def max_partitions_of(client: MilvusClient, settings: CollectionSettings) -> int | None:
    """How many partitions a collection may have, ``_default`` counted; None where there is no limit or none known."""
    version = server_version(client)
    if settings.max_partitions or version is None:
        return settings.max_partitions
    return MAX_PARTITIONS if version >= (2, 4) else MAX_PARTITIONS_BEFORE_2_4


def refuse_too_many(
    client: MilvusClient, collection: str, partitions: Collection[str], settings: CollectionSettings
) -> None:
    """Refuse a collection with more partitions than the target allows."""
    most = max_partitions_of(client, settings)
    if most is not None and len(partitions) > most:
        raise _too_many(collection, f"at most {most}, {_origin(settings)}", str(len(partitions)))


def make_partitions(client: MilvusClient, collection: str, names: Iterable[str]) -> None:
    """Make partitions. Raises TargetError, and leaves none of them, where the target allows fewer."""
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
            found = f"partition {name!r}, after {len(made)} others: {error.message}"
            raise _too_many(collection, "as many as the target allows", found) from None
        made.append(name)


def drop_partition(client: MilvusClient, collection: str, name: str, timeout: float | None = None) -> None:
    """Drop a partition with its rows; ``timeout``: seconds for which that may be taken."""
    if not is_lite(client):
        client.release_partitions(collection, [name])
    client.drop_partition(collection, name, timeout=timeout)


def _origin(settings: CollectionSettings) -> str:
    return "as target: max_partitions says" if settings.max_partitions else "the default of the target's version"


def _too_many(collection: str, expected: str, found: str) -> TargetError:
    return TargetError(
        f"collection {collection!r} would have more partitions than the target allows",
        expected=expected,
        found=found,
        cure=CURE,
    )
