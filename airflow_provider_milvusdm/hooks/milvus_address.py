"""The address of a Milvus: by the connection or given instead, and checked against where the login may be sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_milvusdm.exceptions import ConfigurationError

PORTS = {"http": 19530, "tcp": 19530, "https": 443}
"""Default ports of pymilvus, for a uri without one."""
HOST = re.compile(r"[A-Za-z0-9._-]+")
TYPED_ADDRESS = re.compile(
    r"(?:(?P<scheme>http|https|tcp)://)?(?P<host>[A-Za-z0-9._-]+)(?::(?P<port>[1-9][0-9]{0,4}))?/?"
)
"""What people type into the field Host: ``host:19530``, ``http://host:19530``."""
DATABASE = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)?")
UNIX = "unix:"
SECRETS = ("user", "password", "token", "client_key_path")
"""Arguments of a client that prove its identity to a server."""


@dataclass(frozen=True)
class Address:
    """The uri of a server, in a form that pymilvus can't read as another address; or the path of a Milvus Lite file."""

    uri: str
    host: str = ""
    """In lower case and without a dot at the end; for a Unix socket the uri; empty for a file."""
    tls: bool = False


@dataclass(frozen=True)
class ConnectionAddress:
    """What a connection says about its address."""

    conn_id: str
    host: str = ""
    port: int = 0
    uri: str = ""
    secure: bool = False
    has_login: bool = False
    allowed_hosts: frozenset[str] = frozenset()

    def address(self, *, host: str | None, port: int | None, uri: str | None) -> Address:
        """The connection's own address, or the one given instead.

        Raises ConfigurationError if it is invalid, or if the login must not be sent there.
        """
        address = self._read(uri) if uri else self._by_host(host, port) if host else self._own(port)
        if address.host:
            self._refuse_without_tls(address)
            self._refuse_other_host(address)
        return address

    def _own(self, port: int | None) -> Address:
        if not self.uri:
            return self._by_host(self.host or "localhost", port)
        own = self._read(self.uri)
        if port:
            raise ConfigurationError(
                f"a port alone can't replace the uri of connection {self.conn_id}",
                expected="host and port, or neither",
                found=f"port {port}, uri {own.uri}",
                cure="Set dest_host and dest_port, or correct the connection.",
            )
        return own

    def _by_host(self, host: str, port: int | None) -> Address:
        if not HOST.fullmatch(host) and "@" not in host:
            raise self._invalid("only the name of a host, or its IPv4 address; the port is separate")
        scheme = "https" if self._wants_tls else "http"
        return self._read(f"{scheme}://{host}:{port or self.port or PORTS['http']}")

    def _read(self, uri: str) -> Address:
        """Parse a uri as pymilvus does. Error messages don't quote it, because it may hold a secret."""
        if "@" in uri:
            raise ConfigurationError(
                f"the address of connection {self.conn_id}, or the one given instead, holds a login",
                expected="an address without @",
                cure="Put user and password into the connection's Login and Password.",
            )
        if is_file(uri):
            return Address(uri)
        if uri.startswith(UNIX):
            return Address(uri, host=uri)
        try:
            parts = urlsplit(uri)
            return self._of_server(parts, parts.port or PORTS[parts.scheme])
        except (ValueError, KeyError):
            raise self._invalid("http(s)://host:port, or the path of a Milvus Lite file") from None

    def _of_server(self, parts: SplitResult, port: int) -> Address:
        host, path = parts.hostname or "", parts.path.rstrip("/")
        if ":" in host:
            raise self._invalid(
                "a host's name or IPv4 address, because pymilvus does not read IPv6 addresses correctly"
            )
        if not HOST.fullmatch(host) or not DATABASE.fullmatch(path) or parts.query or parts.fragment:
            raise ValueError
        return Address(f"{parts.scheme}://{host}:{port}{path}", _normal(host), tls=parts.scheme == "https")

    def _invalid(self, expected: str) -> ConfigurationError:
        return ConfigurationError(
            f"the address of connection {self.conn_id}, or the one given instead, is invalid",
            expected=expected,
            cure="Correct the connection, or dest_host, dest_port and dest_uri.",
        )

    @property
    def _wants_tls(self) -> bool:
        return self.secure or bool(self.uri and self._read(self.uri).tls)

    def _refuse_without_tls(self, address: Address) -> None:
        if self._wants_tls and not address.tls:
            raise ConfigurationError(
                f"connection {self.conn_id} asks for TLS, but its address, or the one given instead, is without TLS",
                expected="https://",
                found=address.uri,
                cure="Correct dest_uri, or the connection's uri.",
            )

    def _refuse_other_host(self, address: Address) -> None:
        own = {_normal(self.host), self._read(self.uri).host if self.uri else ""} - {""}
        names_hosts = bool(self.host or self.uri or self.allowed_hosts)
        if self.has_login and names_hosts and address.host not in own | self.allowed_hosts:
            raise ConfigurationError(
                f"the login of connection {self.conn_id} is not for host {address.host}",
                expected=", ".join(sorted(own | self.allowed_hosts)) or "no server",
                found=address.uri,
                cure="Set milvus_conn_id to a connection of that host, or list the host in this connection's extra: "
                f'"allowed_hosts": ["{address.host}"].',
            )


