"""An Airflow connection becomes a connection to the MySQL database that holds a Milvus 1.x catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from airflow.sdk import BaseHook

from airflow_provider_milvusdm.exceptions import ConfigurationError

REFUSALS = (1044, 1045, 1046, 1049, 1142, 1143)
"""MySQL's error codes: access denied to the database, to the server; no database selected, unknown database; access
denied to a table, to a column.

Source: https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html.
"""
MYSQL_TIMEOUTS = {"connect_timeout": 30, "read_timeout": 120}
"""Seconds. mysqlclient has no timeouts of its own, and waits forever for a server that does not answer."""


@contextmanager
def mysql_connection(mysql_conn_id: str) -> Iterator[Any]:
    """A DB-API connection for the block, through Airflow's MySqlHook.

    Raises ConfigurationError if Airflow's MySQL provider is not installed, if the host holds a login, or if MySQL
    refuses the login or a query in the block.
    """
    try:
        with closing(_connect(mysql_conn_id)) as connection:
            yield connection
    except Exception as error:
        if error.args and error.args[0] in REFUSALS:
            raise ConfigurationError(
                f"MySQL refuses connection {mysql_conn_id}",
                found=error.args[1],
                cure="Correct the connection's login, password and schema (mysql_parameter in YAML). Reading needs no "
                "more than the right SELECT on all tables of that schema.",
            ) from None
        raise


def _connect(mysql_conn_id: str) -> Any:
    connection = BaseHook.get_connection(mysql_conn_id)
    if "@" in (connection.host or ""):  # MySQL's error would quote it
        raise ConfigurationError(
            f"the host of connection {mysql_conn_id} holds a login",
            expected="the name of a host, without @",
            cure="Put user and password into the connection's Login and Password (mysql_parameter in YAML).",
        )
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

    return Hook(connection=_with_safe_extra(connection)).get_conn()


def _with_safe_extra(connection: Any) -> Any:
    """The Airflow connection, changed: with ``ssl``, certificate and host name are verified unless ``ssl_mode`` is set.

    Its ``cursor`` is removed, because the catalog's rows are read as tuples.
    """
    extra = connection.extra_dejson
    verifying = {"ssl_mode": "VERIFY_IDENTITY"} if extra.get("ssl") and not extra.get("ssl_mode") else {}
    connection.extra = json.dumps({name: value for name, value in extra.items() if name != "cursor"} | verifying)
    return connection
