"""Airflow connections to real targets: which of them work, and the errors of the others."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.hooks.reach import reach
from tests.support.certificates import SERVER_NAME, Certificates, write_certificates
from tests.support.collections_2x import make_collection
from tests.support.milvus_servers import MilvusAddress, milvus_server
from tests.support.reading import assert_in_order
from tests.support.targets import milvus_client

Connect = Callable[..., None]
Dial = Callable[..., None]
NOWHERE = 1
"""A port on which no server listens."""
AWAY = {"host": "nowhere.invalid", "port": NOWHERE}
AWAY_URI = f"http://127.0.0.1:{NOWHERE}"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes Airflow's connection `target` from the fields given."""

    def connect(**fields: Any) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_TARGET", json.dumps({"conn_type": "milvus"} | fields))

    return connect


def collections(hook: MilvusHook) -> list[str]:
    with hook.client() as client:
        found: list[str] = client.list_collections()
    return found


@pytest.fixture
def server(empty_milvus_server_uri: str) -> MilvusAddress:
    """A server with a collection `there`."""
    with milvus_client(empty_milvus_server_uri) as client:
        make_collection(client, "there", {})
    url = urlsplit(empty_milvus_server_uri)
    return MilvusAddress(str(url.hostname), int(url.port or 0), empty_milvus_server_uri)


@pytest.mark.parametrize(
    "reach",
    [
        lambda server: ({"host": server.host, "port": server.port}, {}),
        lambda server: (AWAY | {"extra": {"uri": server.uri}}, {}),
        lambda server: (AWAY, {"host": server.host, "port": server.port}),
        lambda server: (AWAY | {"host": server.host}, {"port": server.port}),
        lambda server: (AWAY | {"port": server.port}, {"host": server.host}),
        lambda server: ({"extra": {"uri": AWAY_URI}}, {"host": server.host, "port": server.port}),
        lambda server: (AWAY | {"extra": {"uri": AWAY_URI}}, {"uri": server.uri}),
    ],
    ids=[
        "connection: host, port",
        "connection: uri",
        "arguments: host, port",
        "connection: host; arguments: port",
        "connection: port; arguments: host",
        "arguments: host, port instead of a uri",
        "arguments: uri instead of a uri",
    ],
)
def test_a_server_is_reached_by_the_connection_or_by_what_replaces_it(
    connect: Connect, server: MilvusAddress, reach: Any
) -> None:
    fields, arguments = reach(server)
    connect(**fields)
    assert collections(MilvusHook("target", **arguments)) == ["there"]


def test_the_default_connection_may_be_missing_if_the_host_is_given(server: MilvusAddress) -> None:
    assert collections(MilvusHook(host=server.host, port=server.port)) == ["there"]


def test_another_connection_that_is_missing_is_an_error(server: MilvusAddress) -> None:
    with pytest.raises(AirflowNotFoundException, match="absent"):
        collections(MilvusHook("absent", host=server.host, port=server.port))


def test_a_port_alone_does_not_replace_a_uri(connect: Connect, server: MilvusAddress) -> None:
    connect(extra={"uri": server.uri})
    with pytest.raises(ConfigurationError, match="ort alone can't replace the uri of connection target"):
        collections(MilvusHook("target", port=NOWHERE))


def test_the_test_button_shows_what_was_reached(connect: Connect, server: MilvusAddress) -> None:
    connect(host=server.host, port=server.port)
    assert MilvusHook("target").test_connection() == (True, "Milvus v2.3.5-lite, database default")


@pytest.mark.parametrize("field", ["schema", "uri"])
def test_the_test_button_uses_the_database(
    connect: Connect,
    server: MilvusAddress,
    field: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fields: dict[str, dict[str, Any]] = {
        "schema": {"host": server.host, "port": server.port, "schema": "nowhere"},
        "uri": {"extra": {"uri": f"{server.uri}/nowhere"}},
    }
    connect(**fields[field])
    worked, message = MilvusHook("target").test_connection()
    assert not worked
    assert_in_order(message, ["There is no database 'nowhere'", server.uri, "Correct Database"])
    assert "Traceback" not in capfd.readouterr().err + caplog.text


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"host": "nowhere.invalid"}, ["There is no host 'nowhere.invalid'", "Correct Host of the connection"]),
        ({"host": "127.0.0.1", "port": NOWHERE}, ["No server listens on port 1 of host '127.0.0.1'", "Correct Port"]),
        ({"host": "127.0.0.1", "port": NOWHERE, "extra": {"secure": True}}, ["No server listens on port 1", "https"]),
        ({"extra": {"uri": "unix:/nowhere/milvus"}}, ["The server can't be reached: unix:/nowhere/milvus", "found"]),
        ({"host": "milvus:19530", "port": 19531}, ["Host of this connection contradicts Port 19531"]),
    ],
)
def test_the_test_button_says_whether_host_or_port_is_wrong(
    connect: Connect, fields: dict[str, Any], parts: list[str]
) -> None:
    connect(**fields)
    worked, message = MilvusHook("target").test_connection()
    assert not worked
    assert_in_order(message, parts)


