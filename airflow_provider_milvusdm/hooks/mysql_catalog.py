"""A connection to the MySQL that holds a Milvus 1.x catalog, through Airflow's MySqlHook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import ConfigurationError

if TYPE_CHECKING:
    pass


REFUSALS = (1044, 1045, 1046, 1049, 1142, 1143)
"""Access denied to the database, to the server; no database, an unknown one; access denied to a table, to a column."""
MYSQL_TIMEOUTS = {"connect_timeout": 30, "read_timeout": 120}
"""Seconds. mysqlclient has none of its own, and waits without end for a server that says nothing."""


def connect(mysql_conn_id: str) -> Any:
    """A DB-API connection through Airflow's MySqlHook."""
    try:
        from airflow.providers.mysql.hooks.mysql import MySqlHook
    except ImportError:
        raise ConfigurationError(
            "a catalog in MySQL needs apache-airflow-providers-mysql",
            cure="pip install 'airflow-provider-milvusdm[mysql]' (its mysqlclient needs a compiler).",
        ) from None

    class Hook(MySqlHook):
        def _get_conn_config_mysql_client(self, conn: Any) -> dict[str, Any]:
            return {**super()._get_conn_config_mysql_client(conn), **MYSQL_TIMEOUTS}

    return Hook(connection=_prepared(Hook.get_connection(mysql_conn_id))).get_conn()


@contextmanager
def tell_refusals(mysql_conn_id: str) -> Iterator[None]:
    """What MySQL refuses this login, no retry mends."""
    try:
        yield
    except Exception as error:
        if error.args and error.args[0] in REFUSALS:
            raise ConfigurationError(
                f"MySQL refuses connection {mysql_conn_id}",
                found=error.args[1],
                cure="Correct the connection's login, password and schema (mysql_parameter in YAML). Reading needs no "
                "more than the right SELECT on all tables of that schema.",
            ) from None
        raise


def _prepared(connection: Any) -> Any:
    """The connection; one that asks for TLS verifies certificate and name, unless its ``ssl_mode`` says otherwise.

    Its ``cursor`` is left out: rows are read as tuples, all of a table at once.
    """
    extra = connection.extra_dejson
    verifying = {"ssl_mode": "VERIFY_IDENTITY"} if extra.get("ssl") and not extra.get("ssl_mode") else {}
    connection.extra = json.dumps({name: value for name, value in extra.items() if name != "cursor"} | verifying)
    return connection
