"""Where a Milvus is: what a connection says, what may take its place, and where its login may go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_milvusdm.exceptions import ConfigurationError

PORTS = {"http": 19530, "tcp": 19530, "https": 443}
"""Those that pymilvus takes where a uri names none."""
HOST = re.compile(r"[A-Za-z0-9._-]+")
DATABASE = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)?")
UNIX = "unix:"
SECRETS = ("user", "password", "token", "client_key_path")
"""Arguments of a client by which a server knows who it is."""


@dataclass(frozen=True)
class Address:
    """Of a server, spelled so that pymilvus can take it for no other; or the path of a Milvus Lite file."""

    uri: str
    host: str = ""
    """In lower case and without a dot at its end; the uri itself of a Unix socket; empty for a file."""
    tls: bool = False


@dataclass(frozen=True)
class Place:
    """What a connection says of where it leads."""

    conn_id: str
    host: str = ""
    port: int = 0
    uri: str = ""
    secure: bool = False
    has_login: bool = False
    allowed_hosts: frozenset[str] = frozenset()

    def address(self, *, host: str | None, port: int | None, uri: str | None) -> Address:
        """The connection's own address, or the one given: where the login must not go ConfigurationError."""
        found = self._read(uri) if uri else self._by_host(host, port) if host else self._own(port)
        if found.host:
            self._refuse_without_tls(found)
            self._refuse_other_host(found)
        return found

    def _own(self, port: int | None) -> Address:
        if not self.uri:
            return self._by_host(self.host or "localhost", port)
        own = self._read(self.uri)
        if port:
            raise ConfigurationError(
                f"a port alone can't take the place of the uri of connection {self.conn_id}",
                expected="a host too, or neither",
                found=f"port {port}, uri {own.uri}",
                cure="Set dest_host beside dest_port, or correct the connection.",
            )
        return own

    def _by_host(self, host: str, port: int | None) -> Address:
        found = self._read(f"{'https' if self._wants_tls else 'http'}://{host}:{port or self.port or PORTS['http']}")
        if found.host != _normal(host):
            raise self._unfit("a host's name alone, the port beside it")
        return found

    def _read(self, uri: str) -> Address:
        """Take a uri apart as pymilvus does. What is wrong with it is told without it, for it may hold a secret."""
        if "@" in uri:
            raise ConfigurationError(
                f"the address of connection {self.conn_id}, or the one given in its place, holds a login",
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
            raise self._unfit("http(s)://host:port, or the path of a Milvus Lite file") from None

    def _of_server(self, parts: SplitResult, port: int) -> Address:
        host, path = parts.hostname or "", parts.path.rstrip("/")
        if ":" in host:
            raise self._unfit("a host's name or IPv4 address: pymilvus takes an IPv6 address for another")
        if not HOST.fullmatch(host) or not DATABASE.fullmatch(path) or parts.query or parts.fragment:
            raise ValueError
        return Address(f"{parts.scheme}://{host}:{port}{path}", _normal(host), tls=parts.scheme == "https")

    def _unfit(self, expected: str) -> ConfigurationError:
        return ConfigurationError(
            f"the address of connection {self.conn_id}, or the one given in its place, is none",
            expected=expected,
            cure="Correct the connection, or dest_host, dest_port and dest_uri.",
        )

    @property
    def _wants_tls(self) -> bool:
        return self.secure or bool(self.uri and self._read(self.uri).tls)

    def _refuse_without_tls(self, found: Address) -> None:
        if self._wants_tls and not found.tls:
            raise ConfigurationError(
                f"connection {self.conn_id} asks for TLS, and its address, or the one given in its place, goes without",
                expected="https://",
                found=found.uri,
                cure="Correct dest_uri, or the connection's uri.",
            )

    def _refuse_other_host(self, given: Address) -> None:
        own = {_normal(self.host), self._read(self.uri).host if self.uri else ""} - {""}
        names_none = not (self.host or self.uri or self.allowed_hosts)
        if self.has_login and not names_none and given.host not in own | self.allowed_hosts:
            raise ConfigurationError(
                f"the login of connection {self.conn_id} is not for host {given.host}",
                expected=", ".join(sorted(own | self.allowed_hosts)) or "no server at all",
                found=given.uri,
                cure="Name a connection of that host (milvus_conn_id), or list the host in this connection's extra: "
                f'"allowed_hosts": ["{given.host}"].',
            )


def is_file(uri: str) -> bool:
    """Whether it is the path of a Milvus Lite file."""
    return "://" not in uri and not uri.startswith(UNIX)


def read_place(connection: Any, arguments: Mapping[str, Any]) -> Place:
    """What an Airflow connection says; ``arguments``: what a client gets of it."""
    extra = connection.extra_dejson
    return Place(
        connection.conn_id,
        host=connection.host or "",
        port=connection.port or 0,
        uri=str(extra.get("uri") or ""),
        secure=_is_true(extra.get("secure")),
        has_login=any(arguments.get(name) for name in SECRETS),
        allowed_hosts=frozenset(_allowed_hosts(connection.conn_id, extra.get("allowed_hosts"))),
    )


def _allowed_hosts(conn_id: str, value: Any) -> list[str]:
    """A list, or a text with commas as the connection's form has it."""
    hosts = [str(host).strip() for host in (value.split(",") if isinstance(value, str) else value or ())]
    wrong = [host for host in hosts if host and not HOST.fullmatch(host)]
    if wrong:
        raise ConfigurationError(
            f"allowed_hosts of connection {conn_id} are no names of hosts",
            expected="names alone: no port, no scheme, no pattern",
            found=", ".join(wrong),
            cure="Correct the connection.",
        )
    return [_normal(host) for host in hosts if host]


def _normal(host: str) -> str:
    return host.lower().removesuffix(".")


def _is_true(value: Any) -> bool:
    """A switch of a connection's extra: text where the connection is written as a URI."""
    return value is True or str(value).strip().lower() in ("true", "1", "yes", "on")
