"""Divide large partitions into shares for several resolve tasks. All ids are read for that, and no vector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import CollectionSpec, PartitionSpec, Slice
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.model.shares import Share, count_id_ranges, cut_shares
from airflow_provider_milvusdm.rows.faults import join_faults
from airflow_provider_milvusdm.rows.key_ranges import HIGHEST_KEY, KeySample, divide_keys
from airflow_provider_milvusdm.rows.live_rows import NO_IDS, Ids, join_ranges, range_of
from airflow_provider_milvusdm.rows.partition import Partition
from airflow_provider_milvusdm.rows.row_hashes import SEED
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.files import refuse_unreadable

SAMPLED_IDS = 1 << 16
"""Of all partitions of a key space, to divide its ids into ranges of as many rows."""
NEW_KEYS = RowPolicies(duplicate_ids="remap")


def divide_groups(groups: Sequence[PartitionGroup], max_tasks: int) -> list[PartitionGroup]:
    """The groups, with each large partition divided into shares; other partitions stay in their groups.

    A run has at most ``max_tasks // 2`` shares, which are larger if necessary. Damaged segments of a large partition
    become the ``error`` of its group.
    """
    groups = [part for group in groups for part in _separate_large(group)]
    shares = [group.shares for group in groups]
    larger = max(sum(count for count in shares if count > 1) / max(max_tasks // 2, 1), 1)
    divided = [divide_group(group, int(count / larger)) for group, count in zip(groups, shares, strict=True)]
    return [share for shares in divided for share in shares]


def _separate_large(group: PartitionGroup) -> Iterator[PartitionGroup]:
    """The group in groups whose partitions are all small, or one large partition, or that have one key space."""
    if group.shares == 1 or group.one_key_space:
        yield group
        return
    alone = [
        replace(group, partitions=(partition,), other_tags=() if number else group.other_tags)
        for number, partition in enumerate(group.partitions)
    ]
    for is_small, found in groupby(alone, lambda part: part.shares == 1):
        parts = list(found)
        if is_small:
            yield replace(parts[0], partitions=tuple(part.partitions[0] for part in parts))
        else:
            yield from parts


def divide_group(group: PartitionGroup, count: int) -> list[PartitionGroup]:
    """The group, divided into ``count`` shares or less if that is more than one."""
    if group.collection is None or count < 2:
        return [group]
    try:
        with refuse_unreadable():
            return _KeySpaceIds(group, group.collection).divide(count)
    except SourceError as fault:
        return [replace(group, collection=None, error=str(fault))]


class _KeySpaceIds:
    """What reading all ids of a group finds. Raises one SourceError for all segments that can't be opened."""

    def __init__(self, group: PartitionGroup, collection: CollectionSpec) -> None:
        self.group, self.vector_bytes = group, collection.vector_bytes
        source = open_source(group.source)
        partitions = [Partition(collection, spec, NEW_KEYS) for spec in group.partitions]
        for partition in partitions:
            partition.open(source)
        if faults := [fault for partition in partitions for fault in partition.faults]:
            raise join_faults(group.name, faults)
        self.live_rows = sum(partition.live_rows for partition in partitions)
        self.id_ranges: dict[str, tuple[int, int]] = {}
        """By segment: its lowest and its highest id."""
        self.key_ranges: dict[str, str] = {}
        """By tag, if there are several: the empty ranges of the ids, and of new keys."""
        self.new_key_ranges: dict[str, str] = {}
        self.slices = [rows.row_slice for partition in partitions for rows in partition.rows]
        self._sampled: list[Ids] = []
        self._random, self._sampled_share = np.random.default_rng(SEED), SAMPLED_IDS / max(self.live_rows, 1)
        for partition in partitions:
            self._read(partition)

    def divide(self, count: int) -> list[PartitionGroup]:
        """``count`` shares, or less: the group of each."""
        slices = list(cut_shares(self.slices, count))
        id_ranges = self._divide_ids(len(slices))
        return [
            self._share(number, len(slices), own, id_ranges.get(number)) for number, own in enumerate(slices, start=1)
        ]

    def _read(self, partition: Partition) -> None:
        samples = [KeySample(partition.live_rows, self.vector_bytes) for _ in range(2)]
        for rows in partition.rows:
            found, first_key = NO_IDS, rows.row_slice.first_key or 0
            for offsets, ids in rows.batches():
                found = join_ranges([found, range_of(ids)])
                for sample, keys in zip(samples, (ids, offsets + first_key), strict=True):
                    if sample.is_needed:
                        sample.add(keys)
                self._sampled.append(ids[self._random.random(len(ids)) < self._sampled_share])
            self.id_ranges[rows.name] = found
        if samples[0].is_needed:
            tag = partition.spec.tag
            self.key_ranges[tag], self.new_key_ranges[tag] = (sample.key_ranges().to_text() for sample in samples)

    def _divide_ids(self, shares: int) -> dict[int, tuple[int, int]]:
        """By number of a share: the ids that it searches; large vectors make more shares than ranges of ids."""
        count = min(count_id_ranges(self.live_rows), shares)
        firsts = divide_keys(np.concatenate(self._sampled), count).firsts.tolist()
        ends = [*(first - 1 for first in firsts[1:]), HIGHEST_KEY]
        numbers = [1 + shares * number // len(firsts) for number in range(len(firsts))]
        return dict(zip(numbers, zip(firsts, ends, strict=True), strict=True))

    def _share(self, number: int, count: int, slices: tuple[Slice, ...], ids: tuple[int, int] | None) -> PartitionGroup:
        searched = tuple(row_slice for row_slice in self.slices if ids and self._overlaps(row_slice, ids))
        begun = {row_slice.segment for row_slice in slices if not row_slice.start}
        tags = {row_slice.partition for row_slice in (*slices, *searched)}
        key_ranges, new_key_ranges = (
            {tag: ranges[tag] for tag in ranges if tag in tags} for ranges in (self.key_ranges, self.new_key_ranges)
        )
        return replace(
            self.group,
            partitions=tuple(_only(partition, begun) for partition in self.group.partitions),
            other_tags=self.group.other_tags if number == 1 else (),
            share=Share(number, count, slices, key_ranges, new_key_ranges, ids, searched),
        )

    def _overlaps(self, row_slice: Slice, ids: tuple[int, int]) -> bool:
        lowest, highest = self.id_ranges[row_slice.segment]
        return lowest <= ids[1] and ids[0] <= highest


def _only(partition: PartitionSpec, names: Collection[str]) -> PartitionSpec:
    """The partition with only these segments."""
    return replace(partition, segments=tuple(segment for segment in partition.segments if segment.name in names))
