"""Resolve: open every segment, check it, read it once, and find rows that Milvus 2.x can't hold.

Everything that is wrong with the rows of a source is found here, before the target is touched, or a policy excludes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.manifests import PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.rows.faults import join_faults
from airflow_provider_milvusdm.rows.key_space import KeySpace, duplicate_notes
from airflow_provider_milvusdm.rows.partition import Partition
from airflow_provider_milvusdm.rows.resolved import resolved_group
from airflow_provider_milvusdm.rows.share import resolve_share
from airflow_provider_milvusdm.sources.registry import open_source
from airflow_provider_milvusdm.storage.files import refuse_unreadable


@refuse_unreadable()
def resolve_group(group: PartitionGroup, policies: RowPolicies | None = None) -> ResolvedGroup:
    """Resolve all partitions of a group, or its share of them. Raises one SourceError that names every fault."""
    policies = policies or RowPolicies()
    if group.collection is None:
        raise SourceError(group.error)
    if group.share:
        return resolve_share(group, group.collection, group.share, policies)
    source = open_source(group.source)
    partitions = [Partition(group.collection, spec, policies) for spec in group.partitions]
    for partition in partitions:
        partition.open(source)
        if not partition.faults:
            partition.divide_keys()
        partition.check_vectors()
    for key_space in [partitions] if group.one_key_space else [[partition] for partition in partitions]:
        if not any(partition.faults for partition in key_space):
            _resolve_ids(group.name, key_space, policies.duplicate_ids)
    faults = [fault for partition in partitions for fault in partition.faults]
    if faults:
        raise join_faults(group.name, faults)
    resolved = [partition.resolved() for partition in partitions]
    found = resolved_group(group, group.collection, resolved, policies.duplicate_ids)
    skipped = [partition.skipped for partition in partitions if partition.skipped]
    return replace(found, skipped_files=tuple(count.path for count in skipped if count.path))


def _resolve_ids(collection: str, partitions: Sequence[Partition], policy: str) -> None:
    """Apply the policy for duplicate ids to partitions that have one key space."""
    first, tags = partitions[0], [partition.spec.tag for partition in partitions]
    key_space = KeySpace([rows for partition in partitions for rows in partition.rows], collection, tags, policy)
    first.notes += duplicate_notes(key_space.resolve(), tags, policy)
    first.faults += key_space.faults()
