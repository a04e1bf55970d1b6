"""Milvus's bulk import: start a job, ask for its state, list jobs.

The messages are those of ``milvus.proto`` as pymilvus ships them. Each is sent once: pymilvus's own methods repeat a
request whose reply was lost, and a repeated import stores every row twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.targets.milvus.server.capabilities import has_bulk_imports
from airflow_provider_milvusdm.targets.milvus.server.sending import sent_before
from airflow_provider_milvusdm.targets.milvus.server.waiting import wait_until_done

if TYPE_CHECKING:
    from pymilvus import MilvusClient

REQUEST_SECONDS = 60
POLL_SECONDS = 2
"""A 2.3 server checks every two seconds whether a job is completed."""
STALLED_SECONDS = 12 * 3600
"""A thousand jobs of half a minute each may be in the queue before this one."""
QUEUE_FULL = ("import task queue max size", "number of jobs has reached the limit")
"""Texts in the message of a 2.3 server, and of a later one, that rejects a request because its queue is full."""


@dataclass(frozen=True)
class ImportJob:
    """An import job of the target.

    ``files``: as they were named in the request; servers of 2.4 and later do not report them.
    """

    number: int
    state: str
    files: tuple[str, ...] = ()
    reason: str = ""
    percent: str = ""

    def __str__(self) -> str:
        return f"job {self.number} {self.state} {self.percent or 0} %"

    @property
    def completed(self) -> bool:
        """Its rows are stored, indexed where there is an index, and counted."""
        return self.state == "ImportCompleted"

    @property
    def failed(self) -> bool:
        return self.state in ("ImportFailed", "ImportFailedAndCleaned")

    @property
    def is_running(self) -> bool:
        return not (self.completed or self.failed)


def start_job(
    client: MilvusClient, collection: str, partition: str, files: Sequence[str], deadline: float
) -> int | None:
    """Ask the server to import column files; returns the job's number, or None where the server's queue is full.

    Raises LateError where ``deadline`` is over.
    """
    from pymilvus.exceptions import MilvusException

    request = {"collection_name": collection, "partition_name": partition, "files": files}
    try:
        with sent_before(client, deadline):
            return int(_call(client, "Import", "ImportRequest", request).tasks[0])
    except MilvusException as error:
        if any(text in error.message for text in QUEUE_FULL):
            return None
        raise


def list_jobs(client: MilvusClient, collection: str) -> list[ImportJob]:
    """All jobs of a collection that the server knows; it forgets a job after a day."""
    response = _call(client, "ListImportTasks", "ListImportTasksRequest", {"collection_name": collection})
    return [_job(task) for task in response.tasks]


def read_job(client: MilvusClient, collection: str, number: int) -> ImportJob | None:
    """One job; None where the server does not know it, or no longer."""
    from pymilvus.exceptions import MilvusException

    try:
        return _job(_call(client, "GetImportState", "GetImportStateRequest", {"task": number}), number)
    except MilvusException:
        return next((job for job in list_jobs(client, collection) if job.number == number), None)


def are_running(client: MilvusClient, collection: str, jobs: Iterable[int]) -> bool:
    """Whether any of these jobs is running."""
    found = (read_job(client, collection, number) for number in jobs)
    return any(job.is_running for job in found if job)


def describe(jobs: Sequence[ImportJob]) -> str:
    """The first job and the number of others, as text that changes with any progress; empty without jobs."""
    return ", ".join([*map(str, jobs[:1]), *([f"{len(jobs) - 1} more"] if len(jobs) > 1 else [])])


def await_jobs(client: MilvusClient, collection: str) -> None:
    """Wait until no job of the collection is running: a run that was killed may have left one.

    Raises StalledError.
    """

    def running() -> str:
        return describe([job for job in list_jobs(client, collection) if job.is_running])

    if has_bulk_imports(client):
        what = f"import jobs of collection {collection!r}"
        wait_until_done(running, what, shortest=POLL_SECONDS, seconds=STALLED_SECONDS)


def _call(client: MilvusClient, method: str, message: str, fields: Mapping[str, Any]) -> Any:
    """Send one request. Raises grpc.RpcError where the server can't be reached, MilvusException where it refuses."""
    from pymilvus.client.utils import check_status
    from pymilvus.grpc_gen import milvus_pb2

    request = getattr(milvus_pb2, message)(**fields)
    if "db_name" in request.DESCRIPTOR.fields_by_name:
        request.db_name = client._config.db_name
    response = getattr(client._get_connection()._stub, method)(request, timeout=REQUEST_SECONDS)
    check_status(response.status)
    return response


def _job(task: Any, number: int = 0) -> ImportJob:
    from pymilvus.grpc_gen import common_pb2

    infos = {info.key: info.value for info in task.infos}
    return ImportJob(
        number=number or task.id,
        state=common_pb2.ImportState.Name(task.state),
        files=tuple(infos.get("files", "").split(",")) if infos.get("files") else (),
        reason=infos.get("failed_reason", ""),
        percent=infos.get("progress_percent", ""),
    )
