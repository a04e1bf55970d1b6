"""A real PostgreSQL for tests, the metadata database of an Airflow with many workers."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2

from tests.support.processes import (
    Process,
    StartError,
    as_user,
    free_ports,
    log_tail,
    running,
    unprivileged_user,
    wait_for_start,
)

PROGRAMS = Path("/usr/lib/postgresql")
USER = "airflow"


class PostgresqlServer:
    """A server with its data below `folder`, at the same address when it is started again."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder, self.user = folder, unprivileged_user("postgres")
        [port] = free_ports(1)
        self._password = secrets.token_hex(16)
        self.url = f"postgresql://{USER}:{self._password}@{host}:{port}/postgres"
        self._install(host)
        options = {"listen_addresses": host, "port": port, "unix_socket_directories": "", "fsync": "off"}
        self.command: list[str | Path] = [_program("postgres"), "-D", folder / "data"]
        self.command += [f"--{name}={value}" for name, value in options.items()]
        self.run = ExitStack()
        self.process: Process
        self.start()

    def start(self) -> None:
        log = self.folder / "postgresql.log"
        with ExitStack() as run:
            self.process = run.enter_context(running(self.command, log=log, user=self.user))
            wait_for_start([self.process], self._answers, 120, [log])
            self.run = run.pop_all()

    def restart(self) -> None:
        """As an update of its package does: connections are closed, and transactions rolled back."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.close()
        self.start()

    def close(self) -> None:
        self.run.close()

    def _install(self, host: str) -> None:
        password = self.folder / "password"
        password.write_text(self._password)
        if self.user:
            shutil.chown(self.folder, self.user)
            shutil.chown(password, self.user)
        log, data = self.folder / "initdb.log", self.folder / "data"
        command = [_program("initdb"), "-D", data, "-U", USER, f"--pwfile={password}", "--auth=scram-sha-256"]
        with log.open("wb") as output:
            result = subprocess.run(
                [*command, "--encoding=UTF8", "--locale=C", "--no-sync"],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                check=False,
                **as_user(self.user),
            )
        if result.returncode:
            raise StartError(f"initdb ended with {result.returncode}\n{log_tail(log)}")
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {host}/24 scram-sha-256\n")

    def _answers(self) -> bool:
        try:
            with closing(psycopg2.connect(self.url)):
                return True
        except psycopg2.OperationalError:
            return False


@contextmanager
def running_postgresql(host: str) -> Iterator[PostgresqlServer]:
    """A server that accepts connections from the /24 network of `host`.

    It is in a folder of its own: root may not run it, and another user can't enter pytest's folders.
    """
    with (
        tempfile.TemporaryDirectory(prefix="postgresql-") as name,
        closing(PostgresqlServer(Path(name), host)) as server,
    ):
        yield server


def _program(name: str) -> Path:
    found = sorted(PROGRAMS.glob(f"*/bin/{name}"))
    if not found:
        raise StartError(f"{PROGRAMS}/*/bin/{name} is missing: install Debian's package postgresql")
    return found[-1]
