"""What the command line shows of a run: a line for each task that ended, and one for the task at work."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.progress import progress

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

hookimpl = HookimplMarker("airflow")
"""Airflow's own, made here because importing Airflow reads its configuration."""


class Display(logging.Handler):
    """Listens to Airflow's task instances and to the progress of their work."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console
        self.spinner = Spinner("dots", Text("starting"))
        self.interrupted = False
        self.rows = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the run inside the block; Ctrl-C, or being told to end, ends it with KeyboardInterrupt."""
        from airflow.sdk.listener import get_listener_manager

        before = {number: signal.signal(number, self._interrupt) for number in _heeded()}
        get_listener_manager().add_listener(self)  # type: ignore[no-untyped-call]
        progress.addHandler(self)
        progress.setLevel(logging.INFO)
        # Rich would take standard output, and with it Airflow's log, to the terminal.
        live = Live(self.spinner, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False)
        try:
            with live:
                yield
        finally:
            progress.removeHandler(self)
            for number, handler in before.items():
                signal.signal(number, handler)

    def emit(self, record: logging.LogRecord) -> None:
        rows = getattr(record, "rows", None)
        if rows is None:
            self.console.print(Text(record.getMessage()))
        else:
            self.rows += rows
            self._at_work(f"load_partitions: {self.rows:,} rows")

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        signal.signal(signal.SIGTERM, self._interrupt)  # each task takes it for itself, and would go on
        self._at_work(_name(task_instance))
        self._stop_if_interrupted()

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        self._ended("done", task_instance)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        self._stop_if_interrupted()
        how = "retry" if task_instance.state == "up_for_retry" else "FAILED"
        reason, _, _ = str(error).partition("\n")
        self._ended(how, task_instance, f": {reason}")

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        self._ended("skipped", task_instance)

    def _at_work(self, text: str) -> None:
        self.spinner.update(text=Text(text))

    def _ended(self, how: str, task_instance: Any, reason: str = "") -> None:
        self.console.print(Text(f"{how:8}{_name(task_instance)}{reason}"))
        self._stop_if_interrupted()

    def _interrupt(self, *_: Any) -> None:
        """Airflow catches what is raised inside a task, so it's raised again outside: see the listeners."""
        self.interrupted = True
        raise KeyboardInterrupt

    def _stop_if_interrupted(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt


def _heeded() -> list[signal.Signals]:
    """The signals that end a run; a terminal that goes away does not where ``nohup`` says so."""
    is_deaf = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_deaf else [signal.SIGHUP])]


class _Screen(io.FileIO):
    """A terminal or a pipe; once it is gone, what is written to it is dropped, and the run goes on or ends as told."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _name(task_instance: Any) -> str:
    label = task_instance.rendered_map_index
    return f"{task_instance.task_id} {label}" if label else str(task_instance.task_id)


def redirect_output(log: Path) -> Console:
    """Send all output of this process to ``log``, for good, and return a console that writes to the terminal.

    Raises ConfigurationError.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        file = log.open("ab")
    except OSError as error:
        raise ConfigurationError(f"the log can't be written: {error.strerror}", where=log) from None
    with file:
        screen = io.TextIOWrapper(io.BufferedWriter(_Screen(os.dup(1), "w")), errors="replace", line_buffering=True)
        console = Console(file=screen, soft_wrap=True)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return console
