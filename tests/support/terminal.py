"""The command `milvusdm` as a user runs it, and what it leaves on the terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

import yaml

from tests.support.warm_python import run_warm, start_warm

ENTRY_POINT = "airflow_provider_milvusdm.cli.command:main"
MILVUSDM = (
    sys.executable,
    "-c",
    "import sys; from airflow_provider_milvusdm.cli.command import main; sys.exit(main())",
)
"""The console script's own two lines; it isn't installed in every environment that the tests run in."""
TAKE_SCREEN = "import fcntl, os, sys, termios as t; fcntl.ioctl(0, t.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""The kernel then tells the session when its screen is closed."""


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str

    @property
    def rows(self) -> list[list[str]]:
        """The rows of the report's table."""
        return [
            [cell.strip() for cell in line.strip("│").split("│")] for line in self.stdout.splitlines() if "│" in line
        ]

    @property
    def statuses(self) -> dict[str, str]:
        """Status by collection."""
        return {row[0]: row[-1] for row in self.rows if row[0]}


@dataclass(frozen=True)
class Started:
    """A command under way, with the part of `subprocess.Popen` that tests use."""

    process: BaseProcess
    stdout: TextIO
    stderr: Path

    @property
    def pid(self) -> int:
        """Of the process and of its group."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What else it prints until its end; it is killed where that takes longer."""
        killer = threading.Timer(timeout, self.process.kill)
        killer.start()
        rest = self.stdout.read()
        self.process.join()
        killer.cancel()
        return rest, self.stderr.read_text()


class Terminal:
    """A folder to run commands in, on a machine that has an Airflow of its own with quite other settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.own_airflow = folder / "own-airflow"

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {
            "TMPDIR": str(self.temporary),
            "AIRFLOW_HOME": str(self.own_airflow),
            "AIRFLOW__CORE__EXECUTOR": "no.such.Executor",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.own_airflow / "dags"),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": "[]",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.own_airflow}/own.db",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA": "own",
        }

    @property
    def private_homes(self) -> list[Path]:
        """Airflow homes that a run left behind."""
        return list(self.temporary.glob("milvusdm-airflow-*"))

    def write_yaml(self, **params: Any) -> Path:
        """A YAML file of one M2M job."""
        path = self.folder / "M2M.yaml"
        path.write_text(yaml.safe_dump({"M2M": params}, allow_unicode=True, sort_keys=False))
        return path

    def migrate(self, **params: Any) -> Ended:
        """Run `milvusdm --yaml` with these params."""
        return self.milvusdm("--yaml", self.write_yaml(**params))

    def milvusdm(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Ended:
        """Run it to its end."""
        env = self.env | dict(env or {})
        ended = run_warm(ENTRY_POINT, [*map(str, arguments)], env=env, cwd=self.folder, timeout=300)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def milvusdm_in_new_interpreter(self, *arguments: str | Path) -> Ended:
        """The same from the start on, imports included."""
        command = [*MILVUSDM, *map(str, arguments)]
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ended(result.returncode, result.stdout, result.stderr)

    def on_screen(self, *arguments: str | Path) -> str:
        """All that is written to a screen, where it isn't a file or a pipe that it runs into."""
        ours, its = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as screen:
            command = [*MILVUSDM, *map(str, arguments)]
            process = subprocess.Popen(command, cwd=self.folder, env=self.env, stdin=its, stdout=its, stderr=its)
            os.close(its)
            with process:
                return b"".join(_read_screen(screen)).decode()

    @contextmanager
    def on_own_screen(self, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], FileIO]]:
        """Run it as the leader of a session on a screen of its own, as a terminal's window does."""
        ours, its = pty.openpty()
        command = [sys.executable, "-c", TAKE_SCREEN, *MILVUSDM, *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdin=its, stdout=its, stderr=its, start_new_session=True
        )
        os.close(its)
        with process, os.fdopen(ours, "rb", buffering=0) as screen:
            try:
                yield process, screen
            finally:
                process.kill()

    @contextmanager
    def started(self, *arguments: str | Path) -> Iterator[Started]:
        """Run it in a session of its own, with a pipe for what it prints."""
        with tempfile.TemporaryDirectory(prefix="milvusdm-started-") as folder:
            stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
            os.mkfifo(stdout)
            process = start_warm(
                ENTRY_POINT, [*map(str, arguments)], env=self.env, cwd=self.folder, stdout=stdout, stderr=stderr
            )
            try:
                with stdout.open() as lines:
                    yield Started(process, lines, stderr)
            finally:
                process.kill()
                process.join()

    @contextmanager
    def started_in_new_interpreter(
        self, *arguments: str | Path, before: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        """The same from the start on, as a shell does it; `before` is a command that starts it."""
        process = subprocess.Popen(
            [*before, *MILVUSDM, *map(str, arguments)],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def _read_screen(screen: FileIO) -> Iterator[bytes]:
    """Until it's closed: Linux says so with an error."""
    with suppress(OSError):
        while some := screen.read(4096):
            yield some


def connection(**fields: Any) -> str:
    """An Airflow connection as its environment variable holds it."""
    return json.dumps(fields)
