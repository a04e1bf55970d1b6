"""An Airflow connection becomes the arguments of a client."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_milvusdm.exceptions import ConfigurationError
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
        (HOST | {"extra": {"uri": "https://cloud:443"}}, {"host": "other"}, {"uri": "https://other:19531", **NOBODY}),
        (HOST | {"extra": {"uri": "http://cloud:80/books"}}, {}, {"uri": "http://cloud:80/books", **NOBODY}),
        (HOST, {"uri": "HTTPS://Cloud"}, {"uri": "https://cloud:443", **NOBODY}),
        (HOST, {"uri": "tcp://host.db"}, {"uri": "tcp://host.db:19530", **NOBODY}),
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
def test_the_default_connection_may_be_missing_if_the_target_is_given(arguments: dict[str, Any]) -> None:
    assert MilvusHook(**arguments).client_arguments() == {"uri": "http://milvus:19530"}


@pytest.mark.parametrize(("conn_id", "arguments"), [("milvus_default", {}), ("other", {"host": "milvus"})])
def test_another_missing_connection_is_refused(conn_id: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(AirflowNotFoundException, match=conn_id):
        MilvusHook(conn_id, **arguments).client_arguments()


def test_the_test_button_shows_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "The address of this connection, or the one given instead, holds a login" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("name", ["client_pem_path", "client_key_path", "ca_pem_path", "server_pem_path"])
@pytest.mark.parametrize("key", ["-----BEGIN PRIVATE KEY-----\ns3cret\n", "MIIs3cret" * 1000])
def test_a_key_in_place_of_its_path_is_refused_without_being_told(
    monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    connection = HOST | {"extra": {"secure": True, name: key}}
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps(connection))
    worked, message = MilvusHook().test_connection()
    assert not worked
    assert "_path of the connection is not a file. Expected the path of a PEM file" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("value", ["y", "required", "TLS", 2, ["true"]])
def test_a_switch_of_tls_that_is_not_understood_is_refused(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="ecure of connection target is neither true nor false"):
        connect(monkeypatch, HOST | {"extra": {"secure": value}})


def test_a_login_among_the_allowed_hosts_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = HOST | {"extra": {"allowed_hosts": "http://root:s3cret@milvus, a:b"}}
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps(connection))
    worked, message = MilvusHook().test_connection()
    assert not worked
    assert "found one with @, a:b" in message
    assert "s3cret" not in message


def test_host_and_port_may_be_those_of_the_connections_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://milvus:19530"
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps({"conn_type": "milvus", "extra": {"uri": uri}}))
    assert MilvusHook(host="milvus", port=19530).client_arguments()["uri"] == uri


LOGINS: list[dict[str, Any]] = [
    {"login": "root", "password": "s3cret"},
    {"extra": {"token": "s3cret"}},
    {"extra": {"client_key_path": "/key.pem"}},
]
ELSEWHERE: list[dict[str, Any]] = [
    {"host": "other"},
    {"host": "milvus.other"},
    {"host": "10.0.0.1", "port": 19530},
    {"uri": "http://other:19530"},
    {"uri": "https://other"},
    {"uri": "tcp://other/milvus"},
    {"uri": "unix:/tmp/milvus"},
    {"uri": "unix:///tmp/milvus"},
]


@pytest.mark.parametrize("arguments", ELSEWHERE)
@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize(
    "own",
    [
        {"host": "milvus"},
        {"extra": {"uri": "http://milvus:19530"}},
        {"extra": {"uri": "lite.db"}},
        {"extra": {"allowed_hosts": ["milvus"]}},
    ],
    ids=["host", "uri", "file", "no host"],
)
def test_a_login_goes_to_no_host_that_its_connection_does_not_name(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], login: dict[str, Any], arguments: dict[str, Any]
) -> None:
    extra = own.get("extra", {}) | login.get("extra", {})
    with pytest.raises(ConfigurationError, match="The login of connection target is not for host") as fault:
        connect(monkeypatch, {"conn_type": "milvus"} | own | login | {"extra": extra}, **arguments)
    assert "allowed_hosts" in str(fault.value)
    assert "s3cret" not in str(fault.value)


@pytest.mark.parametrize(
    ("own", "arguments", "uri"),
    [
        ({"host": "milvus"}, {"port": 1}, "http://milvus:1"),
        ({"host": "Milvus.example."}, {"host": "milvus.EXAMPLE"}, "http://milvus.example:19530"),
        ({"host": "milvus"}, {"uri": "http://MILVUS:1/books"}, "http://milvus:1/books"),
        ({"host": "milvus"}, {"uri": "https://milvus"}, "https://milvus:443"),
        ({"host": "milvus", "extra": {"uri": "https://cloud"}}, {"host": "cloud"}, "https://cloud:19530"),
        ({"host": "milvus", "extra": {"uri": "http://cloud"}}, {"host": "milvus"}, "http://milvus:19530"),
        ({"extra": {"uri": "unix:/milvus"}}, {"uri": "unix:/milvus"}, "unix:/milvus"),
        ({"extra": {"uri": "unix:/milvus"}}, {}, "unix:/milvus"),
        ({"host": "milvus", "extra": {"allowed_hosts": ["Other"]}}, {"host": "other"}, "http://other:19530"),
        ({"host": "milvus", "extra": {"allowed_hosts": "a, other."}}, {"uri": "http://other"}, "http://other:19530"),
        ({"extra": {"allowed_hosts": ["other"]}}, {"host": "other"}, "http://other:19530"),
        ({}, {"host": "other"}, "http://other:19530"),
        ({}, {"uri": "http://other:1"}, "http://other:1"),
        ({}, {}, "http://localhost:19530"),
    ],
)
def test_a_login_goes_to_the_hosts_of_its_connection_or_if_it_has_none_to_the_host_given(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], arguments: dict[str, Any], uri: str
) -> None:
    found = connect(monkeypatch, {"conn_type": "milvus", "login": "root", "password": "s3cret"} | own, **arguments)
    assert (found["uri"], found["password"]) == (uri, "s3cret")


def test_a_connection_without_a_login_may_be_used_for_any_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connect(monkeypatch, HOST, host="other")["uri"] == "http://other:19531"


@pytest.mark.parametrize("extra", [{"secure": True}, {"uri": "https://milvus:19530"}])
@pytest.mark.parametrize("uri", ["http://milvus:19530", "tcp://milvus", "unix:/tmp/milvus", "http://other"])
@pytest.mark.parametrize("login", [{}, {"login": "root", "password": "s3cret"}])
def test_tls_is_not_dropped(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], uri: str, login: dict[str, Any]
) -> None:
    connection = {"conn_type": "milvus", "host": "milvus", "extra": extra} | login
    with pytest.raises(
        ConfigurationError, match="asks for TLS, but its address, or the one given instead, is without TLS"
    ):
        connect(monkeypatch, connection, uri=uri)
    assert connect(monkeypatch, connection, host="milvus")["uri"].startswith("https://milvus:")
    assert connect(monkeypatch, connection, uri="/data/lite.db") == {"uri": "/data/lite.db"}


def test_a_connection_that_asks_for_tls_does_not_use_its_own_uri_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="asks for TLS"):
        connect(monkeypatch, HOST | {"extra": {"secure": True, "uri": "http://milvus:19530"}})


@pytest.mark.parametrize(
    ("own", "arguments"),
    [
        ({"host": "milvus:99999"}, {}),
        ({"host": "milvus:port"}, {}),
        ({"host": "ftp://milvus"}, {}),
        ({"host": "milvus/books"}, {}),
        ({"host": "http://milvus/books"}, {}),
        ({}, {"host": "other:80/"}),
        ({}, {"host": "milvus#.other"}),
        ({}, {"host": "milvus other"}),
        ({}, {"uri": "http://"}),
        ({}, {"uri": "http://milvus:port"}),
        ({}, {"uri": "http://milvus:99999"}),
        ({}, {"uri": "ftp://milvus"}),
        ({}, {"uri": "http://milvus/?token=s3cret"}),
        ({}, {"uri": "http://milvus/books#s3cret"}),
        ({}, {"uri": "http://milvus/global-cluster"}),
        ({}, {"uri": "https://milvus\\.other"}),
    ],
)
def test_an_invalid_address_is_refused_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], arguments: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"one given instead, is invalid\. Expected") as fault:
        connect(monkeypatch, {"conn_type": "milvus"} | own, **arguments)
    assert "s3cret" not in str(fault.value)


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        ({"host": "milvus:19531"}, "http://milvus:19531"),
        ({"host": "milvus:19531", "port": 19531}, "http://milvus:19531"),
        ({"host": "milvus:19531", "extra": {"secure": True}}, "https://milvus:19531"),
        ({"host": "http://milvus:19531"}, "http://milvus:19531"),
        ({"host": "http://milvus:19531/"}, "http://milvus:19531"),
        ({"host": "http://milvus", "port": 19531}, "http://milvus:19531"),
        ({"host": "http://milvus"}, "http://milvus:19530"),
        ({"host": "https://Milvus.example"}, "https://milvus.example:443"),
        ({"host": "https://milvus:19531"}, "https://milvus:19531"),
        ({"host": "tcp://milvus:19531"}, "http://milvus:19531"),
    ],
)
def test_an_address_in_the_field_host_is_taken_apart(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], uri: str
) -> None:
    login = {"conn_type": "milvus", "login": "root", "password": "s3cret"}
    assert connect(monkeypatch, login | fields)["uri"] == uri
    host = uri.partition("://")[2].partition(":")[0]
    assert connect(monkeypatch, login | fields, host=host)["password"] == "s3cret"


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({"host": "milvus:19531", "port": 19530}, "Port 19530"),
        ({"host": "https://milvus:19531", "port": 19530}, "Port 19530"),
        ({"host": "http://milvus", "extra": {"secure": True}}, "TLS"),
    ],
)
def test_an_address_in_the_field_host_does_not_contradict_the_other_fields(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], other: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"Host of connection .* contradicts {other}"):
        connect(monkeypatch, {"conn_type": "milvus"} | fields)


@pytest.mark.parametrize("arguments", [{"host": "::1"}, {"host": "[::1]"}, {"uri": "http://[::1]:19530"}])
def test_an_ipv6_address_is_refused(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> None:
    """pymilvus removes the brackets, and gRPC reads the port as a part of the address, which is of another host."""
    with pytest.raises(ConfigurationError, match="is invalid"):
        connect(monkeypatch, {"conn_type": "milvus"}, **arguments)


@pytest.mark.parametrize("hosts", [["*"], ["other:19530"], ["http://other"], "a,*.example"])
def test_allowed_hosts_are_names(monkeypatch: pytest.MonkeyPatch, hosts: Any) -> None:
    with pytest.raises(ConfigurationError, match="llowed_hosts of connection target are not names of hosts"):
        connect(monkeypatch, HOST | {"extra": {"allowed_hosts": hosts}})


@pytest.mark.parametrize("conn_type", ["aws", "postgres", ""])
def test_the_login_of_another_service_is_not_sent_to_a_milvus(monkeypatch: pytest.MonkeyPatch, conn_type: str) -> None:
    connection = {"conn_type": conn_type, "login": "AKIA", "password": "s3cret"}
    with pytest.raises(ConfigurationError, match="onnection target is not of a Milvus") as fault:
        connect(monkeypatch, connection, host="other")
    assert "s3cret" not in str(fault.value)


def test_the_blocks_of_several_threads_do_not_read_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read its extra is a request to Airflow, whose client takes one at a time in a process of `dag.test()`."""
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", json.dumps(HOST | {"extra": {"secure": False}}))
    monkeypatch.setattr(MilvusHook, "get_conn", lambda _: SimpleNamespace(close=lambda: None))
    hook, masked = MilvusHook("target"), []
    with hook.client():
        monkeypatch.setattr("airflow.sdk.log.mask_secret", masked.append)
        with hook.explained_errors():
            assert not masked
