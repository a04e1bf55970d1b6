"""What Airflow knows of runs: the run of a task, and whether another run has ended."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import psutil
from airflow.sdk.api.client import ServerResponseError
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.execution_time.comms import SkipDownstreamTasks

from airflow_provider_milvusdm.operators.done import ONE_REQUEST
from airflow_provider_milvusdm.progress import count_of
from airflow_provider_milvusdm.targets.milvus.runs import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

ENDED = ("success", "failed")
NOT_FOUND = 404


class AirflowRuns:
    """The run of a task, and what is certain about other runs.

    A run of ``dag.test()`` (the command line) has ended when its process has ended, which only the same host can tell.
    Any other run has ended when this Airflow says so: then its tasks have ended, or Airflow takes them for dead.

    :param context: context of the task.
    :param take_over: assume that a run has ended if that is unknown.

    Several threads may use it.
    """

    def __init__(self, context: Context, *, take_over: bool = False) -> None:
        self.task_instance, self.take_over = context["ti"], take_over
        self.own = Run(self.task_instance.dag_id, self.task_instance.run_id, _own_process())

    def is_over(self, run: Run) -> bool | None:
        """Whether the run has ended; None if that is unknown."""
        is_over = _has_process_ended(run.process) if run.process else self._has_ended(run)
        return True if is_over is None and self.take_over else is_over

    def may_wake(self, run: Run) -> bool:
        """Whether a suspended task of the run may go on: Airflow also takes a suspended task for dead."""
        return not (run.process and _has_process_ended(run.process))

    def _has_ended(self, run: Run) -> bool | None:
        if not run.run_id:
            return None
        try:
            with ONE_REQUEST:
                state = self.task_instance.get_dagrun_state(run.dag_id, run.run_id)
        except (AirflowRuntimeError, ServerResponseError) as error:
            if not _is_unknown(error):
                raise
            return None
        return state in ENDED


def runs_in_one_process() -> bool:
    """Whether this process runs all tasks of the run: that of ``dag.test()``."""
    return isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), supervisor.InProcessSupervisorComms)


def tell_queue(context: Context) -> None:
    """Log how many runs of the DAG are queued until this run ends: their own pages don't say what they wait for."""
    if runs_in_one_process() or not hasattr(task_runner, "SUPERVISOR_COMMS"):
        return
    instance, dag = context["ti"], context["dag"]
    queued = instance.get_dr_count(instance.dag_id, states=["queued"])
    if queued:
        log.warning(
            "queued until this run has ended (max_active_runs: %d): %s of this DAG",
            dag.max_active_runs,
            count_of(queued, "run"),
        )


def skip_tasks(task_ids: Iterable[str]) -> None:
    """Skip tasks behind the present one. Airflow itself does it only for a task that succeeds."""
    task_runner.SUPERVISOR_COMMS.send(SkipDownstreamTasks(tasks=list(task_ids)))


def _own_process() -> str:
    """This process, if it runs all tasks of the run; empty if each task has a process of its own."""
    return _describe(psutil.Process()) if runs_in_one_process() else ""


def _describe(process: psutil.Process) -> str:
    return f"{_host()}/{process.pid}/{_start_time(process):.2f}"


def _has_process_ended(process: str) -> bool | None:
    """Whether the process has ended; None if it ran on another host."""
    host, pid, started = process.rsplit("/", 2)
    if host != _host():
        return None
    try:
        found = psutil.Process(int(pid))
        # A zombie has ended, and is only there until its parent waits for it.
        return bool(found.status() == psutil.STATUS_ZOMBIE or abs(_start_time(found) - float(started)) > 1)
    except psutil.NoSuchProcess:
        return True


def _start_time(process: psutil.Process) -> float:
    """Seconds from the start of the machine; a time of day would change if the clock is set."""
    return float(process.create_time() - psutil.boot_time())


def _host() -> str:
    """This host, and the namespace of its process ids."""
    try:
        return f"{platform.node()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _is_unknown(error: Any) -> bool:
    if isinstance(error, ServerResponseError):
        return bool(error.response.status_code == NOT_FOUND)
    return bool((error.error.detail or {}).get("status_code") == NOT_FOUND)
