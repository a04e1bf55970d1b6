"""How many rows of the target an action would drop, delete or replace, counted without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.prepare.sync import Changes
from airflow_provider_milvusdm.targets.milvus.server.capabilities import counts_without_loading
from airflow_provider_milvusdm.targets.milvus.server.index import is_loaded, released_partitions
from airflow_provider_milvusdm.targets.milvus.server.queries import count_all, count_rows

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def continued_action(case: Case, action: Action) -> Action:
    """The action; of a load that is resumed, the one that deletes rows, if the interrupted run had begun with that."""
    marker = case.existing.marker if case.existing else None
    if action is Action.RESUMED and marker and marker.action in (Action.EMPTYING, Action.SYNCED):
        return marker.action
    return action


def count_lost(case: Case, action: Action, changes: Changes | None = None) -> int | None:
    """The number of rows; None if it is unknown. ``changes``: of a sync, what was found so far.

    A collection that is not loaded is counted by the target's statistics: a server's may be of an earlier moment.
    """
    if action is Action.OVERWRITTEN:
        return _count_collection(case.client, case)
    if action in (Action.REPLACED, Action.EMPTYING):
        return _count_partitions(case.client, case)
    if action is Action.SYNCED:
        return changes.lost if changes else None
    return None if action is Action.ABANDONED else 0


def refuse_unapproved_loss(case: Case, action: Action) -> None:
    """Raises TargetError if an action that drops rows would drop more than was approved."""
    approved = case.options.approved_loss
    lost = None if approved is None else count_lost(case, action)
    if approved is not None and lost is not None and lost > approved:
        raise TargetError(
            f"collection {case.target.name!r} of the target was changed after what it loses was approved",
            expected=f"{approved} rows to drop",
            found=lost,
            cure="Nothing was dropped. Stop the application that writes to it, and start a new run, which asks again.",
        )


def count_exactly(client: MilvusClient, target: TargetCollection) -> int | None:
    """The number of rows of a collection; None if it is not loaded, and the target can't count it then."""
    if is_loaded(client, target) and not released_partitions(client, target):
        return count_all(client, target)
    return _count_by_statistics(client, target) if counts_without_loading(client) else None


def _count_by_statistics(client: MilvusClient, target: TargetCollection) -> int:
    return int(client.get_collection_stats(target.name)["row_count"])


def _count_collection(client: MilvusClient, case: Case) -> int:
    counted = count_exactly(client, case.target)
    return _count_by_statistics(client, case.target) if counted is None else counted


def _count_partitions(client: MilvusClient, case: Case) -> int | None:
    there = case.existing.partitions if case.existing else frozenset()
    names = [name for name in case.wanted if case.keyed or name in there]
    if is_loaded(client, case.target) and not released_partitions(client, case.target):
        return sum(count_rows(client, case.target, name) for name in names)
    if case.keyed:
        return None
    return sum(int(client.get_partition_stats(case.target.name, name)["row_count"]) for name in names)
