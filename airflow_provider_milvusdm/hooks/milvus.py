"""An Airflow connection becomes a client of Milvus 2.x."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_milvusdm.exceptions import ConfigurationError, StalledError
from airflow_provider_milvusdm.hooks.milvus_address import Place, is_file, read_place
from airflow_provider_milvusdm.progress import progress

if TYPE_CHECKING:
    from pymilvus import MilvusClient

LITE_WAIT_SECONDS = 600
TEST_SECONDS = 10
EXTRAS = ("token", "server_name")
CERTIFICATES = ("server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path")


class MilvusHook(BaseHook):
    """Connect to Milvus 2.x, or to a Milvus Lite file.

    Of the connection: host and port (19530), login and password or an extra ``token``, schema (the database),
    extras ``secure`` (TLS) with ``ca_pem_path``, ``server_pem_path``, ``client_pem_path``, ``client_key_path``
    and ``server_name``, or an extra ``uri`` instead of host and port. An extra ``import_url`` names a place in the
    server's own object store, or on its disk: ``s3://conn_id@bucket/folder``, ``file:///folder``.

    Its login goes to its own host, where it names none to the one given, else to those in an extra ``allowed_hosts``
    (a list, or a text with commas); and where it asks for TLS, nothing goes without.

    :param milvus_conn_id: the connection.
    :param host: takes the place of the connection's host.
    :param port: takes the place of the connection's port.
    :param uri: takes the place of the connection's uri, host and port; a path is a Milvus Lite file.
    """

    conn_name_attr = "milvus_conn_id"
    default_conn_name = "milvus_default"
    conn_type = "milvus"
    hook_name = "Milvus"

    def __init__(
        self,
        milvus_conn_id: str = default_conn_name,
        *,
        host: str | None = None,
        port: int | None = None,
        uri: str | None = None,
    ) -> None:
        super().__init__()
        self.milvus_conn_id = milvus_conn_id
        self.host, self.port, self.uri = host, port, uri

    def get_conn(self) -> MilvusClient:
        """A client with a connection of its own; :meth:`client` closes it too."""
        from pymilvus import MilvusClient, MilvusException

        arguments = self.client_arguments()
        _check_certificates(arguments)
        limits = {} if is_file(arguments["uri"]) else {"grpc_options": _deadline()}
        try:
            return MilvusClient(dedicated=True, **limits, **arguments)
        except MilvusException as error:
            if not _is_login_refused(error):
                raise
            raise ConfigurationError(
                "the server refuses the login",
                where=arguments["uri"],
                expected="a user and password, or a token, that it knows",
                found=f"those of connection {self.milvus_conn_id}",
                cure="Correct the connection.",
            ) from None

    @contextmanager
    def client(self, *, plan_only: bool = False) -> Iterator[MilvusClient]:
        """A client for the block. One process at a time has a Milvus Lite file: others wait here.

        Opening a Milvus Lite file that isn't there makes it: ``plan_only`` looks at an empty one elsewhere instead.
        What a server refuses in the block because it is full is raised as DeniedError, and a request that it does not
        answer in half an hour as NoAnswerError.
        """
        from airflow_provider_milvusdm.targets.milvus.server.denied import tell_denial
        from airflow_provider_milvusdm.targets.milvus.server.waiting import tell_silence

        uri = self.client_arguments()["uri"]
        lite = is_file(uri)
        if lite:
            _check_file(uri)
        if lite and plan_only and not Path(uri).exists():
            with TemporaryDirectory(prefix="milvusdm-") as folder, _empty_lite(folder).client() as client:
                yield client
            return
        client = self._wait_for_file(uri) if lite else self.get_conn()
        try:
            with tell_denial(uri), tell_silence(uri):
                yield client
        finally:
            client.close()
            if lite:
                _release(uri)

    def client_arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``pymilvus.MilvusClient``; they hold secrets.

        Raises ConfigurationError where they would go to another host than the connection allows, or without the TLS
        that it asks for.
        """
        connection = self._connection()
        secrets = _secrets(connection) if connection else {}
        place = read_place(connection, secrets) if connection else Place(self.milvus_conn_id)
        address = place.address(host=self.host, port=self.port, uri=self.uri)
        return {"uri": address.uri, **(secrets if address.host else {})}

    @property
    def import_url(self) -> str:
        """Where the server reads the files of bulk imports; empty where the connection doesn't say."""
        connection = self._connection()
        return str(connection.extra_dejson.get("import_url") or "") if connection else ""

    def test_connection(self) -> tuple[bool, str]:
        """Ask the server for its version, for the connection form's Test button."""
        try:
            with self.client(plan_only=True) as client:
                version = client.get_server_version(timeout=TEST_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, the form shows it
            return False, f"{type(error).__name__}: {error}"
        return True, f"Milvus {version}"

    def _wait_for_file(self, uri: str) -> MilvusClient:
        """A client, once the file is free; StalledError where it is not to be had."""
        from pymilvus.exceptions import ConnectionConfigException

        from airflow_provider_milvusdm.targets.milvus.server.waiting import pause_after

        began, refused = time.monotonic(), False
        while (waited := time.monotonic() - began) < LITE_WAIT_SECONDS:
            if not refused or _is_free(uri):  # Milvus Lite complains loudly in the log, each time
                with suppress(ConnectionConfigException):
                    return self.get_conn()
            refused = True
            progress.info("waiting for Milvus Lite file %s: another process has it open", uri)
            time.sleep(pause_after(waited, 1))
        raise StalledError(
            f"Milvus Lite file {uri} could not be opened for {LITE_WAIT_SECONDS} s",
            expected="a file that no other process has open",
            cure="End that process (a notebook, for example). A retry waits again.",
        )

    def _connection(self) -> Any:
        """The connection; None where only the default is missing and this hook was told where to go."""
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection = self.get_connection(self.milvus_conn_id)
        except AirflowNotFoundException:
            if self.milvus_conn_id == self.default_conn_name and (self.host or self.uri):
                return None
            raise
        if connection.conn_type != self.conn_type:  # its login is for something else
            raise ConfigurationError(
                f"connection {self.milvus_conn_id} leads to no Milvus",
                expected=f"type {self.conn_type}",
                found=f"type {connection.conn_type or 'none'}",
                cure="Name another in milvus_conn_id, or correct its type.",
            )
        return connection


def _deadline() -> dict[str, str]:
    """Of requests that have none of their own: gRPC waits for ever. A Milvus Lite file builds an index in one request.

    Source: https://github.com/grpc/grpc/blob/master/doc/service_config.md.
    """
    from airflow_provider_milvusdm.targets.milvus.server.waiting import REQUEST_SECONDS

    return {"grpc.service_config": json.dumps({"methodConfig": [{"name": [{}], "timeout": f"{REQUEST_SECONDS}s"}]})}


def _empty_lite(folder: str) -> MilvusHook:
    return MilvusHook(uri=str(Path(folder) / "empty.db"))


def _secrets(connection: Any) -> dict[str, Any]:
    """Of a client's arguments, those that say who it is, in which database, and whom it trusts."""
    extra = connection.extra_dejson
    return {
        "user": connection.login or "",
        "password": connection.password or "",
        "db_name": connection.schema or "",
        **{name: extra[name] for name in EXTRAS if extra.get(name)},
        **_certificates(extra),
    }


def _check_file(uri: str) -> None:
    if find_spec("milvus_lite") is None:
        raise ConfigurationError(
            "Milvus Lite is not installed", where=uri, cure="pip install 'airflow-provider-milvusdm[lite]'."
        )
    path = Path(uri).absolute()
    if path.suffix != ".db" or not path.parent.is_dir() or path.is_file():
        raise ConfigurationError(
            "not a place for Milvus Lite 3.2 or later",
            where=path,
            expected="a name that ends in .db, in a folder that exists, and no file of an older Milvus Lite",
            cure="Or give http(s)://host:port for a server.",
        )


def _certificates(extra: dict[str, Any]) -> dict[str, str]:
    """Paths of PEM files under the names by which pymilvus uses them.

    It sends a client's certificate only where ``ca_pem_path`` is given too, and without one trusts
    ``server_pem_path`` alone, which may hold an authority's certificate as well.
    """
    paths = {name: str(extra[name]) for name in ("client_pem_path", "client_key_path") if extra.get(name)}
    trusted = extra.get("ca_pem_path") or extra.get("server_pem_path")
    if trusted:
        paths["ca_pem_path" if paths else "server_pem_path"] = str(trusted)
    return paths


def _check_certificates(arguments: dict[str, Any]) -> None:
    for name, path in arguments.items():
        if name in CERTIFICATES and not Path(path).is_file():
            raise ConfigurationError(
                f"{name} of the connection names no file", where=path, cure="Correct it, as this worker sees it."
            )


def _is_login_refused(error: Exception) -> bool:
    """Whether a connection failed for its login; a server that is away, or not of this certificate, looks otherwise."""
    from grpc import RpcError, StatusCode

    cause = error.__cause__
    return isinstance(cause, RpcError) and cause.code() == StatusCode.UNAUTHENTICATED


def _is_free(uri: str) -> bool:
    """Whether no other process has the Milvus Lite file open; what else may be wrong with it is raised."""
    from milvus_lite import DataDirLockedError, MilvusLite

    try:
        MilvusLite(uri).close()
    except DataDirLockedError:
        return False
    return True


def _release(uri: str) -> None:
    """Let other processes open the file: closing the client leaves it locked until this one ends."""
    from milvus_lite import server_manager_instance

    server_manager_instance.release_server(uri)
