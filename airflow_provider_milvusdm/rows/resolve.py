"""Resolve: open every segment, check it, read it once, and find rows that Milvus 2.x can't hold.

Everything that is wrong with the rows of a source is found here, before the target is touched, or a policy excludes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.manifests import PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.model.units import LoadUnit, cut_units, unit_rows
from airflow_provider_milvusdm.rows.faults import join_faults
from airflow_provider_milvusdm.rows.key_space import KeySpace
from airflow_provider_milvusdm.rows.partition import Partition
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.files import refuse_unreadable


@refuse_unreadable()
def resolve_group(group: PartitionGroup, policies: RowPolicies | None = None) -> ResolvedGroup:
    """Resolve all partitions of a group. Raises one SourceError that names every fault."""
    if group.collection is None:
        raise SourceError(group.error)
    policies, source = policies or RowPolicies(), open_source(group.source)
    partitions = [Partition(source, group.collection, spec, policies) for spec in group.partitions]
    for partition in partitions:
        partition.open()
    for key_space in [partitions] if group.one_key_space else [[partition] for partition in partitions]:
        if not any(partition.faults for partition in key_space):
            KeySpace(key_space, group.collection.name, policies).resolve()
    faults = [fault for partition in partitions for fault in partition.faults]
    if faults:
        raise join_faults(group.name, faults)
    resolved = tuple(partition.resolved() for partition in partitions)
    units = tuple(_cut_units(group, group.collection, partitions))
    own_keys = policies.duplicate_ids == "remap"
    return ResolvedGroup(group.name, resolved, units, own_keys, policies.duplicate_ids)


def _cut_units(
    group: PartitionGroup, collection: CollectionSpec, partitions: Sequence[Partition]
) -> Iterator[LoadUnit]:
    rows_by_segment = {rows.name: rows for partition in partitions for rows in partition.rows}
    slices = [row_slice for partition in partitions for row_slice in partition.slices()]
    live_rows = sum(partition.live_rows for partition in partitions)
    stored_rows = sum(row_slice.stored_rows for row_slice in slices)
    capacity = unit_rows(group.unit_bytes, collection.vector_bytes, live_rows, stored_rows)
    for unit in cut_units(slices, capacity):
        unit = tuple(
            replace(row_slice, excluded=rows_by_segment[row_slice.segment].excluded(row_slice)) for row_slice in unit
        )
        yield LoadUnit(group.source, collection, unit)
