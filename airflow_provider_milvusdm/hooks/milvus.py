"""An Airflow connection becomes a client of Milvus 2.x, or of a Milvus Lite file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_milvusdm.exceptions import ConfigurationError, MilvusdmError, StalledError, TransientError
from airflow_provider_milvusdm.hooks.diagnosis import diagnose
from airflow_provider_milvusdm.hooks.milvus_address import ConnectionAddress, database_of, is_file, read_address
from airflow_provider_milvusdm.hooks.reach import reach
from airflow_provider_milvusdm.progress import progress

if TYPE_CHECKING:
    from pymilvus import MilvusClient

LITE_WAIT_SECONDS = 600
"""How long to wait until another process closes a Milvus Lite file."""
EXTRAS = ("token", "server_name")
CERTIFICATES = ("server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path")


class MilvusHook(BaseHook):
    """Connect to Milvus 2.x, or to a Milvus Lite file.

    The connection has host and port (default 19530), or an extra ``uri`` instead of them; login and password, or an
    extra ``token``; schema (the database); and for TLS the extra ``secure`` with ``ca_pem_path``, ``server_pem_path``,
    ``client_pem_path``, ``client_key_path`` and ``server_name``. An extra ``import_url`` is a folder in the server's
    own object store, or on its disk: ``s3://conn_id@bucket/folder``, ``file:///folder``.

    The login is only sent to the connection's own host, and to the hosts in its extra ``allowed_hosts`` (a list, or a
    text with commas); if the connection has no host, to the host given here. If the connection asks for TLS, nothing
    is sent without it.

    :param milvus_conn_id: the connection.
    :param host: replaces the connection's host.
    :param port: replaces the connection's port.
    :param uri: replaces the connection's uri, host and port; a path is a Milvus Lite file.
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
        """A client, not shared with others, which the caller closes; :meth:`client` does that.

        Raises ConfigurationError if the server refuses the login, if TLS fails, or for what :meth:`client_arguments`
        does; UnreachableError if the server can't be reached.
        """
        from pymilvus import MilvusClient, MilvusException

        arguments = self.client_arguments()
        _check_certificates(arguments)
        options = {} if is_file(arguments["uri"]) else {"grpc_options": _grpc_options()}
        try:
            return MilvusClient(dedicated=True, **options, **arguments)
        except MilvusException as error:
            if is_file(arguments["uri"]):
                raise
            if not _is_login_refused(error):
                raise diagnose(arguments, error) from None
            raise ConfigurationError(
                "the server refuses the login",
                where=arguments["uri"],
                expected="a user and password, or a token, that it accepts",
                found=f"those of connection {self.milvus_conn_id}",
                cure="Correct User and Password, or Token, of the connection.",
            ) from None

    @contextmanager
    def client(self, *, plan_only: bool = False) -> Iterator[MilvusClient]:
        """A client for the block. A Milvus Lite file is used by one process at a time; others wait here for it.

        To open a Milvus Lite file that doesn't exist creates it; ``plan_only`` uses an empty temporary one instead.
        Raises DeniedError if the server refuses a request in the block because it is full, NoAnswerError if it does
        not answer a request within half an hour, UnreachableError if the connection to it is lost, and StalledError if
        another process keeps the Milvus Lite file open.
        """
        uri = self.client_arguments()["uri"]
        lite = is_file(uri)
        if lite:
            check_file(uri)
        if lite and plan_only and not Path(uri).exists():
            with TemporaryDirectory(prefix="milvusdm-") as folder, _empty_lite(folder).client() as client:
                yield client
            return
        client = self._wait_for_file(uri) if lite else self.get_conn()
        try:
            with self.explained_errors():
                yield client
        finally:
            client.close()
            if lite:
                _release(uri)

    @contextmanager
    def explained_errors(self) -> Iterator[None]:
        """Raise DeniedError, NoAnswerError and UnreachableError as :meth:`client` does, for a part of its block.

        For any thread.
        """
        from airflow_provider_milvusdm.targets.milvus.server.denied import tell_denial
        from airflow_provider_milvusdm.targets.milvus.server.waiting import tell_silence

        with tell_denial(self._uri), tell_silence(self._uri):
            yield

    def client_arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``pymilvus.MilvusClient``; they hold secrets.

        Raises ConfigurationError if the address is invalid, if it is of a host that the connection does not allow, or
        if it is without TLS and the connection asks for TLS.
        """
        connection = self._connection
        secrets = _secrets(connection) if connection else {}
        own = read_address(connection, secrets) if connection else ConnectionAddress(self.milvus_conn_id)
        address = own.address(host=self.host, port=self.port, uri=self.uri)
        return {"uri": address.uri, **(secrets if address.host else {})}

    @property
    def address(self) -> str:
        """The target for people: its server and database, or its file."""
        arguments = self.client_arguments()
        uri = str(arguments["uri"])
        return uri if is_file(uri) else f"{uri}, database {database_of(arguments)}"

    @property
    def import_url(self) -> str:
        """Where the server reads the files of bulk imports; empty if the connection has no ``import_url``."""
        connection = self._connection
        return str(connection.extra_dejson.get("import_url") or "") if connection else ""

    def test_connection(self) -> tuple[bool, str]:
        """Reach the target, for the connection form's Test button; the message says what is wrong."""
        try:
            if self._is_in_use():  # a load may take hours, and the form waits for the answer
                return True, f"Milvus Lite file {self._uri}, which another process has open"
            return True, reach(self)
        except (MilvusdmError, TransientError) as error:
            # The form tests a copy of the connection, which has a random id.
            return False, str(error).replace(f"connection {self.milvus_conn_id}", "this connection")
        except Exception as error:  # noqa: BLE001 - the form shows any error
            return False, f"{type(error).__name__}: {error}"

    def _is_in_use(self) -> bool:
        """Whether the target is a Milvus Lite file that another process has open."""
        if not is_file(self._uri):
            return False
        check_file(self._uri)
        return Path(self._uri).exists() and not _is_free(self._uri)

    def _wait_for_file(self, uri: str) -> MilvusClient:
        """A client, once the file is free. Raises StalledError if it isn't free in time."""
        from pymilvus.exceptions import ConnectionConfigException

        from airflow_provider_milvusdm.targets.milvus.server.waiting import pause_after

        started, refused = time.monotonic(), False
        while (waited := time.monotonic() - started) < LITE_WAIT_SECONDS:
            if not refused or _is_free(uri):  # each refused opening writes an error to the log
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

    @cached_property
    def _uri(self) -> str:
        """Read once: to read a connection's extra is a request to Airflow, and not for several threads."""
        return str(self.client_arguments()["uri"])

    @cached_property
    def _connection(self) -> Any:
        """The Airflow connection; None if it is the default one, does not exist, and this hook was given an address."""
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection = self.get_connection(self.milvus_conn_id)
        except AirflowNotFoundException:
            if self.milvus_conn_id == self.default_conn_name and (self.host or self.uri):
                return None
            raise
        if connection.conn_type != self.conn_type:  # its login must not be sent to a Milvus
            raise ConfigurationError(
                f"connection {self.milvus_conn_id} is not of a Milvus",
                expected=f"type {self.conn_type}",
                found=f"type {connection.conn_type or 'none'}",
                cure="Set milvus_conn_id to another connection, or correct the type of this one.",
            )
        return connection


