"""A real Airflow: scheduler, DAG processor and API server, driven over REST as the user interface does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.airflow_runs import ENDED, DagRun, read_run, read_task_logs
from tests.support.dag_templates import write_dag
from tests.support.processes import Process, free_ports, log_tail, running, wait_for_start, wait_until

COMPONENTS = ("api-server", "dag-processor", "scheduler")
"""A test of deferrable tasks adds `triggerer`."""

RUNS_TASKS = ("scheduler", "triggerer")
IMPORTED_BY_TASKS = "import h5py, milvus_lite, pandas, pymilvus, airflow.sdk.execution_time.task_runner; "
"""Tasks are forks of these components, and what takes seconds to import needn't be imported in each of them."""

_DEFAULTS = {
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
}
"""Unless the test has others. Nobody needs a login. After so many seconds a DAG file that did not change is parsed
again, a task without sign of life is given up."""


@dataclass(frozen=True)
class StandaloneAirflow:
    url: str
    env: Mapping[str, str]
    started: ExitStack
    """Stops the components at its end."""
    processes: dict[str, Process] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)

    def add_dags(self, name: str, text: str) -> None:
        """Add a DAG file, which is soon parsed; its name and the ids of its DAGs are its own."""
        write_dag(Path(self.env["AIRFLOW__CORE__DAGS_FOLDER"]), name, text)

    def start(self, component: str) -> None:
        log = Path(self.env["AIRFLOW_HOME"]) / f"{component}-{len(self.logs)}.log"
        self.logs.append(log)
        before = IMPORTED_BY_TASKS if component in RUNS_TASKS else ""
        command = [sys.executable, "-c", f"{before}from airflow.__main__ import main; main()", component]
        process = self.started.enter_context(running(command, log=log, env=self.env, grace_seconds=15))
        self.processes[component] = process

    def kill(self, component: str) -> None:
        """Kill a component and all that it started, as a machine or a container that ends does."""
        process = self.processes[component]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def trigger(self, dag_id: str, conf: Mapping[str, Any], *, seconds: float = 300) -> str:
        """Start a run once the DAG is parsed; its run id. A refused conf is an HTTPStatusError."""
        self.wait_for_dag(dag_id, seconds=seconds)
        run: dict[str, Any] = {}
        body = {"conf": dict(conf), "logical_date": None}

        def is_made() -> bool:
            """On SQLite, Airflow answers 500 if it waits for more than 5 s for another of its transactions."""
            try:
                run.update(self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                    raise
            return bool(run)

        wait_until(is_made, seconds, lambda: f"{dag_id} is not triggered\n{self.tails()}")
        return str(run["dag_run_id"])

    def wait_for_dag(self, dag_id: str, *, seconds: float = 300) -> None:
        """Return once the DAG is parsed."""
        path = f"/api/v2/dags/{dag_id}"
        wait_until(lambda: self._finds(path), seconds, lambda: f"{dag_id} is not parsed\n{self.tails()}")

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float = 600) -> DagRun:
        """The run once it has ended, in whatever state."""

        def failure() -> str:
            run = read_run(self.env, dag_id, run_id)
            return f"{run_id} is {run.state}: {run.states}\n{read_task_logs(self.env, run)}\n{self.tails()}"

        wait_until(lambda: read_run(self.env, dag_id, run_id).state in ENDED, seconds, failure)
        return read_run(self.env, dag_id, run_id)

    def wait_for_question(self, dag_id: str, run_id: str, task_id: str, *, seconds: float = 300) -> None:
        """Return once the scheduler knows that a task waits for input.

        A task that is answered before that is taken for lost by Airflow 3.3, which repeats it and asks again.
        """
        noted = f"TaskInstance Finished: dag_id={dag_id}, task_id={task_id}, run_id={run_id}, "

        def is_noted() -> bool:
            lines = (line for log in self.logs for line in log.read_text(errors="replace").splitlines())
            return any(noted in line and "state=awaiting_input" in line for line in lines)

        wait_until(is_noted, seconds, lambda: f"{task_id} does not wait\n{self.tails()}")

    def clear(self, run: DagRun, *tasks: str | tuple[str, int], downstream: bool = False) -> None:
        """Clear tasks of a run, by id or by id and map index; the scheduler then runs them again."""
        self.call(
            "POST",
            f"/api/v2/dags/{run.dag_id}/clearTaskInstances",
            {
                "dag_run_id": run.run_id,
                "task_ids": list(tasks),
                "include_downstream": downstream,
                "dry_run": False,
                "only_failed": False,
                "reset_dag_runs": True,
            },
        )

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to one request to the REST API, made as its administrator."""
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as client:
            token = client.get("/auth/token").raise_for_status().json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            return client.request(method, path, json=body, headers=headers).raise_for_status().json()

    def _finds(self, path: str) -> bool:
        try:
            self.call("GET", path)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True

    def is_healthy(self, components: tuple[str, ...]) -> bool:
        """Whether the API server answers and has heard from the others."""
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
        except httpx.TransportError:
            return False
        others = (component.replace("-", "_") for component in components if component != "api-server")
        return all(health[name]["status"] == "healthy" for name in others)

    def tails(self) -> str:
        """The end of each component's log."""
        return "\n".join(map(log_tail, self.logs))


@contextmanager
def standalone_airflow(env: Mapping[str, str], components: tuple[str, ...] = COMPONENTS) -> Iterator[StandaloneAirflow]:
    """Airflow's components in the home that `env` names, started together."""
    port, *log_ports = free_ports(3)
    with ExitStack() as started:
        settings = _DEFAULTS | dict(env) | _settings(port, *log_ports)
        airflow = StandaloneAirflow(f"http://127.0.0.1:{port}", settings, started)
        for component in components:
            airflow.start(component)
        processes = list(airflow.processes.values())
        wait_for_start(processes, lambda: airflow.is_healthy(components), 300, airflow.logs)
        yield airflow


def _settings(port: int, worker_log_port: int, trigger_log_port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    }
