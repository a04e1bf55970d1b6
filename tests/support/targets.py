"""Milvus 2.x as the tests themselves reach it; pymilvus takes seconds to import, so it waits for its use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymilvus import MilvusClient


@contextmanager
def milvus_client(uri: str, **arguments: Any) -> Iterator[MilvusClient]:
    """A client that leaves nothing behind.

    Unless `dedicated`, the clients of a process share a connection by host, port and token, whatever else
    they ask for, such as TLS. And `close` alone leaves a Milvus Lite file locked until this process ends.
    """
    from pymilvus import MilvusClient

    client = MilvusClient(uri, dedicated=True, **arguments)
    try:
        yield client
    finally:
        client.close()
        if uri.endswith(".db"):
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(uri)


def answers(uri: str, **arguments: Any) -> bool:
    """Whether a Milvus lists its collections at `uri`."""
    from pymilvus import MilvusException

    try:
        with milvus_client(uri, timeout=3, **arguments) as client:
            client.list_collections(timeout=3)
    except MilvusException:
        return False
    return True


def drop_all_collections(uri: str, **arguments: Any) -> None:
    with milvus_client(uri, **arguments) as client:
        for name in client.list_collections():
            for alias in client.list_aliases(name, db_name=arguments.get("db_name", ""))["aliases"]:
                client.drop_alias(alias)
            client.drop_collection(name)
