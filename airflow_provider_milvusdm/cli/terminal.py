"""What the command line shows of a run: a line for each finished task, and a line for the running task."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from airflow_provider_milvusdm.cli.bars import Bars
from airflow_provider_milvusdm.cli.plain import to_text
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.progress import PERIODIC, Meter, progress, watch_progress

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from airflow_provider_milvusdm.manifests import Foreseen

hookimpl = HookimplMarker("airflow")
"""The same as Airflow's; an import of Airflow would read its configuration too early."""


class Display(logging.Handler):
    """Listens to the states of Airflow's task instances and to the progress of tasks.

    A terminal shows a line with a bar for each collection. Anything else gets a line for each collection that is at
    work, a few times a minute.
    """

    def __init__(self, console: Console, *, is_approved: bool = False) -> None:
        super().__init__(logging.INFO)
        self.console, self.is_approved = console, is_approved
        self.live: Live | None = None
        self.spinner, self.bars = Spinner("dots", Text("starting")), Bars()
        self.interrupted = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the run inside the block; Ctrl-C and the signals that end a process raise KeyboardInterrupt."""
        from airflow.sdk.listener import get_listener_manager

        before = {number: signal.signal(number, self._interrupt) for number in _ending_signals()}
        get_listener_manager().add_listener(self)  # type: ignore[no-untyped-call]
        progress.addHandler(self)
        progress.setLevel(logging.INFO)
        # Otherwise Rich would write standard output, and with it Airflow's log, to the terminal.
        shown = Group(self.bars.lines, self.spinner)
        live = Live(shown, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False)
        try:
            self.live = live
            with live, watch_progress(self):
                yield
        finally:
            progress.removeHandler(self)
            for number, handler in before.items():
                signal.signal(number, handler)

    def emit(self, record: logging.LogRecord) -> None:
        if not (self.console.is_terminal and hasattr(record, PERIODIC)):
            self.console.print(to_text(record.getMessage()))

    def ask(self, plan: Sequence[Foreseen]) -> bool:
        """Show the plan of a run, and return whether somebody approves it."""
        from airflow_provider_milvusdm.operators.plan_table import HEADINGS, LISTED, list_rows, sum_up
        from airflow_provider_milvusdm.report import WIDE

        if self.live:
            self.live.stop()
        for address in dict.fromkeys(foreseen.address for foreseen in plan):
            self.console.print(to_text(f"Target: {address}"), soft_wrap=True)
        table = Table(title="What this run would do", width=None if self.console.is_terminal else WIDE)
        for heading in HEADINGS:
            table.add_column(heading, overflow="fold")  # names that differ at their ends must not look the same
        for row in list_rows(plan):
            table.add_row(*map(to_text, row))  # as text, because a tag may look like Rich's markup
        self.console.print(table, soft_wrap=not self.console.is_terminal)
        more = [f"and {len(plan) - LISTED:,} more"] if len(plan) > LISTED else []
        for line in (*more, *sum_up(plan)):
            self.console.print(to_text(line), soft_wrap=True)
        is_approved = self.is_approved or self._is_answered_yes()
        if self.live:
            self.live.start()
        return is_approved

    def _is_answered_yes(self) -> bool:
        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed before the plan was shown is no answer to it
        self.console.print("Approve it? yes or no: ", end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def tell(self, text: str) -> None:
        self.spinner.update(text=to_text(text))

    def reach(self, meter: Meter) -> None:
        self.bars.reach(meter)

    def expect(self, collection: str, rows: int) -> None:
        self.bars.expect(collection, rows)

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        signal.signal(signal.SIGTERM, self._interrupt)  # each task sets a handler of its own, and would continue
        self.tell(_name(task_instance))
        self._stop_if_interrupted()

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        self._show_ended("done", task_instance)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        self._stop_if_interrupted()
        state = "retry" if task_instance.state == "up_for_retry" else "FAILED"
        reason, _, _ = str(error).partition("\n")
        self._show_ended(state, task_instance, f": {reason}")

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        self._show_ended("skipped", task_instance)

    def _show_ended(self, state: str, task_instance: Any, reason: str = "") -> None:
        self.console.print(to_text(f"{state:8}{_name(task_instance)}{reason}"))
        self._stop_if_interrupted()

    def _interrupt(self, *_: Any) -> None:
        """Airflow catches the exception if a task runs; the listeners then raise it again outside of the task.

        The first one ends the run once the target has answered the requests that were sent to it.
        """
        self.interrupted = True
        self.tell("interrupted: waiting for the target's answers; Ctrl-C again ends at once")
        raise KeyboardInterrupt

    def _stop_if_interrupted(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt


def _ending_signals() -> list[signal.Signals]:
    """The signals that end a run; with ``nohup`` a closed terminal does not."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if is_ignored else [signal.SIGHUP])]


class _Screen(io.FileIO):
    """A terminal or a pipe; after it was closed, writes to it are ignored and the run continues."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _name(task_instance: Any) -> str:
    label = task_instance.rendered_map_index
    return f"{task_instance.task_id} {label}" if label else str(task_instance.task_id)


def redirect_output(log: Path) -> Console:
    """Send all output of this process to ``log``, and return a console that still writes to the terminal.

    Raises ConfigurationError if the log can't be written.
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
