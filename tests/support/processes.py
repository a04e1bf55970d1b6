"""Starts and stops the real programs that tests run against."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import psutil

Process: TypeAlias = subprocess.Popen[bytes]


class StartError(RuntimeError):
    """A real part did not start: the test fails, with the end of that part's log."""


def free_ports(count: int) -> list[int]:
    """Different TCP ports that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def log_tail(log: Path, lines: int = 40) -> str:
    """The end of a log file, under its name."""
    text = log.read_text(errors="replace") if log.exists() else "(no such file)"
    return f"--- {log}\n" + "\n".join(text.splitlines()[-lines:])


def wait_until(holds: Callable[[], bool], seconds: float, failure: Callable[[], str], *, pause: float = 0.2) -> None:
    """Return as soon as `holds`; a TimeoutError with what `failure` says when it doesn't within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {failure()}")
        time.sleep(pause)


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    grace_seconds: float = 0,
) -> Iterator[Process]:
    """Run `command` in a process group of its own while the block does, with its output in `log`.

    At the end the whole group is killed; where there is grace, it is first told to stop and given that long.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            **as_user(user),
        )
    try:
        yield process
    finally:
        _stop_group(process, grace_seconds)


def as_user(user: str | None) -> dict[str, Any]:
    """Arguments of subprocess that start a program as another user, with that user's group alone."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def unprivileged_user(*names: str) -> str | None:
    """The first of these users that there is, for what root may not run; None: whoever runs the tests starts it."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in (*names, "nobody") if name in known)


def kill_session(leader: Process) -> None:
    """Kill a program that leads its session, and all that it started, also those with process groups of their own."""
    leader.kill()
    leader.wait()
    while members := [number for number in psutil.pids() if _session(number) == leader.pid]:
        for number in members:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.01)


def _session(number: int) -> int | None:
    """None where the process has ended."""
    try:
        return None if psutil.Process(number).status() == psutil.STATUS_ZOMBIE else os.getsid(number)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


def wait_for_start(
    processes: Sequence[Process], is_ready: Callable[[], bool], seconds: float, logs: Sequence[Path]
) -> None:
    """Return once `is_ready`; a StartError when a process ends before, or when it takes too long."""

    def ended() -> list[str]:
        return [f"{one.args!r} ended with {one.returncode}" for one in processes if one.poll() is not None]

    def failure() -> str:
        return "\n".join([*ended(), *map(log_tail, logs)])

    try:
        wait_until(lambda: bool(ended()) or is_ready(), seconds, failure)
    except TimeoutError as error:
        raise StartError(f"did not start {error}") from None
    if ended():
        raise StartError(f"did not start: {failure()}")


def _stop_group(process: Process, grace_seconds: float) -> None:
    if grace_seconds:
        _signal_group(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
