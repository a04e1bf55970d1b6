"""Steps that are killed: before or after any of their writes and checkpoints."""

from __future__ import annotations

from typing import Any

from pymilvus import MilvusClient

from airflow_provider_milvusdm.targets.milvus_collection import create_collection
from airflow_provider_milvusdm.targets.milvus_writer import Loaded, load_unit
from airflow_provider_milvusdm.vectors import CollectionPlan, CreatedCollection, LoadUnit

WRITES = {
    "insert",
    "upsert",
    "delete",
    "flush",
    "create_collection",
    "drop_collection",
    "drop_index",
    "create_index",
    "create_partition",
    "drop_partition",
    "release_partitions",
    "alter_collection_properties",
}


class KilledError(Exception):
    """Stands for the end of the process."""


class Fuse:
    """Kills at the given moment (0 is never): each write and each checkpoint has one before it and one after."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


class FusedClient:
    """A client of a real target."""

    def __init__(self, client: MilvusClient, fuse: Fuse) -> None:
        self._client, self._fuse = client, fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._fused(method) if name in WRITES else method

    def _fused(self, method: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self._fuse.burn()
            result = method(*arguments, **keywords)
            self._fuse.burn()
            return result

        return call


class Checkpoints(dict[str, Any]):
    """A checkpoint store: `get` is a dictionary's own."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class FusedStore:
    """A checkpoint store over `values`, which outlive it."""

    def __init__(self, values: dict[str, Any], fuse: Fuse) -> None:
        self.values, self.fuse = values, fuse

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.fuse.burn()
        self.values[key] = value
        self.fuse.burn()


def load(client: MilvusClient, unit: LoadUnit, values: dict[str, Any], moment: int = 0) -> Loaded | None:
    """Load `unit`; None where it was killed."""
    fuse = Fuse(moment)
    fused: Any = FusedClient(client, fuse)
    try:
        return load_unit(fused, unit, FusedStore(values, fuse))
    except KilledError:
        return None


def create(client: MilvusClient, plan: CollectionPlan, mode: str, moment: int = 0) -> CreatedCollection | None:
    """Create the target of `plan`; None where it was killed."""
    fused: Any = FusedClient(client, Fuse(moment))
    try:
        return create_collection(fused, plan, mode)
    except KilledError:
        return None
