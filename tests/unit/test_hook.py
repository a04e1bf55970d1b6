"""An Airflow connection as arguments of a client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_milvusdm.hooks.milvus import MilvusHook

HOST: dict[str, Any] = {"conn_type": "milvus", "host": "milvus", "port": 19531}
USER: dict[str, Any] = {"login": "root", "password": "Milvus", "schema": "books"}
NOBODY = {"user": "", "password": "", "db_name": ""}


def connect(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", json.dumps(connection))
    return MilvusHook("target", **arguments).client_arguments()


@pytest.mark.parametrize(
    ("connection", "arguments", "expected"),
    [
        ({"conn_type": "milvus"}, {}, {"uri": "http://localhost:19530", **NOBODY}),
        (HOST, {}, {"uri": "http://milvus:19531", **NOBODY}),
        (HOST, {"host": "other"}, {"uri": "http://other:19531", **NOBODY}),
        (HOST, {"port": 1}, {"uri": "http://milvus:1", **NOBODY}),
        (HOST, {"host": "other", "port": 1}, {"uri": "http://other:1", **NOBODY}),
        (HOST, {"uri": "https://cloud:443"}, {"uri": "https://cloud:443", **NOBODY}),
        (HOST, {"uri": "/data/lite.db"}, {"uri": "/data/lite.db"}),
        (
            HOST | USER,
            {},
            {"uri": "http://milvus:19531", "user": "root", "password": "Milvus", "db_name": "books"},
        ),
        (HOST | USER | {"extra": {"uri": "lite.db"}}, {}, {"uri": "lite.db"}),
        (HOST | {"extra": {"uri": "https://cloud:443"}}, {}, {"uri": "https://cloud:443", **NOBODY}),
        (HOST | {"extra": {"uri": "https://cloud:443"}}, {"host": "other"}, {"uri": "http://other:19531", **NOBODY}),
        (
            HOST | {"extra": {"secure": True, "token": "key", "ca_pem_path": "/ca.pem", "server_name": "milvus"}},
            {},
            {
                "uri": "https://milvus:19531",
                "token": "key",
                "server_pem_path": "/ca.pem",
                "server_name": "milvus",
                **NOBODY,
            },
        ),
        (HOST | {"extra": {"secure": False, "token": "", "unknown": 1}}, {}, {"uri": "http://milvus:19531", **NOBODY}),
    ],
)
def test_a_connection_becomes_arguments_of_a_client(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], arguments: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert connect(monkeypatch, connection, **arguments) == expected


@pytest.mark.parametrize("arguments", [{"host": "milvus"}, {"uri": "http://milvus:19530"}])
def test_the_default_connection_may_be_missing_where_the_target_is_given(arguments: dict[str, Any]) -> None:
    assert MilvusHook(**arguments).client_arguments() == {"uri": "http://milvus:19530"}


@pytest.mark.parametrize(("conn_id", "arguments"), [("milvus_default", {}), ("other", {"host": "milvus"})])
def test_another_missing_connection_is_refused(conn_id: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(AirflowNotFoundException, match=conn_id):
        MilvusHook(conn_id, **arguments).client_arguments()


def test_the_test_button_says_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps({"conn_type": "milvus", "extra": {"uri": "nowhere"}}))
    worked, message = MilvusHook().test_connection()
    assert not worked
    assert "nowhere" in message


@pytest.mark.parametrize(
    ("connection", "arguments"),
    [
        ({"extra": {"uri": "http://root:s3cret@milvus:19530"}}, {}),
        ({"extra": {"uri": "http://root:s3cret@milvus:19530"}}, {"port": 19531}),
        ({"extra": {"uri": "root:s3cret@milvus"}}, {}),
        ({"host": "root:s3cret@milvus"}, {}),
        ({}, {"host": "root:s3cret@milvus"}),
        ({}, {"uri": "http://root:s3cret@milvus:19530"}),
    ],
)
def test_a_login_in_the_address_is_refused_without_being_told(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], arguments: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps({"conn_type": "milvus"} | connection))
    worked, message = MilvusHook(**arguments).test_connection()
    assert not worked
    assert "The address of connection milvus_default, or the one given in its place, holds a login" in message
    assert "s3cret" not in message


def test_a_host_and_port_may_spell_the_connections_own_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://milvus:19530"
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps({"conn_type": "milvus", "extra": {"uri": uri}}))
    assert MilvusHook(host="milvus", port=19530).client_arguments()["uri"] == uri
