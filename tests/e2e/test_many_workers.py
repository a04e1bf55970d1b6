"""A migration on three workers that share no disk: Celery, Redis, PostgreSQL, the source in S3, a Milvus server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tests.support.airflow_runs import ENDED, DagRun, TaskRun, read_events, read_run, read_task_logs
from tests.support.celery_airflow import CeleryAirflow, celery_airflow
from tests.support.collections_2x import stored
from tests.support.directories import write_directory
from tests.support.gate import Gate, running_gate
from tests.support.hosts import Host
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus_servers import MilvusServer, running_milvus_server
from tests.support.object_storage import publish
from tests.support.processes import wait_until
from tests.support.seaweedfs import running_seaweedfs
from tests.support.targets import milvus_client
from tests.support.tcp_proxy import CuttingProxy, cutting_proxy

WORKERS = ("worker-1", "worker-2", "worker-3")
DIMENSION = 512
ROWS = 500
"""Of a partition, which is a load unit: as many as fill one MiB."""
TAGS = ("_default", *"abcdefgh")
FREE = 3
"""Batches that each attempt of a load writes before it waits at the gate."""
SETTINGS = {
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
    "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "20",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "1000",
}
"""A worker's slot each, short timeouts; a worker that is cut off keeps its task alive for as long as that lasts."""
DAG = """
from datetime import timedelta

from airflow_provider_milvusdm.migration import migration_dag
from airflow_provider_milvusdm.targets.milvus import fence
from airflow_provider_milvusdm.targets.milvus.load import writer
from tests.support.gate import gated

fence.REQUEST_SECONDS = 5
writer.BATCH_ROWS, writer.STRIDE_BATCHES = 50, 1
writer.Writer.write = gated(writer.Writer.write, "{gate}")
dag = migration_dag("many_workers", default_args={{"retries": 10, "retry_delay": timedelta(seconds=1)}})
"""
DAG_ID = "many_workers"
REQUEUED = "stuck in queued reschedule"
"""Airflow's event of a task that no worker took in time."""
GIVEN_UP = (
    "Another attempt to load these rows has begun",
    "Server indicated the task shouldn't be running anymore",
    "DEADLINE_EXCEEDED",
)
"""What ends an attempt that wakes after another has begun: its own check, Airflow's, or the deadline of a request that
was on its way when the network was lost; whichever is first."""


@dataclass(frozen=True)
class Deployment:
    airflow: CeleryAirflow
    milvus: MilvusServer
    proxy: CuttingProxy
    """At the address of the target, wherever the server is."""
    source: str
    gate: Gate
    directory: Milvus1xDirectory

    def start_run(self, **params: Any) -> Run:
        self.gate.close()
        conf = {
            "source_milvus_path": self.source,
            "dest_uri": self.proxy.uri,
            "unit_mib": 1,
            "verify": "full",
        } | params
        return Run(self, self.airflow.trigger(DAG_ID, conf))

    def assert_exact(self) -> None:
        """Every row is there, bit for bit, and once, and nothing else."""
        with milvus_client(self.milvus.address.uri) as client:
            assert client.list_collections() == ["news"]
            assert stored(client, "news") == {tag: self.directory.live("news", tag) for tag in TAGS}


@dataclass(frozen=True)
class Run:
    deployment: Deployment
    run_id: str

    @property
    def now(self) -> DagRun:
        return read_run(self.deployment.airflow.env, DAG_ID, self.run_id)

    @property
    def loads(self) -> list[TaskRun]:
        return [task for task in self.now.tasks if task.task_id == "load_partitions" and task.map_index >= 0]

    def waiting(self) -> dict[str, TaskRun]:
        """The loads at the gate by the address of their host, as Airflow knows them."""
        pids = self.deployment.gate.waiting
        return {task.hostname: task for task in self.loads if task.state == "running" and task.pid in pids}

    def wait_at_gate(self, *hosts: Host) -> dict[str, TaskRun]:
        """Return once each of the hosts has a load that has written rows and waits at the gate."""
        addresses = {host.address for host in hosts}
        waiting: dict[str, TaskRun] = {}

        def wait_all() -> bool:
            nonlocal waiting
            waiting = self.waiting()
            return addresses <= waiting.keys()

        self.wait(wait_all)
        return waiting

    def wait_for_other(self, load: TaskRun) -> TaskRun:
        """Another attempt of a load, once it has written rows on another host and waits at the gate.

        All other loads pass.
        """
        others: list[TaskRun] = []

        def waits() -> bool:
            for task in self.waiting().values():
                if task.map_index != load.map_index:
                    self.deployment.gate.release(task.pid)
                elif task.hostname != load.hostname:
                    others.append(task)
            return bool(others)

        self.wait(waits)
        return others[0]

    def log_on(self, host: Host) -> str:
        """What tasks of this run have logged on a host's own disk."""
        return read_task_logs({"AIRFLOW_HOME": str(host.folder / "airflow")}, self.now)

    def served_log(self, load: TaskRun) -> str:
        """The log of the last attempt, as the user interface gets it from the worker that has it."""
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{self.run_id}/taskInstances/{load.task_id}/logs/{load.try_number}"
        return str(self.deployment.airflow.call("GET", f"{path}?map_index={load.map_index}&full_content=true"))

    def end(self) -> DagRun:
        self.deployment.gate.open()
        self.wait(lambda: self.now.state in ENDED)
        return self.now

    def wait(self, holds: Callable[[], bool]) -> None:
        """Meanwhile components that have ended are started again, as a service manager does."""
        airflow = self.deployment.airflow

        def holds_now() -> bool:
            airflow.restart_ended()
            return holds()

        wait_until(holds_now, 600, lambda: f"{self.now}\n{airflow.tails()}")


