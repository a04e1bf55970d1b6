"""Reach a target: its address, host, port, TLS, login and database, and the right to create collections."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.hooks.milvus_address import database_of, is_file

if TYPE_CHECKING:
    from pymilvus import MilvusClient

NO_SUCH_DATABASE = 800
"""Milvus's error code ``DatabaseNotFound``, since 2.3."""
ANSWER_SECONDS = 30

log = logging.getLogger(__name__)


class Connects(Protocol):
    """What is needed of :class:`MilvusHook`."""

    def client_arguments(self) -> dict[str, Any]: ...

    def client(self, *, plan_only: bool = False) -> AbstractContextManager[MilvusClient]: ...


def reach(hook: Connects, *, creates: bool = False) -> str:
    """Use the connection as a migration does; returns what was reached, as a text. Nothing is changed.

    Raises ConfigurationError if a field of the connection is wrong, or with ``creates`` if the login may not create
    collections. Raises UnreachableError if the server is away.
    """
    from airflow_provider_milvusdm.targets.milvus.server.quiet import quiet_refusals

    arguments = hook.client_arguments()
    with quiet_refusals(), hook.client(plan_only=True) as client:
        version = client.get_server_version(timeout=ANSWER_SECONDS)
        if is_file(arguments["uri"]):
            return f"Milvus {version}"
        database = database_of(arguments)
        _use_database(client, arguments["uri"], database)
        user = _user(arguments)
        if creates:
            _require_right_to_create(client, arguments["uri"], database, user)
    return f"Milvus {version}, database {database}" + (f", user {user}" if user else "")


def _user(arguments: dict[str, str]) -> str:
    """The user; of a token only the part before the password, and nothing of an API key."""
    user, has_password, _ = arguments.get("token", "").partition(":")
    return (user if has_password else "") or arguments.get("user", "")


def _use_database(client: MilvusClient, uri: str, database: str) -> None:
    from grpc import RpcError
    from pymilvus import MilvusException

    from airflow_provider_milvusdm.targets.milvus.server.rights import AWAY

    try:
        client.list_collections(timeout=ANSWER_SECONDS)
    except RpcError as error:
        if error.code() in AWAY:
            raise
        log.info("the target does not list its collections: %s", error.code().name)  # it need not have the right to
    except MilvusException as error:
        if error.code != NO_SUCH_DATABASE:
            log.info("the target does not list its collections: %s", error.message)
            return
        raise ConfigurationError(
            f"there is no database {database!r}",
            where=uri,
            cure="Correct Database (the schema) of the connection, or create the database.",
        ) from None


def _require_right_to_create(client: MilvusClient, uri: str, database: str, user: str) -> None:
    from airflow_provider_milvusdm.targets.milvus.server.rights import may_create_collections

    if not may_create_collections(client):
        raise ConfigurationError(
            f"user {user!r} may not create collections in database {database!r}",
            where=uri,
            cure="Grant the user a role with the privilege CreateCollection, or use another login.",
        )
