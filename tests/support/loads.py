"""Loads in processes of their own, like those of a worker, which are suspended and continue later."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.manifests import from_json, to_json
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.targets.milvus import fence
from airflow_provider_milvusdm.targets.milvus.load import writer
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit
from tests.support.bulk_imports import FileStore
from tests.support.processes import wait_until
from tests.support.targets import milvus_client

MAX_SECONDS = 60
REQUEST_SECONDS = 6
"""Timeout of a request of such a process; on a busy machine a server takes more than a second for one."""


class TryStore(FileStore):
    """The state of one try of a task, in a file: Airflow passes it to the next try, and hides it from the former."""

    def __init__(self, folder: Path, number: int = 1) -> None:
        super().__init__(folder / f"{number}.json")
        self.folder, self.number = folder, number

    def values(self) -> dict[str, Any]:
        return {} if (self.folder / f"{self.number + 1}.json").exists() else super().values()

    def given_up(self) -> TryStore:
        """That of the next try."""
        following = TryStore(self.folder, self.number + 1)
        shutil.copyfile(self.path, following.path)
        return following


@dataclass(frozen=True)
class Sleeper:
    """A process that loads a unit, and its checkpoints."""

    process: subprocess.Popen[str]
    unit: LoadUnit
    store: TryStore

    def stop(self, rows: int, then: Callable[[], object] = bool) -> None:
        """Suspend it as soon as that many rows are in the target and `then` was called."""
        wait_until(lambda: self._rows() >= rows, MAX_SECONDS, lambda: f"{self._rows()} of {rows} rows", pause=0.005)
        then()
        os.kill(self.process.pid, signal.SIGSTOP)
        assert self._rows() < self.unit.stored_rows

    def wake(self) -> str:
        """Let it continue to its end; returns its output: a traceback where it ends with an error."""
        os.kill(self.process.pid, signal.SIGCONT)
        _, said = self.process.communicate(timeout=MAX_SECONDS)
        return said

    def _rows(self) -> int:
        return int(self.store.values().get("checkpoint", {}).get("done", 0))


@contextmanager
def loading(uri: str, unit: LoadUnit, store: TryStore, batch_bytes: int) -> Iterator[Sleeper]:
    """A process that loads `unit`, with a checkpoint for each request, while the block runs."""
    command = [sys.executable, "-m", __name__, uri, str(store.folder), str(batch_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin
        json.dump(to_json(unit), process.stdin)
        process.stdin.close()
        process.stdin = None  # `communicate` would flush it
        try:
            yield Sleeper(process, unit, store)
        finally:
            process.kill()


def main() -> None:
    """Load a unit, given as JSON on standard input."""
    uri, folder, batch_bytes = sys.argv[1:]
    unit = from_json(LoadUnit, json.load(sys.stdin))
    fence.REQUEST_SECONDS = REQUEST_SECONDS
    writer.BATCH_BYTES, writer.STRIDE_BATCHES = int(batch_bytes), 1
    with milvus_client(uri) as client:
        load_unit(client, unit, TryStore(Path(folder)))


if __name__ == "__main__":
    main()
