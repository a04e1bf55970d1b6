"""The kinds of targets, as the contract of all targets sees them: a new target is one more class here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import h5py
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.targets.hdf5 import export
from airflow_provider_milvusdm.targets.hdf5.run_folder import marker_of, write_marker
from airflow_provider_milvusdm.targets.hdf5.verify import verify_export
from airflow_provider_milvusdm.targets.milvus.load import writer
from tests.support.chain import Chain, inspect_directory, plan_groups
from tests.support.collections_2x import make_collection, stored
from tests.support.directories import random_rows
from tests.support.killed import KilledError

Rows: TypeAlias = dict[int, bytes]
"""Vectors by id."""


class Run(Protocol):
    """A run of a migration whose target is prepared for the first row."""

    def load(self) -> None:
        """Load all rows; a second call is a retry of the load tasks."""

    def verify(self) -> Mapping[str, CollectionReport]:
        """The reports by collection; those that are verified are finished."""


class Target(Protocol):
    """A target that is empty at first."""

    has_binary_vectors: bool
    loader: ModuleType
    """The module of the package that reads batches with ``read_slices`` and writes them."""

    def start(self, directory: Path) -> Run:
        """Prepare the migration of a Milvus 1.x directory; rows are added to collections that exist."""

    def set_batch_rows(self, patch: pytest.MonkeyPatch, rows: int) -> None:
        """Set the number of rows in a batch."""

    def rows(self, collection: str) -> dict[str, Rows]:
        """What a finished collection holds, by partition."""

    def is_finished(self, collection: str, partitions: Sequence[str]) -> bool:
        """Whether readers would take these partitions for finished."""

    def obstruct(self, collection: str) -> None:
        """Put something else in the place of the collection, into which its rows do not fit."""

    def contents(self) -> Any:
        """Everything that the target holds, as a value to compare."""


def kill_before_batch(target: Target, patch: pytest.MonkeyPatch, batch: int) -> None:
    """Have loads end as if killed, before that batch of a run (the first is 0) is written."""
    read_slices, batches = target.loader.read_slices, iter(range(batch))

    def read_until_killed(*arguments: Any) -> Any:
        for found in read_slices(*arguments):
            if next(batches, None) is None:
                raise KilledError
            yield found

    patch.setattr(target.loader, "read_slices", read_until_killed)


class MilvusRun:
    def __init__(self, client: MilvusClient, directory: Path) -> None:
        self.chain = Chain(directory, client, id_scope="partition")
        self.plans = self.chain.plan()
        self.created, self.faults = self.chain.create(self.plans, "append")
        self.loaded: list[Any] = []

    def load(self) -> None:
        self.loaded = self.chain.load(self.plans, self.created)

    def verify(self) -> Mapping[str, CollectionReport]:
        return self.chain.verify(self.plans, self.created, self.loaded, self.faults)


class MilvusTarget:
    """Milvus 2.x: a server, or a Milvus Lite file."""

    loader = writer

    def __init__(self, client: MilvusClient, *, has_binary_vectors: bool) -> None:
        self.client, self.has_binary_vectors = client, has_binary_vectors

    def start(self, directory: Path) -> Run:
        return MilvusRun(self.client, directory)

    def set_batch_rows(self, patch: pytest.MonkeyPatch, rows: int) -> None:
        patch.setattr(writer, "BATCH_ROWS", rows)

    def rows(self, collection: str) -> dict[str, Rows]:
        return stored(self.client, collection)

    def is_finished(self, collection: str, partitions: Sequence[str]) -> bool:
        return self.client.has_collection(collection)

    def obstruct(self, collection: str) -> None:
        make_collection(self.client, collection, {"_default": random_rows([1], 1)}, loaded=True)

    def contents(self) -> Any:
        return {
            name: (self.client.describe_collection(name), self.rows(name)) for name in self.client.list_collections()
        }


class Hdf5Run:
    def __init__(self, directory: Path, folder: Path) -> None:
        self.plans = plan_groups(inspect_directory(directory))
        self.marker = marker_of(folder, [path.name for path in folder.glob(".milvusdm-*")])
        self.units = export.export_units(self.plans, self.marker)
        self.exported: list[Any] = []
        self.faults: list[str] = []

    def load(self) -> None:
        if self.units:
            write_marker(self.marker)
        try:
            self.exported = [export.export_partition(unit) for unit in self.units]
        except OSError as error:
            self.faults = [str(error)]

    def verify(self) -> Mapping[str, CollectionReport]:
        return {
            plan.name: verify_export(
                plan, [file for file in self.exported if file.collection == plan.name], self.faults
            )
            for plan in self.plans
        }


class Hdf5Target:
    """A folder of HDF5 files, one for each partition."""

    has_binary_vectors = True
    loader = export

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def start(self, directory: Path) -> Run:
        return Hdf5Run(directory, self.folder)

    def set_batch_rows(self, patch: pytest.MonkeyPatch, rows: int) -> None:
        patch.setattr(export, "rows_within", lambda collection: rows)

    def rows(self, collection: str) -> dict[str, Rows]:
        return {path.stem: _read_rows(path) for path in (self.folder / collection).glob("*.h5")}

    def is_finished(self, collection: str, partitions: Sequence[str]) -> bool:
        return all((self.folder / collection / f"{partition}.h5").exists() for partition in partitions)

    def obstruct(self, collection: str) -> None:
        (self.folder / collection).write_text("a file where the folder belongs")

    def contents(self) -> Any:
        """All files but the marker of the run."""
        return {path: path.read_bytes() for path in self.folder.rglob("[!.]*") if path.is_file()}


def _read_rows(path: Path) -> Rows:
    with h5py.File(path) as file:
        ids, vectors = file["ids"][:], file["embeddings"][:]
    rows = {int(row_id): vector.tobytes() for row_id, vector in zip(ids, vectors, strict=True)}
    assert len(rows) == len(ids), f"{path} holds an id twice"
    return rows
