"""Runs of Python programs in processes that have their libraries in memory: importing those takes seconds.

A server process imports them once and forks a child for each run. The child imports this package as a new
interpreter does, and configures Airflow when it imports it (see `warm_airflow`).
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context, set_start_method
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

LIBRARIES = (
    "aiohttp",
    "alembic",
    "cadwyn",
    "cryptography.x509",
    "email_validator",
    "fastapi",
    "fsspec",
    "h5py",
    "httpx",
    "jinja2",
    "jsonschema",
    "libcst",
    "milvus_lite",
    "pandas",
    "pendulum",
    "pydantic_settings",
    "pymilvus",
    "requests",
    "rich.progress",
    "sqlalchemy.orm",
    "structlog",
    __name__,
    "tests.support.warm_airflow",
)
"""What takes longest to import of all that Airflow and this package import."""

_context = get_context("forkserver")
_context.set_forkserver_preload(list(LIBRARIES))


@dataclass(frozen=True)
class Finished:
    returncode: int
    stdout: str
    stderr: str


def start_warm(
    entry_point: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: str | Path, stdout: Path, stderr: Path
) -> BaseProcess:
    """Start the console script of `entry_point`, "module:function", with these arguments in this environment.

    It has a session of its own, and appends what it writes to `stdout` and `stderr`, files or named pipes.
    """
    target = (entry_point, tuple(arguments), dict(env), str(cwd), str(stdout), str(stderr))
    process = _context.Process(target=_run, args=target)
    process.start()
    return process


def run_warm(
    entry_point: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | Path,
    timeout: float,
    join_output: bool = False,
) -> Finished:
    """Run such a script to its end. With `join_output`, all that it writes is in `stdout`."""
    with tempfile.TemporaryDirectory(prefix="milvusdm-warm-") as name:
        stdout, stderr = Path(name, "stdout"), Path(name, "stdout" if join_output else "stderr")
        process = start_warm(entry_point, arguments, env=env, cwd=cwd, stdout=stdout, stderr=stderr)
        try:
            process.join(timeout)
            if process.exitcode is None:
                raise TimeoutExpired([entry_point, *arguments], timeout, stdout.read_bytes())
        finally:
            process.kill()
            process.join()
        return Finished(process.exitcode, stdout.read_text(), "" if join_output else stderr.read_text())


def _run(entry_point: str, arguments: Sequence[str], env: dict[str, str], cwd: str, stdout: str, stderr: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    set_start_method(None, force=True)  # of its own processes: the platform's
    tempfile.tempdir = None  # found anew by TMPDIR
    _redirect(stdout, stderr)
    _check_schemas_once()
    module, _, function = entry_point.partition(":")
    sys.argv = [module, *arguments]
    try:
        sys.exit(getattr(import_module(module), function)())
    finally:
        threading._shutdown()  # as an interpreter does before it ends, a fork does not
        atexit._run_exitfuncs()


def _redirect(stdout: str, stderr: str) -> None:
    for number, path in ((1, stdout), (2, stderr)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)


def _check_schemas_once() -> None:
    """Airflow has the schema of each param checked some hundred times a run, a quarter of the run's time."""
    from jsonschema import Draft202012Validator

    check, checked = Draft202012Validator.check_schema, set()

    def check_once(schema: Any, *arguments: Any, **keywords: Any) -> None:
        key = json.dumps([schema, arguments, keywords], sort_keys=True, default=repr)
        if key not in checked:
            check(schema, *arguments, **keywords)
            checked.add(key)

    Draft202012Validator.check_schema = staticmethod(check_once)
