"""Load units of the collections that were created, with the names of the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.units import LoadUnit, number_units
from airflow_provider_milvusdm.sources.registry import narrow_source


def address_units(plans: Sequence[CollectionPlan], created: Sequence[CreatedCollection]) -> list[LoadUnit]:
    """The units of all collections, without the partitions that are left as they are."""
    made = {collection.name: collection for collection in created}
    units = (unit for plan in plans if plan.name in made for unit in collection_units(plan, made[plan.name]))
    return [replace(unit, source=narrow_source(unit.source, unit.slices)) for unit in number_units(list(units))]


def collection_units(plan: CollectionPlan, created: CreatedCollection) -> Iterator[LoadUnit]:
    """The units of one collection: those to load."""
    return _address(plan, created, plan.units if created.units is None else created.units)


def all_rows(plan: CollectionPlan, created: CreatedCollection) -> Iterator[LoadUnit]:
    """The units of all rows that the target holds in the end, including those that it holds already."""
    return _address(plan, created, plan.units)


def loaded_into(plan: CollectionPlan, created: CreatedCollection) -> TargetCollection:
    """The target under the name that it has while it is loaded."""
    return replace(plan.target, name=created.own_name or plan.target.name)


def _address(plan: CollectionPlan, created: CreatedCollection, units: Iterable[LoadUnit]) -> Iterator[LoadUnit]:
    migration = plan.fingerprint
    for unit in units:
        slices = tuple(
            replace(row_slice, partition=plan.partition_names[row_slice.partition])
            for row_slice in unit.slices
            if plan.partition_names[row_slice.partition] in created.before
        )
        if slices:
            yield replace(
                unit,
                slices=slices,
                target=loaded_into(plan, created),
                migration=migration,
                generation=created.generation,
                published=plan.target.name if created.own_name else "",
                upsert=created.upsert,
            )
