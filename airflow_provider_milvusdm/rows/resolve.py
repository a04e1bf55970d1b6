"""Resolve: open every segment, check it, read it once, look for rows that Milvus 2.x can't hold.

Whatever is wrong with the rows of a source is found here, before the target is touched, or a policy leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.manifests import PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.model.units import LoadUnit, cut_units, unit_rows
from airflow_provider_milvusdm.rows.key_space import KeySpace
from airflow_provider_milvusdm.rows.partition import EXAMPLES, Partition
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.files import refuse_unreadable


@refuse_unreadable()
def resolve_group(group: PartitionGroup, policies: RowPolicies | None = None) -> ResolvedGroup:
    """Resolve all partitions of a group, or raise one error that names every fault found."""
    if group.collection is None:
        raise SourceError(group.error)
    policies, source = policies or RowPolicies(), open_source(group.source)
    partitions = [Partition(source, group.collection, spec, policies) for spec in group.partitions]
    for partition in partitions:
        partition.open()
    for space in [partitions] if group.one_key_space else [[partition] for partition in partitions]:
        if not any(partition.faults for partition in space):
            KeySpace(space, group.collection.name, policies).resolve()
    faults = [fault for partition in partitions for fault in partition.faults]
    if faults:
        raise _joined(group.name, faults)
    resolved, units = tuple(one.resolved() for one in partitions), tuple(_units(group, partitions))
    own_keys = policies.duplicate_ids == "remap"
    return ResolvedGroup(group.name, resolved, units, own_keys, policies.duplicate_ids)


def _units(group: PartitionGroup, partitions: Sequence[Partition]) -> Iterator[LoadUnit]:
    collection = group.collection
    if collection is None:
        return
    rows = {some.name: some for partition in partitions for some in partition.rows}
    slices = [piece for partition in partitions for piece in partition.slices()]
    live, stored = sum(one.live_rows for one in partitions), sum(piece.stored_rows for piece in slices)
    capacity = unit_rows(group.unit_bytes, collection.vector_bytes, live, stored)
    for unit in cut_units(slices, capacity):
        pieces = tuple(replace(piece, excluded=rows[piece.segment].excluded(piece)) for piece in unit)
        yield LoadUnit(group.source, collection, pieces)


def _joined(name: str, faults: Sequence[SourceError]) -> SourceError:
    if len(faults) == 1:
        return faults[0]
    listed = [f"- {fault}" for fault in faults[:EXAMPLES]]
    if len(faults) > EXAMPLES:
        listed.append(f"- and {len(faults) - EXAMPLES} more")
    return SourceError(f"{len(faults)} faults in collection {name!r}:\n" + "\n".join(listed))
