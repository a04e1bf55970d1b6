"""Why a server can't be reached, as sockets tell it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from airflow_provider_milvusdm.exceptions import ConfigurationError, UnknownHostError, UnreachableError
from airflow_provider_milvusdm.hooks.diagnosis import diagnose
from tests.support.certificates import SERVER_NAME, Certificates, write_certificates
from tests.support.reading import assert_in_order

ERROR = RuntimeError("no connection")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def tls_server(certificates: Certificates, *, asks_for_client: bool = False) -> Iterator[int]:
    """A server that makes TLS connections and ends them; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(certificates.server), str(certificates.server_key))
    if asks_for_client:
        context.load_verify_locations(str(certificates.authority))
        context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=_serve, args=(listener, context))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Until the listener is shut down."""
    with suppress(OSError):
        while True:
            connection = listener.accept()[0]
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(b"settings")


def arguments(certificates: Certificates, port: int, **others: Any) -> dict[str, Any]:
    trust = {"server_pem_path": str(certificates.authority), "server_name": SERVER_NAME}
    return {"uri": f"https://127.0.0.1:{port}", **trust, **others}


def test_a_server_that_asks_for_the_certificate_of_its_client(certificates: Certificates) -> None:
    with tls_server(certificates, asks_for_client=True) as port:
        found = diagnose(arguments(certificates, port), ERROR)
        assert isinstance(found, ConfigurationError)
        assert_in_order(
            str(found), ["TLS fails", "asks for the certificate of its client", "Set TLS client certificate"]
        )
        client = {"client_pem_path": str(certificates.client), "client_key_path": str(certificates.client_key)}
        assert isinstance(diagnose(arguments(certificates, port, **client), ERROR), UnreachableError)


def test_where_tls_works_the_error_is_that_of_the_client(certificates: Certificates) -> None:
    with tls_server(certificates) as port:
        found = diagnose(arguments(certificates, port), ERROR)
    assert isinstance(found, UnreachableError)
    assert "ound no connection" in str(found)


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        ({"server_name": "other.test"}, ["not of 'other.test'", "Set TLS server name"]),
        ({"server_pem_path": ""}, ["does not trust", "Set TLS certificate authority"]),
        ({"uri": "http"}, ["The server requires TLS", "Switch TLS on"]),
    ],
)
def test_what_is_wrong_with_tls_is_told(certificates: Certificates, wrong: dict[str, str], parts: list[str]) -> None:
    with tls_server(certificates) as port:
        changed = {"uri": f"http://127.0.0.1:{port}"} if "uri" in wrong else wrong
        found = diagnose(arguments(certificates, port, **changed), ERROR)
    assert isinstance(found, ConfigurationError)
    assert_in_order(str(found), parts)


def test_a_host_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    found = diagnose({"uri": "http://milvus:19530"}, ERROR)
    assert isinstance(found, UnreachableError)
    assert_in_order(str(found), ["Host 'milvus' does not answer on port 19530", "timed out", "firewall"])


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), UnknownHostError, "There is no host 'mil..vus'"),
        (socket.gaierror(socket.EAI_AGAIN, "no answer"), UnreachableError, "can't be looked up"),
        (None, UnknownHostError, "There is no host 'mil..vus'"),
    ],
)
def test_a_host_that_does_not_exist_is_told_from_a_name_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, kind: type[Exception], text: str
) -> None:
    """Without an error, Python itself refuses the name, because a part of it is empty."""

    def look_up(*_: Any) -> None:
        if error:
            raise error
        "mil..vus".encode("idna")

    monkeypatch.setattr(socket, "create_connection", look_up)
    found = diagnose({"uri": "http://mil..vus:19530"}, ERROR)
    assert type(found) is kind
    assert text in str(found)


def test_a_damaged_file_of_certificates_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = diagnose({"uri": f"https://127.0.0.1:{port}", "server_pem_path": str(tmp_path / "ca.pem")}, ERROR)
    assert isinstance(found, ConfigurationError)
    assert_in_order(str(found), ["TLS fails", "Compare the TLS fields"])