def _grpc_options() -> dict[str, str]:
    """A timeout for requests that have none of their own, for which gRPC would wait forever.

    A Milvus Lite file gets none: it builds a whole index in one request.

    Source: https://github.com/grpc/grpc/blob/master/doc/service_config.md.
    """
    from airflow_provider_milvusdm.targets.milvus.server.waiting import REQUEST_SECONDS

    return {"grpc.service_config": json.dumps({"methodConfig": [{"name": [{}], "timeout": f"{REQUEST_SECONDS}s"}]})}


def _empty_lite(folder: str) -> MilvusHook:
    return MilvusHook(uri=str(Path(folder) / "empty.db"))


def _secrets(connection: Any) -> dict[str, Any]:
    """The arguments of a client with the login, the database, and the certificates."""
    extra = connection.extra_dejson
    return {
        "user": connection.login or "",
        "password": connection.password or "",
        "db_name": connection.schema or "",
        **{name: extra[name] for name in EXTRAS if extra.get(name)},
        **_certificates(extra),
    }


def check_file(uri: str) -> None:
    """Raises ConfigurationError if there can be no Milvus Lite file of this path."""
    if find_spec("milvus_lite") is None:
        raise ConfigurationError(
            "Milvus Lite is not installed", where=uri, cure="pip install 'airflow-provider-milvusdm[lite]'."
        )
    path = Path(uri).absolute()
    if path.suffix != ".db" or not path.parent.is_dir() or path.is_file():
        raise ConfigurationError(
            "not a path for Milvus Lite 3.2 or later",
            where=path,
            expected="a name that ends in .db, in a folder that exists, and no file of an older Milvus Lite",
            cure="For a server, use http(s)://host:port.",
        )


def _certificates(extra: dict[str, Any]) -> dict[str, str]:
    """Paths of PEM files, as the arguments of pymilvus that take effect.

    pymilvus sends the client's certificate only if ``ca_pem_path`` is given too. Without a client's certificate it
    trusts only ``server_pem_path``, which may hold the certificate of an authority as well.
    """
    paths = {name: str(extra[name]) for name in ("client_pem_path", "client_key_path") if extra.get(name)}
    trusted = extra.get("ca_pem_path") or extra.get("server_pem_path")
    if trusted:
        paths["ca_pem_path" if paths else "server_pem_path"] = str(trusted)
    return paths


def _check_certificates(arguments: dict[str, Any]) -> None:
    """Raises ConfigurationError. It does not quote what is no absolute path: somebody may have pasted a key."""
    for name, path in arguments.items():
        if name in CERTIFICATES and not os.path.isfile(path):  # Path.is_file raises for a very long text
            raise ConfigurationError(
                f"{name} of the connection is not a file",
                where=path if os.path.isabs(path) else None,
                expected="the path of a PEM file",
                cure="Correct the path: the file must exist on this worker.",
            )


def _is_login_refused(error: Exception) -> bool:
    """Whether the server refused the login; other errors are of a server that is away, or of its certificate."""
    from grpc import RpcError, StatusCode

    cause = error.__cause__
    return isinstance(cause, RpcError) and cause.code() == StatusCode.UNAUTHENTICATED


def _is_free(uri: str) -> bool:
    """Whether no other process has the Milvus Lite file open; any other error is raised."""
    from milvus_lite import DataDirLockedError, MilvusLite

    try:
        MilvusLite(uri).close()
    except DataDirLockedError:
        return False
    return True


def _release(uri: str) -> None:
    """Let other processes open the file; a closed client alone keeps it locked until this process ends."""
    from milvus_lite import server_manager_instance

    server_manager_instance.release_server(uri)
