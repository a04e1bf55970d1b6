"""What a target can do: Milvus Lite or a server, and of which version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.collections import TargetCollection


def is_lite(client: MilvusClient) -> bool:
    """Whether this is Milvus Lite (a local file), which lacks some of Milvus and differs in some."""
    return str(client.get_server_version()).startswith("milvus_lite")


def server_version(client: MilvusClient) -> tuple[int, ...] | None:
    """``(2, 6, 3)``, say; None for Milvus Lite and for a build without a version."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", str(client.get_server_version()))
    return tuple(map(int, found.groups())) if found else None


def upserts_as_given(client: MilvusClient, target: TargetCollection) -> bool:
    """Whether an upsert leaves rows with the id and where they belong; else they are to be deleted and inserted.

    A server gives new ids to rows of a collection with auto_id (issues 46891 and 53157 of milvus-io/milvus), and early
    ones of 2.3 put those of one with a partition key where no filter by the key finds them (pull request 30772).
    """
    if is_lite(client):
        return True
    return not target.partition_field and not client.describe_collection(target.name)["auto_id"]


FIRST_VERSION = (2, 6, 3)


def can_accept_new_ids(client: MilvusClient) -> bool:
    """Whether the target makes ids in a collection that keeps those it's given."""
    return is_lite(client) or (server_version(client) or ()) >= FIRST_VERSION