def is_running(task: TaskRun) -> bool:
    """Whether the process of an attempt is alive; namespaces of networks share the numbers of processes."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(task.pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("many-workers")
    directory = write_directory(
        folder / "milvus",
        {"news": {tag: range(n * ROWS, (n + 1) * ROWS) for n, tag in enumerate(TAGS)}},
        dimension=DIMENSION,
    )
    with ExitStack() as started:
        milvus = started.enter_context(running_milvus_server(folder / "server"))
        airflow = started.enter_context(celery_airflow(folder / "airflow", WORKERS, SETTINGS))
        s3 = started.enter_context(running_seaweedfs(folder / "s3", airflow.address))
        source = publish(airflow, s3, directory.path)
        proxy = started.enter_context(cutting_proxy(milvus.address.uri, host=airflow.address))
        gate = started.enter_context(running_gate(airflow.address, free=FREE))
        airflow.add_dags(DAG_ID, DAG.format(gate=gate.url))
        yield Deployment(airflow, milvus, proxy, source, gate, directory)


def test_units_of_a_lost_worker_of_one_without_network_and_of_an_emptied_broker_are_loaded_by_others(
    deployment: Deployment,
) -> None:
    airflow = deployment.airflow
    lost, cut_off, _ = airflow.hosts
    run = deployment.start_run()
    loads = run.wait_at_gate(*airflow.hosts)
    wait_until(lambda: airflow.queued() >= len(TAGS) - len(WORKERS), 60, airflow.tails)
    airflow.empty_broker()
    airflow.kill_worker(lost)
    assert not is_running(loads[lost.address])
    cut_off.cut_off()
    airflow.start_workers(lost)

    asleep = loads[cut_off.address]
    run.wait_for_other(asleep)
    cut_off.reconnect()
    deployment.gate.release(asleep.pid)
    wait_until(lambda: not is_running(asleep), 300, airflow.tails)
    wait_until(lambda: any(text in run.log_on(cut_off) for text in GIVEN_UP), 60, lambda: run.log_on(cut_off))

    assert run.end().state == "success", airflow.tails()
    deployment.assert_exact()
    retried = {load.map_index for load in run.loads if load.try_number > 1}
    assert retried >= {loads[lost.address].map_index, asleep.map_index}
    requeued = {number for task_id, number in read_events(airflow.env, run.now, REQUEUED) if task_id == asleep.task_id}
    assert requeued | retried | {load.map_index for load in loads.values()} == set(range(len(TAGS)))
    for load in run.loads:
        assert f"http://{load.hostname}:" in run.served_log(load)


def test_a_run_survives_another_scheduler_and_the_restarts_of_the_database_and_of_the_target(
    deployment: Deployment,
) -> None:
    airflow = deployment.airflow
    run = deployment.start_run(mode="overwrite")
    run.wait_at_gate(*airflow.hosts)
    airflow.replace_scheduler()
    airflow.postgresql.restart()

    passed = deployment.gate.passed.total()
    deployment.gate.open()
    run.wait(lambda: deployment.gate.passed.total() > passed + len(WORKERS))
    deployment.milvus.close()
    deployment.milvus.start()
    deployment.proxy.target = deployment.milvus.address.uri
    assert run.end().state == "success", airflow.tails()
    deployment.assert_exact()
