"""The steps of a migration one after another, without Airflow: what its tasks call, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

from airflow_provider_milvusdm.config import parse_selection
from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.manifest import from_json, to_json
from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.sources.milvus1x_catalog import Catalog, read_sqlite_catalog
from airflow_provider_milvusdm.sources.milvus1x_inspect import inspect_catalog
from airflow_provider_milvusdm.sources.resolve import resolve_group
from airflow_provider_milvusdm.targets.milvus_collection import create_collection
from airflow_provider_milvusdm.targets.milvus_plan import plan_collections
from airflow_provider_milvusdm.targets.milvus_units import address_units
from airflow_provider_milvusdm.targets.milvus_verify import verify_collection
from airflow_provider_milvusdm.targets.milvus_writer import load_unit


@dataclass
class Chain:
    """A migration of `directory` into `client`; what its tasks keep between attempts stays in `stores`."""

    directory: Path
    client: MilvusClient
    catalog: Catalog | None = None
    unit_bytes: int = 256 << 20
    most_tasks: int = 1024
    stores: dict[str, dict[str, Any]] = field(default_factory=dict)

    def plan(self, selection: Any = "*", rename: Mapping[str, str] | None = None, **names: str) -> list[Any]:
        catalog = self.catalog or read_sqlite_catalog(self.directory / "db" / "meta.sqlite")
        groups = inspect_catalog(
            catalog,
            self.directory / "db" / "tables",
            self.directory / "wal",
            parse_selection(selection),
            unit_bytes=self.unit_bytes,
            most_tasks=self.most_tasks,
        )
        groups, resolved, faults = [_through_json(group) for group in groups], [], {}
        for group in groups:
            try:
                resolved.append(_through_json(resolve_group(group)))
            except MilvusdmError as fault:
                faults[group.name] = str(fault)
        return [
            _through_json(plan)
            for plan in plan_collections(groups, resolved, faults, rename=rename or {}, **names)
        ]

    def create(self, plans: Sequence[Any], mode: str = "skip") -> tuple[list[Any], dict[str, list[str]]]:
        created, faults = [], {}
        for plan in plans:
            try:
                created.append(_through_json(create_collection(self.client, plan, mode)))
            except MilvusdmError as fault:
                faults[plan.name] = [str(fault)]
        return created, faults

    def load(self, plans: Sequence[Any], created: Sequence[Any]) -> list[Any]:
        units = [_through_json(unit) for unit in address_units(plans, created)]
        return [load_unit(self.client, unit, self._store(number)) for number, unit in enumerate(units)]

    def run(
        self,
        selection: Any = "*",
        mode: str = "skip",
        rename: Mapping[str, str] | None = None,
        **options: Any,
    ) -> dict[str, CollectionReport]:
        """All steps; the reports by collection. Options are those of `verify_collection`."""
        plans = self.plan(selection, rename)
        created, faults = self.create(plans, mode)
        loaded = self.load(plans, created)
        made = {one.name: one for one in created}
        return {
            plan.name: _through_json(
                verify_collection(
                    self.client,
                    plan,
                    made.get(plan.name),
                    [load for load in loaded if load.collection == plan.name],
                    faults.get(plan.name, ()),
                    **options,
                )
            )
            for plan in plans
        }

    def _store(self, number: int) -> Any:
        return _Store(self.stores.setdefault(str(number), {}))


class _Store:
    """A checkpoint store in memory, of JSON values only."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


def _through_json(manifest: Any) -> Any:
    return from_json(type(manifest), to_json(manifest))
