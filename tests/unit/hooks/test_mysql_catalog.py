"""An Airflow connection becomes a connection to MySQL; what needs no server."""

from __future__ import annotations

import json

import pytest

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.hooks.mysql_catalog import mysql_connection


@pytest.mark.parametrize("host", ["root:s3cret@127.0.0.1", "mysql://root:s3cret@mysql"])
def test_a_login_in_the_host_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CATALOG", json.dumps({"conn_type": "mysql", "host": host}))
    with pytest.raises(ConfigurationError, match="host of connection catalog holds a login") as fault:
        mysql_connection("catalog").__enter__()
    assert "s3cret" not in str(fault.value)
