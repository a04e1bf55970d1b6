"""How many rows of the target an action would drop or delete, counted without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.prepare.sync import Changes
from airflow_provider_milvusdm.targets.milvus.server.index import is_loaded, released_partitions
from airflow_provider_milvusdm.targets.milvus.server.queries import count_all, count_rows

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def count_lost(case: Case, action: Action, changes: Changes) -> int | None:
    """The number of rows; None if it is unknown. ``changes``: of a sync, what was found so far.

    A collection that is not loaded is counted by the target's statistics: a server's may be of an earlier moment.
    """
    if action is Action.OVERWRITTEN:
        return _count_collection(case.client, case)
    if action is Action.REPLACED:
        return _count_partitions(case.client, case)
    if action is Action.SYNCED:
        return changes.deletions
    return None if action is Action.ABANDONED else 0


def _count_collection(client: MilvusClient, case: Case) -> int:
    if is_loaded(client, case.target) and not released_partitions(client, case.target):
        return count_all(client, case.target)
    return int(client.get_collection_stats(case.target.name)["row_count"])


def _count_partitions(client: MilvusClient, case: Case) -> int | None:
    there = case.existing.partitions if case.existing else frozenset()
    names = [name for name in case.wanted if case.keyed or name in there]
    if is_loaded(client, case.target) and not released_partitions(client, case.target):
        return sum(count_rows(client, case.target, name) for name in names)
    if case.keyed:
        return None
    return sum(int(client.get_partition_stats(case.target.name, name)["row_count"]) for name in names)
