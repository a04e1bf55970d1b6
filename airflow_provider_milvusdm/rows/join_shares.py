"""Join what several tasks resolved of a partition: the manifests are those that one task would make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.manifests import (
    DuplicateCounts,
    PartitionGroup,
    ResolvedGroup,
    ResolvedShare,
    ResolvedSlice,
)
from airflow_provider_milvusdm.model.mask import RowMask
from airflow_provider_milvusdm.rows.key_ranges import KeyRanges, one_range
from airflow_provider_milvusdm.rows.key_space import duplicate_notes
from airflow_provider_milvusdm.rows.live_rows import join_ranges
from airflow_provider_milvusdm.rows.partition import count_unsaved, skipped_notes
from airflow_provider_milvusdm.rows.resolved import PartitionRows, resolved_group

Group = TypeVar("Group", PartitionGroup, ResolvedGroup)
Place = tuple[str, str]
"""The collection and the first partition of a group."""


def join_shares(
    groups: Iterable[PartitionGroup], resolved: Iterable[ResolvedGroup]
) -> tuple[list[PartitionGroup], list[ResolvedGroup]]:
    """The groups as if no partition had been divided into shares, and what was resolved of them.

    A partition of which a share is missing was not resolved.
    """
    whole = [_join_groups(shares) for shares in _by_partition(groups, _of_group)]
    found = {_of_resolved(shares[0]): shares for shares in _by_partition(resolved, _of_resolved)}
    return whole, [result for group in whole for result in _join_resolved(group, found.get(_of_group(group), []))]


def find_mixed_policies(resolved: Iterable[ResolvedGroup]) -> dict[str, str]:
    """By collection: why shares of one partition can't be joined that were resolved with different policies.

    A row may be excluded as a duplicate of one that another share excludes because of its vector, or get a new key
    while others keep their ids.
    """
    found = {}
    for shares in _by_partition(resolved, _of_resolved):
        policies = sorted({(group.duplicate_ids, group.share.invalid_vectors) for group in shares if group.share})
        if len(policies) > 1:
            name, tag = _of_resolved(shares[0])
            found[name] = str(_mixed_policies(name, tag, policies))
    return found


def _mixed_policies(name: str, tag: str, policies: Iterable[tuple[str, str]]) -> ConfigurationError:
    return ConfigurationError(
        f"the shares of partition {tag!r} of collection {name!r} were resolved with different policies",
        expected="the same duplicate_ids and invalid_vectors in all resolve_ids tasks of a partition",
        found=", ".join(f"{duplicates} and {vectors}" for duplicates, vectors in policies),
        cure="The params were edited between these tasks: clear all tasks of resolve_ids, and those that follow, or "
        "start a new run.",
    )


def _of_group(group: PartitionGroup) -> Place:
    return group.name, group.partitions[0].tag if group.partitions else ""


def _of_resolved(group: ResolvedGroup) -> Place:
    return group.name, group.share.partition if group.share else group.partitions[0].tag if group.partitions else ""


def _by_partition(groups: Iterable[Group], place: Callable[[Group], Place]) -> Iterable[list[Group]]:
    """The groups by their places, shares in order."""
    found: dict[Place, list[Group]] = {}
    for group in groups:
        found.setdefault(place(group), []).append(group)
    return [sorted(shares, key=lambda group: group.share.number if group.share else 0) for shares in found.values()]


def _join_groups(shares: Sequence[PartitionGroup]) -> PartitionGroup:
    """The group that was divided into these shares."""
    if shares[0].share is None:
        return shares[0]
    partitions = tuple(
        replace(parts[0], segments=tuple(segment for part in parts for segment in part.segments))
        for parts in zip(*(share.partitions for share in shares), strict=True)
    )
    return replace(shares[0], partitions=partitions, share=None)


def _join_resolved(group: PartitionGroup, resolved: Sequence[ResolvedGroup]) -> list[ResolvedGroup]:
    shares = [found.share for found in resolved if found.share]
    if not shares or group.collection is None:
        return list(resolved)
    if [share.number for share in shares] != list(range(1, shares[0].count + 1)):
        return []
    policy = resolved[0].duplicate_ids
    return [resolved_group(group, group.collection, list(_partitions(group, shares, policy)), policy)]


def _partitions(group: PartitionGroup, shares: Sequence[ResolvedShare], policy: str) -> Iterator[PartitionRows]:
    """The rows of all partitions of a group."""
    segments = _join_slices(shares)
    masks = _join_masks(shares, segments)
    by_tag: dict[str, list[ResolvedSlice]] = {}
    for segment in segments:
        by_tag.setdefault(segment.row_slice.partition, []).append(segment)
    id_range = join_ranges(share.id_range for share in shares)
    tags = [partition.tag for partition in group.partitions]
    notes = list(duplicate_notes(_add_counts(shares), tags, policy))
    for spec in group.partitions:
        skipped = [count for share in shares for count in share.skipped]
        yield PartitionRows(
            spec,
            found := by_tag.get(spec.tag, []),
            {name: masks[name] for segment in found if (name := segment.row_slice.segment) in masks},
            _join_key_ranges(spec.tag, shares),
            id_range,
            [*skipped_notes(spec.tag, skipped), *notes],
            count_unsaved(spec.tag, skipped),
        )
        notes = []


def _join_slices(shares: Iterable[ResolvedShare]) -> list[ResolvedSlice]:
    """The segments, of the parts of them that the shares have in order."""
    segments: list[ResolvedSlice] = []
    for part in (part for share in shares for part in share.slices):
        if not part.row_slice.start:
            segments.append(part)
            continue
        begun = segments[-1]
        checksum = (int(begun.checksum) + int(part.checksum)) % 2**64
        row_slice = replace(begun.row_slice, stop=part.row_slice.stop)
        segments[-1] = replace(begun, row_slice=row_slice, checksum=str(checksum))
    return segments


def _join_masks(shares: Iterable[ResolvedShare], segments: Iterable[ResolvedSlice]) -> dict[str, RowMask]:
    """By segment: the rows that any share excludes."""
    rows = {segment.row_slice.segment: segment.row_slice.stored_rows for segment in segments}
    masks: dict[str, RowMask] = {}
    for name, text in (item for share in shares for item in share.excluded.items()):
        mask = RowMask.from_text(text, rows[name])
        masks.setdefault(name, mask).join(mask)
    return masks


def _join_key_ranges(tag: str, shares: Iterable[ResolvedShare]) -> KeyRanges:
    """The ranges of a partition's keys; no share has them where it has no rows."""
    texts = [share.key_ranges[tag] for share in shares if tag in share.key_ranges]
    joined = KeyRanges.from_text(texts[0]) if texts else one_range()
    for text in texts[1:]:
        joined.join(KeyRanges.from_text(text))
    return joined


def _add_counts(shares: Iterable[ResolvedShare]) -> DuplicateCounts:
    counts = [share.duplicates for share in shares]
    return DuplicateCounts(
        sum(count.remapped for count in counts),
        sum(count.different for count in counts),
        sum(count.elsewhere for count in counts),
        sum(count.same for count in counts),
    )
