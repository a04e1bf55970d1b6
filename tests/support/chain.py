"""The steps of a migration one after another, without Airflow: what its tasks call, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

from airflow_provider_milvusdm.config.target_settings import TargetSettings
from airflow_provider_milvusdm.config.validation import parse_selection
from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.manifests import CollectionPlan, PartitionGroup, from_json, to_json
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.milvus1x.catalog import Catalog
from airflow_provider_milvusdm.sources.milvus1x.changes import find_changes
from airflow_provider_milvusdm.sources.milvus1x.inspect import inspect_catalog
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog
from airflow_provider_milvusdm.targets.hdf5.export import export_partition, export_units
from airflow_provider_milvusdm.targets.hdf5.run_folder import marker_of, write_marker
from airflow_provider_milvusdm.targets.hdf5.verify import verify_export
from airflow_provider_milvusdm.targets.milvus.load.bulk_import import load_unit_by
from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from airflow_provider_milvusdm.targets.milvus.verify.search import SearchCheck
from airflow_provider_milvusdm.targets.plan import plan_collections


class Steps:
    """The steps after a source was inspected; what load tasks keep between attempts stays in `stores`."""

    client: MilvusClient
    settings: TargetSettings
    policies: RowPolicies
    stores: dict[str, dict[str, Any]]
    id_scope: str

    def groups(self, selection: Any) -> Sequence[PartitionGroup]:
        """What inspecting the source finds."""
        raise NotImplementedError

    def changes(self, selection: Any) -> Mapping[str, str]:
        """What changed in the source since `groups`."""
        return {}

    def plan(self, selection: Any = "*", rename: Mapping[str, str] | None = None, **names: Any) -> list[Any]:
        return plan_groups(self.groups(selection), rename, self.policies, **names)

    def create(
        self, plans: Sequence[Any], mode: str = "skip", **options: Any
    ) -> tuple[list[Any], dict[str, list[str]]]:
        """What was created, and why not; options are those of `create_collection`."""
        created, faults = [], {}
        for plan in plans:
            try:
                settings = self.settings.of(plan.name)
                found = create_collection(self.client, plan, mode, settings, id_scope=self.id_scope, **options)
                created.append(_through_json(found))
            except MilvusdmError as fault:
                faults[plan.name] = [str(fault)]
        return created, faults

    def load(self, plans: Sequence[Any], created: Sequence[Any]) -> list[Any]:
        units = [_through_json(unit) for unit in address_units(plans, created)]
        return [
            load_unit_by("insert", self.client, unit, self._store(number), None) for number, unit in enumerate(units)
        ]

    def run(
        self,
        selection: Any = "*",
        mode: str = "skip",
        rename: Mapping[str, str] | None = None,
        *,
        create_index: bool = True,
        plan_only: bool = False,
        alias: Any = None,
        max_deletions: float = 1,
        verify: str = "sample",
        search: SearchCheck | None = None,
        before_verify: Callable[[], None] = lambda: None,
    ) -> dict[str, CollectionReport]:
        """All steps, and one of the test's own between load and verify; the reports by collection."""
        plans = self.plan(selection, rename, alias=alias)
        options = {"create_index": create_index, "plan_only": plan_only, "max_deletions": max_deletions}
        created, faults = self.create(plans, mode, **options)
        loaded = self.load(plans, created)
        before_verify()
        options = {"verify": verify, "search": search, "create_index": create_index}
        return self.verify(plans, created, loaded, faults, self.changes(selection), **options)

    def verify(
        self,
        plans: Sequence[Any],
        created: Sequence[Any],
        loaded: Sequence[Any],
        faults: Mapping[str, Sequence[str]] | None = None,
        changes: Mapping[str, str] | None = None,
        **options: Any,
    ) -> dict[str, CollectionReport]:
        """The reports by collection; those that are verified have their names. Options: of `verify_collection`."""
        made, faults, changes = {collection.name: collection for collection in created}, faults or {}, changes or {}
        return {
            plan.name: _through_json(
                verify_collection(
                    self.client,
                    plan,
                    made.get(plan.name),
                    [load for load in loaded if load.collection == plan.name],
                    faults.get(plan.name, ()),
                    [changes[plan.name]] if plan.name in changes else [],
                    settings=self.settings.of(plan.name),
                    **options,
                )
            )
            for plan in plans
        }

    def _store(self, number: int) -> Any:
        return _Store(self.stores.setdefault(str(number), {}))


