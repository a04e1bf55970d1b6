"""Plan: every collection asked for, with all that was resolved of it, under the names it gets in the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.manifests import CollectionPlan, PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.collections import (
    DEFAULT_PARTITION,
    PARTITION_TAG,
    SourcePosition,
    TargetCollection,
)
from airflow_provider_milvusdm.targets.aliases import behind_alias, read_aliases
from airflow_provider_milvusdm.targets.names import target_names


def plan_collections(
    groups: Sequence[PartitionGroup],
    resolved: Sequence[ResolvedGroup],
    faults: Mapping[str, str],
    *,
    rename: Mapping[str, str],
    id_field: str = "id",
    vector_field: str = "embedding",
    auto_id: str = "keep",
    alias: Mapping[str, str] | str | None = None,
) -> list[CollectionPlan]:
    """A plan for each collection of ``groups``; one that was not resolved entirely gets its error instead.

    ``auto_id``: ``keep`` has the target go on making ids where the source's server made them, ``off`` does not.
    ``faults``: what the resolve tasks said, by collection. ``alias``: by collection, or of the only one. Raises
    ConfigurationError when two collections would get one name, or ``rename`` or ``alias`` names what is not migrated.
    """
    tags = {name: _tags(groups, name) for name in dict.fromkeys(group.name for group in groups)}
    _check_rename(rename, tags)
    names = target_names(tags, rename, "collection")
    targets = {
        name: TargetCollection(names[name], id_field, vector_field, **_rows(name, groups, resolved, auto_id))
        for name in tags
    }
    aliases = read_aliases(alias, names)
    plans = (_plan(name, target, groups, resolved, faults, rename) for name, target in targets.items())
    return [behind_alias(plan, aliases.get(plan.name, "")) for plan in plans]


def _rows(
    name: str, groups: Sequence[PartitionGroup], resolved: Sequence[ResolvedGroup], auto_id: str
) -> dict[str, Any]:
    """What the rows of a collection have for ids and partitions, as fields of TargetCollection."""
    of_name = [group for group in groups if group.name == name]
    own_keys = any(group.own_keys for group in resolved if group.name == name)
    generated = any(group.collection and group.collection.generated_ids for group in of_name)
    return {
        "ids_by_target": any(group.source.options.get("ids") == "auto" for group in of_name),
        "own_keys": own_keys,
        "partition_field": PARTITION_TAG if any(group.one_key_space for group in of_name) else "",
        "accepts_new_ids": generated and auto_id == "keep" and not own_keys,
    }


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
        own_tags = [partition.tag for partition in partitions]
        partition_names = (_tags_as_they_are if target.partition_field else _partition_names)(name, own_tags, rename)
    except ConfigurationError as error:
        return CollectionPlan(name, target, error=str(error))
    units = tuple(unit for group in found for unit in group.units)
    return CollectionPlan(
        name=name,
        target=target,
        source=first.source,
        collection=first.collection,
        whole=first.whole,
        named=target.name == name or name in rename,
        partitions=partitions,
        partition_names=partition_names,
        units=units,
        position=_position(first, found, own_tags, target, rename),
        notes=first.notes + tuple(note for partition in partitions for note in partition.notes),
    )


def _position(
    group: PartitionGroup,
    resolved: Sequence[ResolvedGroup],
    tags: Sequence[str],
    target: TargetCollection,
    rename: Mapping[str, str],
) -> SourcePosition | None:
    """The source's position; its history tells rows that were chosen or placed otherwise from these.

    None where a merge may have made another row the first of its id: one that no load has seen, in a segment of before.
    """
    if group.position is None or any(map(_kept_firsts, resolved)):
        return None
    renamed = sorted((name, other) for name, other in rename.items() if name.startswith(f"{group.name}/"))
    asked = None if group.whole else sorted(tags)
    policies = sorted({one.duplicate_ids for one in resolved})
    chosen = (group.position.history, asked, renamed, policies, target.partition_field)
    return replace(group.position, history=blake2b(repr(chosen).encode(), digest_size=8).hexdigest())


def _kept_firsts(group: ResolvedGroup) -> bool:
    """Whether of several rows of an id the first was chosen."""
    return group.duplicate_ids == "keep_first" and any(partition.excluded for partition in group.partitions)


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


def _tags_as_they_are(name: str, tags: Sequence[str], rename: Mapping[str, str]) -> dict[str, str]:
    renamed = [f"{name}/{tag}" for tag in tags if f"{name}/{tag}" in rename]
    if renamed:
        raise ConfigurationError(
            "rename names partitions that become no partitions",
            expected=f"none: their tags are kept in the field {PARTITION_TAG} as they are (partitions: partition_key)",
            found=", ".join(renamed),
            cure="Leave them out of rename.",
        )
    return {tag: tag for tag in tags}


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
