"""Airflow connections to real targets: which of them work, and the errors of the others."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from tests.support.certificates import SERVER_NAME, Certificates, write_certificates
from tests.support.collections_2x import make_collection
from tests.support.milvus_servers import MilvusAddress, milvus_server
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


def test_the_test_button_shows_the_version(connect: Connect, server: MilvusAddress) -> None:
    connect(host=server.host, port=server.port)
    assert MilvusHook("target").test_connection() == (True, "Milvus v2.3.5-lite")


def test_the_test_button_shows_the_error(connect: Connect) -> None:
    connect(host="127.0.0.1", port=NOWHERE)
    worked, message = MilvusHook("target").test_connection()
    assert not worked
    assert f"Fail connecting to server on 127.0.0.1:{NOWHERE}" in message


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


@pytest.mark.parametrize("wrong", ["authority", "client's authority", "server name", "no authority", "no TLS"])
def test_a_server_that_can_not_prove_who_it_is_is_refused(
    dial: Dial, certificates: Certificates, others: Certificates, wrong: str
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
    assert "Fail connecting to server" in message


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
