"""Bulk imports as load tasks do them, without Airflow: a unit is tried again while it waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from pymilvus import MilvusClient

from airflow_provider_milvusdm.manifests import Loaded, from_json, to_json
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
from airflow_provider_milvusdm.targets.milvus.load.bulk_import import Waiting, load_unit_by
from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore
from tests.support.killed import Fuse, FusedStore, KilledError
from tests.support.targets import milvus_client

STAGED, ASKING, ASKED = 2, 3, 4
"""Numbers of notes after which there are files, a job that may have been requested, a job that was."""
BEGUN = "begun\n"


def disk(folder: Path) -> ImportStore:
    """A store on this machine, which a server on it reads too."""
    folder.mkdir(exist_ok=True)
    return ImportStore(LocalFileSystem(), str(folder))


def import_unit(
    client: MilvusClient,
    unit: LoadUnit,
    values: dict[str, Any],
    store: ImportStore,
    moment: int = 0,
    method: str = "bulk_import",
) -> Loaded | None:
    """Load `unit`; None where it was killed at that moment: before or after any of its notes."""
    try:
        return load_to_the_end(method, client, unit, FusedStore(values, Fuse(moment)), store)
    except KilledError:
        return None


def load_to_the_end(
    method: str, client: MilvusClient, unit: LoadUnit, checkpoints: CheckpointStore, store: ImportStore
) -> Loaded:
    """Load `unit`; repeated while it waits for the server."""
    while isinstance(loaded := load_unit_by(method, client, unit, checkpoints, store), Waiting):
        time.sleep(0.2)
    return loaded


class FileStore:
    """A checkpoint store in a file; after some number of notes it ends its process as an operator's `kill -9` does."""

    def __init__(self, path: Path, notes: int = 0) -> None:
        self.path, self.left = path, notes

    def get(self, key: str) -> Any:
        return self.values().get(key)

    def set(self, key: str, value: Any) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.values() | {key: value}))
        new.replace(self.path)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def values(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found


@contextmanager
def importing(uri: str, unit: LoadUnit, folder: str, store: FileStore) -> Iterator[subprocess.Popen[str]]:
    """A process that imports the unit while the block runs."""
    command = [sys.executable, "-m", __name__, uri, folder, str(store.path), str(store.left)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        json.dump(to_json(unit), process.stdin)
        process.stdin.close()
        assert process.stdout.readline() == BEGUN
        yield process


def main() -> None:
    """Import a unit, given as JSON on standard input."""
    uri, folder, values, notes = sys.argv[1:]
    unit = from_json(LoadUnit, json.load(sys.stdin))
    with milvus_client(uri) as client:
        print(BEGUN, end="", flush=True)
        load_to_the_end("bulk_import", client, unit, FileStore(Path(values), int(notes)), disk(Path(folder)))


if __name__ == "__main__":
    main()
