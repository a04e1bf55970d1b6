"""A real Redis for tests, the broker of Celery's workers."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.support.processes import StartError, free_ports, running, unprivileged_user, wait_for_start


@contextmanager
def running_redis(host: str) -> Iterator[str]:
    """The URL of an empty server, which keeps nothing on disk."""
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        folder, user, [port], password = Path(name), unprivileged_user("redis"), free_ports(1), secrets.token_hex(16)
        if user:
            shutil.chown(folder, user)
        command: list[str | Path] = [_program(folder), "--bind", host, "--port", str(port), "--dir", folder]
        command += ["--save", "", "--appendonly", "no", "--requirepass", password]
        url, log = f"redis://:{password}@{host}:{port}/0", folder / "redis.log"
        with running(command, log=log, user=user) as process:
            wait_for_start([process], lambda: _answers(url), 60, [log])
            yield url


def _program(folder: Path) -> Path:
    """`redis-server` is the program `redis-check-rdb` of Debian's package redis-tools under another name."""
    program = shutil.which("redis-check-rdb")
    if not program:
        raise StartError("redis-check-rdb is missing: install Debian's package redis-tools")
    server = folder / "redis-server"
    server.symlink_to(program)
    return server


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False