def test_what_answers_without_being_a_milvus_is_told(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=_close_each, args=(listener,), daemon=True)
        thread.start()
        connect(host="127.0.0.1", port=listener.getsockname()[1])
        worked, message = MilvusHook("target").test_connection()
        assert not worked
        assert_in_order(message, ["The server can't be reached: http://127.0.0.1", "xpected a Milvus 2.x, found"])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _close_each(listener: socket.socket) -> None:
    """Accept connections and close them, until the listener is shut down."""
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_an_address_in_the_field_host_is_understood(connect: Connect, server: MilvusAddress) -> None:
    for host in (f"{server.host}:{server.port}", server.uri):
        connect(host=host)
        assert collections(MilvusHook("target")) == ["there"]


@pytest.mark.parametrize("switch", ["false", "False", "0", ""])
def test_a_connection_written_as_a_uri_can_switch_tls_off(
    monkeypatch: pytest.MonkeyPatch, server: MilvusAddress, switch: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TARGET", f"milvus://{server.host}:{server.port}?secure={switch}")
    assert collections(MilvusHook("target")) == ["there"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of another authority."""
    return write_certificates(tmp_path_factory.mktemp("other-certificates"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[MilvusAddress]:
    """A server with TLS that asks for a password."""
    options = {
        "--authorization-enabled": "true",
        "--tls-mode": "1",
        "--server-pem-path": str(certificates.server),
        "--server-key-path": str(certificates.server_key),
        "--ca-pem-path": str(certificates.authority),
    }
    with milvus_server(
        tmp_path_factory.mktemp("guarded-server"),
        *(word for option in options.items() for word in option),
        scheme="https",
        token="root:Milvus",
        server_pem_path=str(certificates.authority),
        server_name=SERVER_NAME,
    ) as address:
        yield address


@pytest.fixture
def guarded_client(guarded: MilvusAddress, certificates: Certificates) -> Iterator[MilvusClient]:
    """A client of the guarded server, as its administrator."""
    trust = {"server_pem_path": str(certificates.authority), "server_name": SERVER_NAME}
    with milvus_client(guarded.uri, token="root:Milvus", **trust) as client:
        yield client


@pytest.fixture
def dial(connect: Connect, guarded: MilvusAddress, certificates: Certificates) -> Dial:
    """Makes the connection to the guarded server, which is right except for the fields given."""

    def dial(*, login: str = "root", password: str = "Milvus", **extra: Any) -> None:
        right = {"secure": True, "ca_pem_path": str(certificates.authority), "server_name": SERVER_NAME}
        connect(host=guarded.host, port=guarded.port, login=login, password=password, extra=right | extra)

    return dial


def test_tls_with_its_authority_and_a_user_is_reached(dial: Dial) -> None:
    dial()
    assert collections(MilvusHook("target")) == []


def test_a_token_replaces_user_and_password(dial: Dial) -> None:
    dial(login="", password="", token="root:Milvus")
    assert collections(MilvusHook("target")) == []


def test_a_uri_with_tls_is_reached(dial: Dial, guarded: MilvusAddress) -> None:
    dial(secure=False, uri=guarded.uri)
    assert collections(MilvusHook("target")) == []


@pytest.mark.parametrize("name", ["server_pem_path", "ca_pem_path"])
def test_the_authority_may_be_in_either_field_beside_a_client_certificate(
    dial: Dial, certificates: Certificates, name: str
) -> None:
    client = {"client_pem_path": str(certificates.client), "client_key_path": str(certificates.client_key)}
    dial(**{"ca_pem_path": "", name: str(certificates.authority)}, **client)
    assert collections(MilvusHook("target")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"login": "root", "password": "s3cret"},
        {"login": "nobody", "password": "s3cret"},
        {"login": "", "password": "", "token": "root:s3cret"},
        {"login": "", "password": ""},
    ],
)
def test_a_wrong_user_or_password_is_refused_without_being_told(
    dial: Dial, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    dial(**wrong)
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(ConfigurationError, match=r"he server refuses the login: https://") as fault,
    ):
        collections(MilvusHook("target"))
    assert "those of connection target" in str(fault.value)
    assert "s3cret" not in str(fault.value) + caplog.text


UNTRUSTED = "a certificate that this worker does not trust"


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("authority", UNTRUSTED),
        ("client's authority", UNTRUSTED),
        ("server name", "a certificate that is not of 'other.test'"),
        ("no authority", UNTRUSTED),
        ("no TLS", "The server requires TLS"),
    ],
)
def test_a_server_that_can_not_prove_who_it_is_is_refused(
    dial: Dial, certificates: Certificates, others: Certificates, wrong: str, found: str
) -> None:
    client = {"client_pem_path": str(certificates.client), "client_key_path": str(certificates.client_key)}
    extra: dict[str, dict[str, Any]] = {
        "authority": {"ca_pem_path": str(others.authority)},
        "client's authority": {"ca_pem_path": str(others.authority)} | client,
        "server name": {"server_name": "other.test"},
        "no authority": {"ca_pem_path": ""},
        "no TLS": {"secure": False},
    }
    dial(**extra[wrong])
    worked, message = MilvusHook("target").test_connection()
    assert not worked
    assert found in message
    with pytest.raises(ConfigurationError):  # no retry can help
        collections(MilvusHook("target"))


def test_tls_of_a_server_without_it_is_told(connect: Connect, server: MilvusAddress) -> None:
    connect(host=server.host, port=server.port, extra={"secure": True})
    worked, message = MilvusHook("target").test_connection()
    assert not worked
    assert_in_order(message, ["TLS fails", "ound a server without TLS", "Switch TLS off"])


def test_the_right_to_create_collections_is_looked_for(dial: Dial, guarded_client: MilvusClient) -> None:
    guarded_client.create_user("reader", "Reader1234")
    try:
        dial(login="reader", password="Reader1234")
        hook = MilvusHook("target")
        assert hook.test_connection() == (True, "Milvus v2.3.5-lite, database default, user reader")
        with pytest.raises(ConfigurationError, match=r"ser 'reader' may not create collections in database 'default'"):
            reach(hook, creates=True)
    finally:
        guarded_client.drop_user("reader")
    dial()
    reach(MilvusHook("target"), creates=True)
    assert guarded_client.list_collections() == []


def test_a_missing_certificate_is_named_by_its_field(dial: Dial, tmp_path: Path) -> None:
    dial(ca_pem_path=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationError, match="pem_path of the connection is not a file"):
        collections(MilvusHook("target"))


def test_a_host_that_replaces_a_uri_with_tls_is_asked_for_tls(dial: Dial, guarded: MilvusAddress) -> None:
    dial(secure=False, uri=guarded.uri)
    assert collections(MilvusHook("target", host=guarded.host, port=guarded.port)) == []


def test_a_connection_with_only_a_login_is_used_for_the_host_given(
    connect: Connect, guarded: MilvusAddress, certificates: Certificates
) -> None:
    trust = {"secure": True, "ca_pem_path": str(certificates.authority), "server_name": SERVER_NAME}
    connect(login="root", password="Milvus", extra=trust)
    assert collections(MilvusHook("target", host=guarded.host, port=guarded.port)) == []


@pytest.mark.parametrize("reach", ["host", "uri", "uri without TLS"])
def test_a_server_that_a_param_names_hears_nothing_of_a_login_for_another(dial: Dial, reach: str) -> None:
    with socket.create_server(("localhost", 0)) as listener:
        port = listener.getsockname()[1]
        arguments: dict[str, dict[str, Any]] = {
            "host": {"host": "localhost", "port": port},
            "uri": {"uri": f"https://localhost:{port}"},
            "uri without TLS": {"uri": f"http://localhost:{port}"},
        }
        dial()
        with pytest.raises(ConfigurationError, match=r"of connection target is not for host|asks for TLS"):
            collections(MilvusHook("target", **arguments[reach]))
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_host_that_the_connection_allows_gets_its_login(
    connect: Connect, guarded: MilvusAddress, certificates: Certificates
) -> None:
    trust = {"secure": True, "ca_pem_path": str(certificates.authority), "server_name": SERVER_NAME}
    extra = trust | {"allowed_hosts": [guarded.host]}
    connect(host="nowhere.invalid", login="root", password="Milvus", extra=extra)
    assert collections(MilvusHook("target", uri=guarded.uri)) == []
