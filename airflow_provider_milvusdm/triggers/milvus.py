"""Wait for bulk imports in the triggerer, so that no worker has to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_milvusdm.hooks.milvus import MilvusHook


class MilvusImportTrigger(BaseTrigger):
    """Fires when no import job is running any more; without jobs, after the first pause.

    It also fires if it can't ask the server: the task then meets the same error, and fails or is retried. And it fires
    after an hour: the task then checks whether the jobs make progress.

    :param jobs: ids of the import jobs.
    :param collection: the collection that they import into.
    :param seconds: pause before the first question to the server; later pauses are longer.
    :param hook: arguments of :class:`MilvusHook`.
    """

    MAX_SECONDS = 3600

    def __init__(self, *, jobs: Sequence[int], collection: str, seconds: float = 0, **hook: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.jobs, self.collection, self.seconds, self.hook = tuple(jobs), collection, seconds, hook

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"jobs": list(self.jobs), "collection": self.collection, "seconds": self.seconds, **self.hook}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from airflow_provider_milvusdm.targets.milvus.server.waiting import pause_after

        began, are_running = time.monotonic(), sync_to_async(self._are_running, thread_sensitive=False)
        await asyncio.sleep(self.seconds)
        while self.jobs and (waited := time.monotonic() - began) < self.MAX_SECONDS and await are_running():
            await asyncio.sleep(pause_after(waited, self.seconds))
        yield TriggerEvent({"jobs": list(self.jobs)})  # type: ignore[no-untyped-call]

    def _are_running(self) -> bool:
        from airflow_provider_milvusdm.targets.milvus.server.import_jobs import are_running

        try:
            with MilvusHook(**self.hook).client() as client:
                return are_running(client, self.collection, self.jobs)
        except Exception:
            self.log.exception("could not read the state of import jobs %s", self.jobs)
            return False
