"""What a target can do: the only place that asks whether it is Milvus Lite or a server, and of which version.

Facts about Milvus Lite hold for 3.2, the version in ``requirements.lock``; facts about servers without another source
were observed on 2.3.5, the server that the tests start.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.collections import TargetCollection

FIRST_WITH_NEW_IDS = (2, 6, 3)
MAX_PARTITIONS = 1024
MAX_PARTITIONS_BEFORE_2_4 = 4096
LITE_INDEX_TYPES = frozenset({"AUTOINDEX", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW"})

_VERSIONS: WeakKeyDictionary[MilvusClient, str] = WeakKeyDictionary()


def _version(client: MilvusClient) -> str:
    """The version that the target reports, asked for once a client."""
    if client not in _VERSIONS:
        _VERSIONS[client] = str(client.get_server_version())
    return _VERSIONS[client]


def is_lite(client: MilvusClient) -> bool:
    """Whether this is Milvus Lite (a local file); other modules ask for a capability instead."""
    return _version(client).startswith("milvus_lite")


def _server_version(client: MilvusClient) -> tuple[int, ...] | None:
    """``(2, 6, 3)``, for example; None for Milvus Lite and for a build without a version number."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", _version(client))
    return tuple(map(int, found.groups())) if found else None


def product_name(client: MilvusClient) -> str:
    """The target's product and version, for messages."""
    return f"{'Milvus Lite' if is_lite(client) else 'Milvus'} ({_version(client)})"


def has_binary_vectors(client: MilvusClient) -> bool:
    """Milvus Lite has no BINARY_VECTOR fields."""
    return not is_lite(client)


def has_bulk_imports(client: MilvusClient) -> bool:
    """Milvus Lite has no bulk imports: its service does not implement ``Import``."""
    return not is_lite(client)


def vector_index_types(client: MilvusClient) -> frozenset[str] | None:
    """The index types that Milvus Lite has; None for a server: all of Milvus 2.x."""
    return LITE_INDEX_TYPES if is_lite(client) else None


def scalar_index_type(client: MilvusClient) -> str:
    """Index type to name for an INT64 field: a server chooses one where none is named, Milvus Lite does not."""
    return "INVERTED" if is_lite(client) else ""


def checks_index_settings(client: MilvusClient) -> bool:
    """Whether the target refuses index params that it can't use; Milvus Lite accepts any."""
    return not is_lite(client)


def max_partitions(client: MilvusClient) -> int | None:
    """How many partitions a collection may have, ``_default`` included; None where there is no limit or none is known.

    A server does not report its ``rootCoord.maxPartitionNum``. The default is 4,096 up to 2.3 and 1,024 since 2.4
    (issue 30059 of milvus-io/milvus). Milvus Lite has no limit.
    """
    version = _server_version(client)
    if version is None:
        return None
    return MAX_PARTITIONS if version >= (2, 4) else MAX_PARTITIONS_BEFORE_2_4


def drops_loaded_partitions(client: MilvusClient) -> bool:
    """Whether a partition can be dropped while it is loaded; a server wants it released first."""
    return is_lite(client)


def accepts_ids_with_auto_id(client: MilvusClient) -> bool:
    """Whether a collection with auto_id can also keep ids that it is given.

    Milvus 2.6.3 and later do with the property ``allow_insert_auto_id``, Milvus Lite always.
    """
    return is_lite(client) or (_server_version(client) or ()) >= FIRST_WITH_NEW_IDS


def upserts_in_place(client: MilvusClient, target: TargetCollection) -> bool:
    """Whether an upserted row keeps its id and can be found; otherwise it has to be deleted and inserted.

    A server gives new ids to the rows of a collection with auto_id (issues 46891 and 53157 of milvus-io/milvus). Early
    2.3 servers store the rows of a collection with a partition key where no filter by the key finds them (pull request
    30772).
    """
    if is_lite(client):
        return True
    return not target.partition_field and not client.describe_collection(target.name)["auto_id"]


def deletes_within_partition(client: MilvusClient) -> bool:
    """Whether a delete in a partition leaves the other partitions alone; Milvus Lite deletes an id from all of them."""
    return not is_lite(client)


def keeps_unflushed_rows_by_partition(client: MilvusClient) -> bool:
    """Whether rows that are not flushed are kept by partition and id.

    Milvus Lite keeps them by id alone: an unflushed row replaces another partition's row with the same id.
    """
    return not is_lite(client)


def stores_rows_with_one_id(client: MilvusClient) -> bool:
    """Whether an insert of an id that is there already adds a row. Milvus Lite replaces the row."""
    return not is_lite(client)


def serves_requests_concurrently(client: MilvusClient) -> bool:
    """Whether requests sent at the same time are answered sooner; Milvus Lite works on one at a time."""
    return not is_lite(client)


def counts_partitions_by_query(client: MilvusClient) -> bool:
    """Whether ``count(*)`` counts one partition.

    That of Milvus Lite ignores partitions. Its partition statistics are exact instead; a server's are not.
    """
    return not is_lite(client)


def counts_without_loading(client: MilvusClient) -> bool:
    """Whether rows can be counted while the collection is not loaded: from Milvus Lite's statistics they can.

    Those under a partition key can't.
    """
    return is_lite(client)


def has_timestamps(client: MilvusClient) -> bool:
    """Whether the target tells its time; Milvus Lite does not, and logs a traceback each time it is asked."""
    return not is_lite(client)


def orders_limited_queries(client: MilvusClient) -> bool:
    """Whether a query with a limit returns the lowest ids; Milvus Lite does so only with the option ``iterator``."""
    return not is_lite(client)


def loads_single_partitions(client: MilvusClient) -> bool:
    """Whether some partitions of a collection can be loaded and others not; Milvus Lite loads whole collections."""
    return not is_lite(client)


def loads_for_all_clients(client: MilvusClient) -> bool:
    """Whether loading a collection changes what other clients see; Milvus Lite loads it for this process alone."""
    return not is_lite(client)


def stays_loaded_when_renamed(client: MilvusClient) -> bool:
    """Milvus Lite releases a collection that is renamed."""
    return not is_lite(client)


def stores_properties_at_once(client: MilvusClient) -> bool:
    """Whether a collection property is stored when it is set.

    A 2.3 server stores the former value of a property that it has already; the new value is stored when the collection
    is altered once more.
    """
    return is_lite(client)


def caches_aliases(client: MilvusClient) -> bool:
    """Whether a proxy may keep using the collection that an alias stood for before; servers of 2.3 do."""
    return not is_lite(client)


def reports_memory(client: MilvusClient) -> bool:
    """Whether ``GetMetrics`` tells the memory of query nodes; Milvus Lite has none."""
    return not is_lite(client)