def database_of(arguments: Mapping[str, Any]) -> str:
    """The database that a client with these arguments uses."""
    return str(arguments.get("db_name") or urlsplit(str(arguments["uri"])).path.strip("/") or "default")


def is_file(uri: str) -> bool:
    """Whether a uri is the path of a Milvus Lite file."""
    return "://" not in uri and not uri.startswith(UNIX)


def read_address(connection: Any, secrets: Mapping[str, Any]) -> ConnectionAddress:
    """What an Airflow connection says about its address; ``secrets``: the arguments that a client gets of it."""
    extra = connection.extra_dejson
    host, port, secure = _host_and_port(connection, _read_secure(connection.conn_id, extra.get("secure")))
    return ConnectionAddress(
        connection.conn_id,
        host=host,
        port=port,
        uri=str(extra.get("uri") or ""),
        secure=secure,
        has_login=any(secrets.get(name) for name in SECRETS),
        allowed_hosts=frozenset(_allowed_hosts(connection.conn_id, extra.get("allowed_hosts"))),
    )


def _host_and_port(connection: Any, secure: bool) -> tuple[str, int, bool]:
    """Host, port, and whether TLS is asked for; an address in the field Host is taken apart.

    Raises ConfigurationError if it contradicts the fields Port and TLS.
    """
    host, port = connection.host or "", connection.port or 0
    typed = TYPED_ADDRESS.fullmatch(host)
    if typed is None or not (typed["scheme"] or typed["port"]):
        return host, port, secure
    typed_port = int(typed["port"] or 0) or (0 if port else PORTS[typed["scheme"]])
    contradicts = [f"Port {port}"] if port and typed_port not in (0, port) else []
    contradicts += ["TLS"] if secure and typed["scheme"] in ("http", "tcp") else []
    if contradicts:
        raise ConfigurationError(
            f"Host of connection {connection.conn_id} contradicts {' and '.join(contradicts)}",
            expected="the name of a host",
            found=host,
            cure="Leave only the name in Host.",
        )
    return typed["host"], typed_port or port, secure or typed["scheme"] == "https"


def _allowed_hosts(conn_id: str, value: Any) -> list[str]:
    """The value is a list, or a text with commas from the connection's form.

    Raises ConfigurationError; its message quotes nothing with an @, which may hold a login.
    """
    hosts = [str(host).strip() for host in (value.split(",") if isinstance(value, str) else value or ())]
    wrong = [host for host in hosts if host and not HOST.fullmatch(host)]
    if wrong:
        raise ConfigurationError(
            f"allowed_hosts of connection {conn_id} are not names of hosts",
            expected="names without port, scheme or pattern",
            found=", ".join("one with @" if "@" in host else host for host in wrong),
            cure="Correct the connection.",
        )
    return [_normal(host) for host in hosts if host]


def _normal(host: str) -> str:
    return host.lower().removesuffix(".")


def _read_secure(conn_id: str, value: Any) -> bool:
    """The value of the switch; it is text if the connection was written as a URI.

    Raises ConfigurationError: a word that is not known must not mean a connection without TLS.
    """
    word = str(value or "").strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("", "false", "0", "no", "off"):
        return False
    raise ConfigurationError(
        f"secure of connection {conn_id} is neither true nor false",
        expected="true, for TLS, or false",
        cure="Correct the connection.",
    )
