"""What Airflow knows of runs: which one a task is of, and whether another has ended."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import psutil
from airflow.sdk.api.client import ServerResponseError
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time import supervisor, task_runner

from airflow_provider_milvusdm.targets.milvus.runs import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

ENDED = ("success", "failed")
NOT_FOUND = 404


class AirflowRuns:
    """The run of a task, and others by what can be known for certain.

    A run of ``dag.test()`` (the command line) has ended when its process is gone, which only the same host can tell.
    Any other has ended when this Airflow says so: then its tasks have ended, or are taken for dead.

    :param context: of the task.
    :param take_over: take a run for ended where nobody can tell.
    """

    def __init__(self, context: Context, *, take_over: bool = False) -> None:
        self.task_instance, self.take_over = context["ti"], take_over
        self.own = Run(self.task_instance.dag_id, self.task_instance.run_id, _own_process())

    def is_over(self, run: Run) -> bool | None:
        """Whether it has ended; None where that can't be told."""
        over = _process_is_gone(run.process) if run.process else self._has_ended(run)
        return True if over is None and self.take_over else over

    def may_wake(self, run: Run) -> bool:
        """Whether a task of it may be asleep: of a run that is over, Airflow has only taken it for dead."""
        return not (run.process and _process_is_gone(run.process))

    def _has_ended(self, run: Run) -> bool | None:
        if not run.run_id:
            return None
        try:
            state = self.task_instance.get_dagrun_state(run.dag_id, run.run_id)
        except (AirflowRuntimeError, ServerResponseError) as error:
            if not _is_unknown(error):
                raise
            return None
        return state in ENDED


def _own_process() -> str:
    """The process of a run that is one process; empty where each task has its own."""
    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if not isinstance(comms, supervisor.InProcessSupervisorComms):
        return ""
    return _described(psutil.Process())


def _described(process: psutil.Process) -> str:
    return f"{_host()}/{process.pid}/{_started(process):.2f}"


def _process_is_gone(process: str) -> bool | None:
    host, number, started = process.rsplit("/", 2)
    if host != _host():
        return None
    try:
        found = psutil.Process(int(number))
        # One that nobody has waited for is there still, and does nothing any more.
        return bool(found.status() == psutil.STATUS_ZOMBIE or abs(_started(found) - float(started)) > 1)
    except psutil.NoSuchProcess:
        return True


def _started(process: psutil.Process) -> float:
    """Seconds after the machine's start: the clock may be set while the process runs."""
    return float(process.create_time() - psutil.boot_time())


def _host() -> str:
    """This host, and the namespace that its process numbers are of."""
    try:
        return f"{platform.node()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _is_unknown(error: Any) -> bool:
    if isinstance(error, ServerResponseError):
        return bool(error.response.status_code == NOT_FOUND)
    return bool((error.error.detail or {}).get("status_code") == NOT_FOUND)
