"""A real MariaDB for tests, in place of the MySQL in which a 1.x server kept its catalog."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.processes import (
    StartError,
    as_user,
    free_ports,
    log_tail,
    running,
    unprivileged_user,
    wait_for_start,
)

ADMIN = "admin"
"""A user who may do all, with the same password."""


@dataclass(frozen=True)
class MySqlAddress:
    """As keyword arguments, what mysqlclient and PyMySQL connect with."""

    host: str
    port: int
    user: str
    password: str
    database: str


@contextmanager
def mariadb(certificates: Certificates | None = None) -> Iterator[MySqlAddress]:
    """A server with an empty database, reached over TCP with a password that has to be quoted in URIs.

    With certificates it speaks TLS to those who ask for it.
    It stands in a folder of its own: root may not run it, and another user can't enter pytest's folders.
    """
    with tempfile.TemporaryDirectory(prefix="mariadb-") as name:
        folder, user, [port] = Path(name), unprivileged_user("mysql"), free_ports(1)
        password = f"p@ss/{secrets.token_hex(8)}%:"
        address = MySqlAddress("127.0.0.1", port, "milvus", password, "milvus")
        _install(folder, user, address)
        command = [
            _program("mariadbd"),
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            f"--init-file={folder / 'init.sql'}",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            *(_tls(folder, user, certificates) if certificates else ["--skip-ssl"]),
        ]
        log = folder / "mariadbd.log"
        with running(command, log=log, user=user) as process:
            wait_for_start([process], lambda: _greets(address), 60, [log])
            yield address


def _install(folder: Path, user: str | None, address: MySqlAddress) -> None:
    init = folder / "init.sql"
    init.write_text(
        f"CREATE DATABASE {address.database};\n"
        f"CREATE USER '{address.user}'@'%' IDENTIFIED BY '{address.password}';\n"
        f"GRANT ALL ON {address.database}.* TO '{address.user}'@'%';\n"
        f"CREATE USER '{ADMIN}'@'%' IDENTIFIED BY '{address.password}';\n"
        f"GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION;\n"
    )
    if user:
        shutil.chown(folder, user)
        shutil.chown(init, user)
    log = folder / "install.log"
    command = [_program("mariadb-install-db"), "--no-defaults", f"--datadir={folder / 'data'}"]
    with log.open("wb") as output:
        result = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, check=False, **as_user(user)
        )
    if result.returncode:
        raise StartError(f"mariadb-install-db ended with {result.returncode}\n{log_tail(log)}")


def _tls(folder: Path, user: str | None, certificates: Certificates) -> list[str]:
    options = []
    for name, path in {"ssl-cert": certificates.server, "ssl-key": certificates.server_key}.items():
        copy = Path(shutil.copy(path, folder))
        if user:
            shutil.chown(copy, user)
        options.append(f"--{name}={copy}")
    return options


def _program(name: str) -> str:
    """Where a program stands; Debian keeps servers in /usr/sbin, which a user's PATH often leaves out."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not path:
        raise StartError(f"{name} is missing: install Debian's package mariadb-server")
    return path


def _greets(address: MySqlAddress) -> bool:
    """Whether the server sends MySQL's greeting: by then it has run its init file."""
    try:
        with socket.create_connection((address.host, address.port), timeout=2) as connection:
            return len(connection.recv(5)) == 5
    except OSError:
        return False