@dataclass
class Chain(Steps):
    """A migration of the Milvus 1.x data in `directory` into `client`."""

    directory: Path
    client: MilvusClient
    catalog: Catalog | None = None
    unit_bytes: int = 256 << 20
    max_tasks: int = 1024
    partitions: str = "keep"
    settings: TargetSettings = field(default_factory=TargetSettings)
    policies: RowPolicies = field(default_factory=RowPolicies)
    stores: dict[str, dict[str, Any]] = field(default_factory=dict)
    id_scope: str = "collection"
    inspected: Sequence[PartitionGroup] = ()

    def groups(self, selection: Any) -> Sequence[PartitionGroup]:
        self.inspected = self._inspect(selection)
        return self.inspected

    def changes(self, selection: Any) -> Mapping[str, str]:
        return find_changes(self.inspected, self._inspect(selection))

    def _inspect(self, selection: Any) -> list[PartitionGroup]:
        return inspect_directory(
            self.directory,
            selection,
            self.catalog,
            unit_bytes=self.unit_bytes,
            max_tasks=self.max_tasks,
            partitions=self.partitions,
        )


@dataclass
class GroupsChain(Steps):
    """A migration of what inspecting any source found into `client`."""

    inspected: Sequence[PartitionGroup]
    client: MilvusClient
    settings: TargetSettings = field(default_factory=TargetSettings)
    policies: RowPolicies = field(default_factory=RowPolicies)
    stores: dict[str, dict[str, Any]] = field(default_factory=dict)
    id_scope: str = "collection"

    def groups(self, selection: Any) -> Sequence[PartitionGroup]:
        return self.inspected


def inspect_directory(
    directory: Path,
    selection: Any = "*",
    catalog: Catalog | None = None,
    *,
    unit_bytes: int = 256 << 20,
    max_tasks: int = 1024,
    **options: str,
) -> list[PartitionGroup]:
    """The groups of a Milvus 1.x directory."""
    return inspect_catalog(
        catalog or read_sqlite_catalog(directory / "db" / "meta.sqlite"),
        directory / "db" / "tables",
        directory / "wal",
        parse_selection(selection),
        unit_bytes=unit_bytes,
        max_tasks=max_tasks,
        **options,
    )


def plan_groups(
    groups: Sequence[PartitionGroup],
    rename: Mapping[str, str] | None = None,
    policies: RowPolicies | None = None,
    **names: Any,
) -> list[CollectionPlan]:
    """Resolve and plan."""
    groups, resolved, faults = [_through_json(group) for group in groups], [], {}
    for group in groups:
        try:
            resolved.append(_through_json(resolve_group(group, policies)))
        except MilvusdmError as fault:
            faults[group.name] = str(fault)
    return [_through_json(plan) for plan in plan_collections(groups, resolved, faults, rename=rename or {}, **names)]


def mark_folder(folder: Path) -> Path:
    """Create the folder of a run if it is not there, and return its marker file."""
    marker = marker_of(folder, [path.name for path in folder.glob(".milvusdm-*")])
    write_marker(marker)
    return marker


def export(groups: Sequence[PartitionGroup], folder: Path) -> dict[str, CollectionReport]:
    """All steps into HDF5 files; the reports by collection."""
    plans = plan_groups(groups)
    units = [_through_json(unit) for unit in export_units(plans, mark_folder(folder))]
    exported = [_through_json(export_partition(unit)) for unit in units]
    return {
        plan.name: _through_json(verify_export(plan, [file for file in exported if file.collection == plan.name]))
        for plan in plans
    }


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
