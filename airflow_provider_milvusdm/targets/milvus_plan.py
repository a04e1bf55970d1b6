"""Plan: every collection asked for, with all that was resolved of it, under the names it gets in the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.targets.milvus_alias import behind_alias, read_aliases
from airflow_provider_milvusdm.targets.milvus_schema import target_names
from airflow_provider_milvusdm.vectors import (
    DEFAULT_PARTITION,
    CollectionPlan,
    PartitionGroup,
    ResolvedGroup,
    TargetCollection,
)


def plan_collections(
    groups: Sequence[PartitionGroup],
    resolved: Sequence[ResolvedGroup],
    faults: Mapping[str, str],
    *,
    rename: Mapping[str, str],
    id_field: str = "id",
    vector_field: str = "embedding",
    alias: Mapping[str, str] | str | None = None,
) -> list[CollectionPlan]:
    """A plan for each collection of ``groups``; one that was not resolved entirely gets its error instead.

    ``faults``: what the resolve tasks said, by collection. ``alias``: by collection, or of the only one. Raises
    ConfigurationError when two collections would get one name, or ``rename`` or ``alias`` names what is not migrated.
    """
    tags = {name: _tags(groups, name) for name in dict.fromkeys(group.name for group in groups)}
    _check_rename(rename, tags)
    names = target_names(tags, rename, "collection")
    made = {group.name for group in groups if group.source.options.get("ids") == "auto"}
    own_keys = {group.name for group in resolved if group.own_keys}
    targets = {
        name: TargetCollection(names[name], id_field, vector_field, auto_id=name in made, own_keys=name in own_keys)
        for name in tags
    }
    aliases = read_aliases(alias, names)
    plans = (_plan(name, target, groups, resolved, faults, rename) for name, target in targets.items())
    return [behind_alias(plan, aliases.get(plan.name, "")) for plan in plans]


def _plan(
    name: str,
    target: TargetCollection,
    groups: Sequence[PartitionGroup],
    resolved: Sequence[ResolvedGroup],
    faults: Mapping[str, str],
    rename: Mapping[str, str],
) -> CollectionPlan:
    first = next(group for group in groups if group.name == name)
    found = [group for group in resolved if group.name == name]
    partitions = tuple(partition for group in found for partition in group.partitions)
    missing = [tag for tag in _tags(groups, name) if tag not in {partition.tag for partition in partitions}]
    if first.collection is None or missing:
        return CollectionPlan(name, target, error=first.error or faults.get(name) or _not_resolved(name, missing))
    try:
        partition_names = _partition_names(name, [partition.tag for partition in partitions], rename)
    except ConfigurationError as error:
        return CollectionPlan(name, target, error=str(error))
    units = tuple(unit for group in found for unit in group.units)
    return CollectionPlan(
        name=name,
        target=target,
        source=first.source,
        collection=first.collection,
        whole=first.whole,
        partitions=partitions,
        partition_names=partition_names,
        units=units,
        notes=first.notes + tuple(note for partition in partitions for note in partition.notes),
    )


def _tags(groups: Sequence[PartitionGroup], name: str) -> list[str]:
    return [partition.tag for group in groups if group.name == name for partition in group.partitions]


def _not_resolved(name: str, missing: Sequence[str]) -> str:
    return f"partitions {', '.join(missing)} of collection {name!r} were not resolved: see the log of resolve_ids"


def _partition_names(name: str, tags: Sequence[str], rename: Mapping[str, str]) -> dict[str, str]:
    """Target partitions by tag; ``_default`` is always there, so nothing else may be mapped to it."""
    mapped = target_names(
        [DEFAULT_PARTITION, *(tag for tag in tags if tag != DEFAULT_PARTITION)], rename, "partition", f"{name}/"
    )
    return {tag: mapped[tag] for tag in tags}


def _check_rename(rename: Mapping[str, str], tags: Mapping[str, Sequence[str]]) -> None:
    known = {*tags, *(f"{name}/{tag}" for name, of_name in tags.items() for tag in of_name)}
    unreadable = tuple(f"{name}/" for name, of_name in tags.items() if not of_name)
    unknown = sorted(name for name in set(rename) - known if not name.startswith(unreadable))
    if unknown:
        raise ConfigurationError(
            "rename names what is not migrated",
            expected="collections, or collection/partition, of this run",
            found=", ".join(unknown),
            cure="Correct rename.",
        )
