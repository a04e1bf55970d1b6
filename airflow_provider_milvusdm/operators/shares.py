"""Large partitions are divided into shares at the end of the inspect step, because resolve is mapped over them."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk.configuration import conf

from airflow_provider_milvusdm.manifests import PartitionGroup


def divide_large(groups: Sequence[PartitionGroup]) -> Sequence[PartitionGroup]:
    """The groups to resolve; of partitions that are large, all ids are read."""
    if all(group.shares == 1 for group in groups):
        return groups
    from airflow_provider_milvusdm.rows.divide import divide_groups

    return divide_groups(groups, conf.getint("core", "max_map_length"))
