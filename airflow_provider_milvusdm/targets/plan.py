"""Plan: each selected collection with everything that was resolved of it, and its names in the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.manifests import CollectionPlan, PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.collections import (
    DEFAULT_PARTITION,
    PARTITION_TAG,
    TargetCollection,
)
from airflow_provider_milvusdm.targets.aliases import behind_alias, read_aliases
from airflow_provider_milvusdm.targets.names import refuse_names_of_others, target_names

Group = TypeVar("Group", PartitionGroup, ResolvedGroup)


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
    """A plan for each collection of ``groups``; a collection that was not fully resolved gets an error instead.

    ``faults``: why groups were not resolved, by collection. ``auto_id``: ``keep`` has the target make ids for new rows
    where the source's server made them, ``off`` does not. ``alias``: by collection, or a text where there is only one.
    Raises ConfigurationError where two collections would get the same name, or where ``rename`` or ``alias`` names a
    collection that is not migrated.
    """
    if any(group.share for group in groups):
        from airflow_provider_milvusdm.rows.join_shares import find_mixed_policies, join_shares

        mixed = find_mixed_policies(resolved)
        faults = {**mixed, **faults}
        groups, resolved = join_shares(groups, [group for group in resolved if group.name not in mixed])
    asked, found = _by_name(groups), _by_name(resolved)
    tags = {name: _tags(of_name) for name, of_name in asked.items()}
    _check_rename(rename, tags)
    names = target_names(tags, rename, "collection")
    targets = {
        name: TargetCollection(names[name], id_field, vector_field, **_rows(of_name, found.get(name, ()), auto_id))
        for name, of_name in asked.items()
    }
    aliases = read_aliases(alias, names)
    plans = (
        _plan(target, asked[name], found.get(name, ()), faults.get(name, ""), rename)
        for name, target in targets.items()
    )
    return [behind_alias(plan, aliases.get(plan.name, "")) for plan in plans]


def refuse_unsaved(plan: CollectionPlan) -> None:
    """Raises ConfigurationError if a dry run has excluded rows, which it saves nowhere."""
    if plan.unsaved:
        raise ConfigurationError(
            f"the rows that resolve_ids excluded from collection {plan.name!r} were not saved: dry_run was true",
            expected="a file of them in skipped_rows_dir",
            found=f"{plan.unsaved} rows in no file",
            cure="Clear the whole run, or start a new one.",
        )


def _by_name(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """The groups of each collection."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.name, []).append(group)
    return found


def _rows(groups: Sequence[PartitionGroup], resolved: Sequence[ResolvedGroup], auto_id: str) -> dict[str, Any]:
    """The fields of TargetCollection that say what ids and partitions the rows of a collection have."""
    own_keys = any(group.own_keys for group in resolved)
    generated = any(group.collection and group.collection.generated_ids for group in groups)
    return {
        "ids_by_target": any(group.source.options.get("ids") == "auto" for group in groups),
        "own_keys": own_keys,
        "partition_field": PARTITION_TAG if any(group.one_key_space for group in groups) else "",
        "accepts_new_ids": generated and auto_id == "keep" and not own_keys,
    }


def _plan(
    target: TargetCollection,
    groups: Sequence[PartitionGroup],
    resolved: Sequence[ResolvedGroup],
    fault: str,
    rename: Mapping[str, str],
) -> CollectionPlan:
    first, name = groups[0], groups[0].name
    partitions = tuple(partition for group in resolved for partition in group.partitions)
    own_tags = [partition.tag for partition in partitions]
    found = set(own_tags)
    missing = [tag for tag in _tags(groups) if tag not in found]
    if first.collection is None or missing:
        return CollectionPlan(name, target, error=first.error or fault or _not_resolved(name, missing))
    try:
        if target.partition_field:
            partition_names = _tags_as_they_are(name, own_tags, rename)
        else:
            partition_names = _partition_names(name, own_tags, rename)
            refuse_names_of_others(partition_names, first.other_tags, rename, "partition", f"{name}/")
    except ConfigurationError as error:
        return CollectionPlan(name, target, error=str(error), refused=True)
    units = tuple(unit for group in resolved for unit in group.units)
    return CollectionPlan(
        name=name,
        target=target,
        source=first.source,
        collection=first.collection,
        whole=first.whole,
        renamed=name in rename,
        mapped_tags=tuple(
            tag for tag, target in partition_names.items() if tag != target and f"{name}/{tag}" not in rename
        ),
        partitions=partitions,
        partition_names=partition_names,
        units=units,
        unit_bytes=first.unit_bytes,
        notes=first.notes + tuple(note for partition in partitions for note in partition.notes),
    )


def _tags(groups: Sequence[PartitionGroup]) -> list[str]:
    return [partition.tag for group in groups for partition in group.partitions]


def _not_resolved(name: str, missing: Sequence[str]) -> str:
    tags = ", ".join(missing)
    return f"partitions {tags} of collection {name!r} were not resolved: the log of the resolve step says why"


def _partition_names(name: str, tags: Sequence[str], rename: Mapping[str, str]) -> dict[str, str]:
    """Target partitions by tag; ``_default`` always exists, so no other tag may be mapped to it."""
    mapped = target_names(
        [DEFAULT_PARTITION, *(tag for tag in tags if tag != DEFAULT_PARTITION)], rename, "partition", f"{name}/"
    )
    return {tag: mapped[tag] for tag in tags}


def _tags_as_they_are(name: str, tags: Sequence[str], rename: Mapping[str, str]) -> dict[str, str]:
    renamed = [f"{name}/{tag}" for tag in tags if f"{name}/{tag}" in rename]
    if renamed:
        raise ConfigurationError(
            "rename names partitions that do not become partitions in the target",
            expected=f"none of them: their tags are stored in the field {PARTITION_TAG} (partitions: partition_key)",
            found=", ".join(renamed),
            cure="Remove them from rename.",
        )
    return {tag: tag for tag in tags}


def _check_rename(rename: Mapping[str, str], tags: Mapping[str, Sequence[str]]) -> None:
    known = {*tags, *(f"{name}/{tag}" for name, of_name in tags.items() for tag in of_name)}
    unreadable = tuple(f"{name}/" for name, of_name in tags.items() if not of_name)
    unknown = sorted(name for name in set(rename) - known if not name.startswith(unreadable))
    if unknown:
        raise ConfigurationError(
            "rename names collections or partitions that are not migrated",
            expected="collections, or collection/partition, of this run",
            found=", ".join(unknown),
            cure="Correct rename.",
        )
