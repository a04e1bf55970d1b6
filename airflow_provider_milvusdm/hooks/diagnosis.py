"""Why a server can't be reached: its host, its port, or TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_milvusdm.exceptions import (
    ConfigurationError,
    MilvusdmError,
    TransientError,
    UnknownHostError,
    UnreachableError,
)
from airflow_provider_milvusdm.hooks.milvus_address import UNIX

DIAL_SECONDS = 10
SETTINGS_SECONDS = 2
"""How long to wait for the first bytes of a server; one that speaks HTTP/2 sends its settings at once."""
NO_SUCH_HOST = (socket.EAI_NONAME, socket.EAI_NODATA)
"""What a name server answers that knows no such host; other errors are of a name server that is away."""
WRONG_NAME = 62
"""``X509_V_ERR_HOSTNAME_MISMATCH`` of OpenSSL."""


def diagnose(arguments: Mapping[str, Any], error: BaseException) -> MilvusdmError | TransientError:
    """Why pymilvus could not connect; a mistake in the connection is a final error, any other is not.

    :param arguments: those of the client.
    :param error: what pymilvus raised.
    """
    uri = str(arguments["uri"])
    try:
        if uri.startswith(UNIX):
            return _unreachable(uri, error)
        parts = urlsplit(uri)
        with _dial(uri, str(parts.hostname), int(parts.port or 0)) as connection:
            wrong = (_tls_fault if parts.scheme == "https" else _tls_missing)(arguments, connection)
        return wrong or _unreachable(uri, error)
    except (ConfigurationError, UnreachableError) as found:
        return found
    except OSError as found:
        return _unreachable(uri, found)


def _dial(uri: str, host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), DIAL_SECONDS)
    except UnicodeError as error:  # a label of the name is empty, or too long
        raise _no_host(uri, host, error) from None
    except socket.gaierror as error:
        if error.errno in NO_SUCH_HOST:
            raise _no_host(uri, host, error.strerror) from None
        raise UnreachableError(
            f"the address of host {host!r} can't be looked up",
            where=uri,
            found=error.strerror,
            cure="Correct Host of the connection, or dest_host; or wait until the name server answers.",
        ) from None
    except ConnectionRefusedError:
        raise UnreachableError(
            f"no server listens on port {port} of host {host!r}",
            where=uri,
            cure="Correct Port of the connection, or dest_port; or start the server.",
        ) from None
    except OSError as error:
        raise UnreachableError(
            f"host {host!r} does not answer on port {port}",
            where=uri,
            found=error,
            cure="Correct Host and Port of the connection, or let this worker through the firewall.",
        ) from None


def _no_host(uri: str, host: str, found: object) -> UnknownHostError:
    return UnknownHostError(
        f"there is no host {host!r}", where=uri, found=found, cure="Correct Host of the connection, or dest_host."
    )


def _tls_missing(arguments: Mapping[str, Any], connection: socket.socket) -> ConfigurationError | None:
    """An error if the server speaks TLS, which the connection does not."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connection):
            pass
    except OSError:
        return None
    return ConfigurationError(
        "the server requires TLS",
        where=arguments["uri"],
        found="a connection without TLS",
        cure="Switch TLS on in the connection, or write https:// in its URI.",
    )


def _tls_fault(arguments: Mapping[str, Any], connection: socket.socket) -> ConfigurationError | None:
    """An error if TLS fails; None if it doesn't."""
    host = str(arguments.get("server_name") or urlsplit(str(arguments["uri"])).hostname)
    try:
        with _client_context(arguments).wrap_socket(connection, server_hostname=host) as secure:
            secure.settimeout(SETTINGS_SECONDS)
            secure.recv(1)  # a server of TLS 1.3 refuses the client's certificate after the handshake
    except TimeoutError:
        return None
    except ssl.SSLError as error:
        found, cure = _explained(error, host)
        return ConfigurationError("TLS fails", where=arguments["uri"], found=found, cure=cure)
    return None


def _client_context(arguments: Mapping[str, Any]) -> ssl.SSLContext:
    trusted = arguments.get("ca_pem_path") or arguments.get("server_pem_path")
    context = ssl.create_default_context(cafile=str(trusted) if trusted else None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on, but not gRPC's
    context.set_alpn_protocols(["h2"])
    if arguments.get("client_pem_path") and arguments.get("client_key_path"):
        context.load_cert_chain(str(arguments["client_pem_path"]), str(arguments["client_key_path"]))
    return context


def _explained(error: ssl.SSLError, host: str) -> tuple[str, str]:
    """What is wrong, and the cure."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == WRONG_NAME:
            return (
                f"a certificate that is not of {host!r}",
                "Set TLS server name of the connection to a name in the server's certificate.",
            )
        return (
            f"a certificate that this worker does not trust ({error.verify_message})",
            "Set TLS certificate authority of the connection to the PEM file of the authority that signed it.",
        )
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "a server without TLS", "Switch TLS off in the connection, or write http:// in its URI."
    if "CERTIFICATE_REQUIRED" in str(error.reason) or "HANDSHAKE_FAILURE" in str(error.reason):
        return (
            "a server that asks for the certificate of its client",
            "Set TLS client certificate and TLS client key of the connection.",
        )
    return str(error.reason or error), "Compare the TLS fields of the connection with the server's certificate."


def _unreachable(uri: str, error: BaseException) -> UnreachableError:
    return UnreachableError(
        "the server can't be reached",
        where=uri,
        expected="a Milvus 2.x",
        found=" ".join(str(_cause(error)).split()),
        cure="Correct Host and Port of the connection, or wait until the server has started.",
    )


def _cause(error: BaseException) -> object:
    """The details of a gRPC error behind the error of pymilvus; they say more."""
    details = getattr(error.__cause__, "details", None)
    return (details() if callable(details) else None) or error
