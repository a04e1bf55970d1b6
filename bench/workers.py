"""How the speed of loading grows with the number of workers, if the target is not the limit.

Each worker runs one task at a time, and reads its part of the source from S3. An insert is acknowledged after a fixed
time and stored nowhere, so a worker waits most of the time, as it does for a slow network. All other requests go to a
real server. Each worker is a host of its own, as in tests/e2e, so this needs root, and what `make test-e2e` installs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import grpc
from pymilvus.grpc_gen import milvus_pb2

from airflow_provider_milvusdm.progress import count_of
from bench.figures import Figure
from bench.inputs import Shape, write_directory
from bench.stage import Stage
from tests.support.grpc_proxy import UNLIMITED, HoldingProxy
from tests.support.object_storage import publish
from tests.support.seaweedfs import running_seaweedfs

if TYPE_CHECKING:
    from tests.support.celery_airflow import CeleryAirflow

WORKERS = ("worker-1", "worker-2", "worker-3")
UNITS = 12
"""One, two and three workers have equally many of them each."""
UNIT_ROWS, DIMENSION = 16_384, 128
ACKNOWLEDGED_SECONDS = 5
"""An insert has 4 MiB at most, and a task sends two at a time: a unit waits for two such times."""
DAG_ID = "workers"
DAG = f"""
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag("{DAG_ID}")
"""
SETTINGS = {
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
    "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
}


class SlowTarget(HoldingProxy):
    """Acknowledges each insert after some time, and passes everything else on to a server."""

    def service(self, details: Any) -> Any:
        if details.method.endswith("/Insert"):
            return grpc.unary_unary_rpc_method_handler(
                _acknowledge, milvus_pb2.InsertRequest.FromString, milvus_pb2.MutationResult.SerializeToString
            )
        return super().service(details)


def _acknowledge(request: milvus_pb2.InsertRequest, _: grpc.ServicerContext) -> milvus_pb2.MutationResult:
    time.sleep(ACKNOWLEDGED_SECONDS)
    return milvus_pb2.MutationResult(insert_cnt=request.num_rows)


@contextmanager
def slow_target(server: str, host: str) -> Iterator[str]:
    """Its URI at an address of this machine, while the block runs."""
    proxy = SlowTarget(server)
    grpc_server = grpc.server(ThreadPoolExecutor(32), handlers=[proxy], options=UNLIMITED)
    port = grpc_server.add_insecure_port(f"{host}:0")
    grpc_server.start()
    try:
        yield f"http://{host}:{port}"
    finally:
        grpc_server.stop(grace=None).wait()
        proxy.channel.close()


def measure(stage: Stage) -> Iterator[Figure]:
    from tests.support.celery_airflow import celery_airflow

    with ExitStack() as started:
        folder = started.enter_context(stage.folder())
        directory = write_directory(folder, Shape(UNITS * UNIT_ROWS, DIMENSION))
        server = started.enter_context(stage.server())
        airflow = started.enter_context(celery_airflow(folder.with_name("airflow"), WORKERS, SETTINGS))
        s3 = started.enter_context(running_seaweedfs(folder.with_name("s3"), airflow.address))
        source = publish(airflow, s3, directory)
        target = started.enter_context(slow_target(server.address.uri, airflow.address))
        airflow.add_dags(DAG_ID, DAG)
        seconds = dict(_load_with_fewer_and_fewer(airflow, source, target))
    units = f"{UNITS} units that wait for {2 * ACKNOWLEDGED_SECONDS} s each"
    for workers in sorted(seconds):
        yield Figure("workers", f"{units}, {count_of(workers, 'worker')}", seconds[workers], "s")
    for workers in sorted(seconds)[1:]:
        yield Figure("workers", f"speed of {workers} workers against one", seconds[1] / seconds[workers], "times")


def _load_with_fewer_and_fewer(airflow: CeleryAirflow, source: str, target: str) -> Iterator[tuple[int, float]]:
    """Number of workers, and seconds of all load tasks of a run that they share; after each run a worker is killed."""
    for number, worker in reversed(list(enumerate(airflow.hosts, 1))):
        conf = {
            "source_milvus_path": source,
            "dest_uri": target,
            "mode": "overwrite",
            "unit_mib": UNIT_ROWS * DIMENSION * 4 >> 20,
            "create_index": False,
            "verify": "none",
        }
        run_id = airflow.trigger(DAG_ID, conf)
        run = airflow.wait_for_run(DAG_ID, run_id)
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances?task_id=load_partitions"
        loads = airflow.call("GET", path)["task_instances"]
        hosts = {load["hostname"] for load in loads}
        if (run.state, len(loads), len(hosts)) != ("success", UNITS, number):
            raise SystemExit(f"{UNITS} load tasks on {number} hosts were expected: {run}\n{airflow.tails()}")
        yield number, _seconds(loads)
        airflow.kill_worker(worker)


def _seconds(loads: Sequence[dict[str, Any]]) -> float:
    """From the start of the first task to the end of the last one."""
    starts, ends = (
        [datetime.fromisoformat(load[name]).timestamp() for load in loads] for name in ("start_date", "end_date")
    )
    return max(ends) - min(starts)
