"""Give a verified collection its name: readers see either the former rows, or all of the new ones.

A rename takes a server milliseconds. After a kill between two renames the next run finishes or undoes them: see
:mod:`airflow_provider_milvusdm.targets.milvus.prepare.leftovers`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import VerificationError
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.targets.milvus.fence import new_deadline
from airflow_provider_milvusdm.targets.milvus.marker import Marker, refuse_changed_collection, set_marker
from airflow_provider_milvusdm.targets.milvus.prepare.alias import aliased, list_aliases, switch_to
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import note_former
from airflow_provider_milvusdm.targets.milvus.prepare.lost import count_exactly
from airflow_provider_milvusdm.targets.milvus.prepare.own_name import former_name, own_name
from airflow_provider_milvusdm.targets.milvus.server.sending import sent_before

if TYPE_CHECKING:
    from pymilvus import MilvusClient

READERS_SECONDS = 2
"""Time for queries of the former collection to end: a server answers them with no rows if it is dropped meanwhile."""


def publish(client: MilvusClient, marker: Marker) -> tuple[str, ...]:
    """Give the collection with this marker its name; with action OVERWRITTEN it replaces the one of that name.

    Returns notes for the report. Raises VerificationError where something else has taken the name, or where rows would
    be lost that nobody approved; TargetError where another run has begun.
    """
    name = own_name(marker.target, marker.generation)
    notes: tuple[str, ...] = ()
    if client.has_collection(name):
        if _find_replaced(client, marker):
            notes = _note_written_meanwhile(client, marker)
            note_former(client, marker.target, marker.run)
        deadline = new_deadline()
        there = _find_replaced(client, marker)  # again, because it takes time to count its rows
        set_marker(client, name, marker.verified())  # fails where another attempt has renamed it since
        if there:  # the deadline stops a suspended process, which would take the name from a newer collection
            former = former_name(marker.target, marker.generation)
            with sent_before(client, deadline) as timeout:
                client.rename_collection(marker.target, former, timeout=timeout)
        client.rename_collection(name, marker.target)
    finish(client, marker)
    return notes


def finish(client: MilvusClient, marker: Marker) -> None:
    """What is left to do once the collection has its name: move the aliases, and drop the former collection.

    Raises TargetError where another run has begun.
    """
    former = former_name(marker.target, marker.generation)
    deadline = new_deadline()
    refuse_changed_collection(client, marker.target, marker.generation)
    if client.has_collection(former):
        switch_to(client, marker.target, list_aliases(client, former), deadline)
        time.sleep(READERS_SECONDS)
        client.drop_collection(former)
        deadline = new_deadline()
        refuse_changed_collection(client, marker.target, marker.generation)  # another run may have begun meanwhile
    make_aliases(client, marker.target, marker.aliases)
    set_marker(client, marker.target, marker.completed(), deadline)


def make_aliases(client: MilvusClient, target: str, aliases: Iterable[str]) -> None:
    """Create those of ``aliases`` that do not exist, for ``target``."""
    deadline = new_deadline()
    switch_to(client, target, [alias for alias in aliases if not aliased(client, alias)], deadline)


def _find_replaced(client: MilvusClient, marker: Marker) -> bool:
    """Whether there is a collection to be replaced. Raises VerificationError where something else has the name."""
    there = aliased(client, marker.target)
    if there and (there != marker.target or not _is_to_be_replaced(client, marker)):
        raise _taken(marker, own_name(marker.target, marker.generation), there)
    return bool(there)


def _is_to_be_replaced(client: MilvusClient, marker: Marker) -> bool:
    """Whether the collection of the target's name is the one that was there when this run began."""
    return marker.action is Action.OVERWRITTEN and (
        client.describe_collection(marker.target)["collection_id"] == marker.replaces
    )


def _note_written_meanwhile(client: MilvusClient, marker: Marker) -> tuple[str, ...]:
    """A note on rows of the collection to be replaced that were written, or deleted, since the new one was created."""
    rows = count_exactly(client, TargetCollection(marker.target))
    if rows is None or marker.replaced_rows in (None, rows):
        return ()
    if marker.is_approved:
        raise VerificationError(
            f"collection {marker.target!r} of the target was changed after its replacement was approved",
            expected=f"{marker.replaced_rows} rows, whose loss was approved",
            found=f"{rows}; the verified new rows are in {own_name(marker.target, marker.generation)!r}",
            cure="It was not replaced. Stop the application that writes to it, and start a new run, which asks again.",
        )
    return (
        f"the old collection had {marker.replaced_rows} rows when the new one was created, and {rows} when it was "
        "replaced; what was written to it meanwhile is lost",
    )


def _taken(marker: Marker, name: str, there: str) -> VerificationError:
    return VerificationError(
        f"collection {marker.target!r} of the target was made by something else while its rows were loaded",
        expected="what had this name when this run began",
        found=f"{'one' if there == marker.target else f'an alias of {there!r}'}; the verified rows are in {name!r}",
        cure=f"Rename or drop one of them: client.rename_collection({name!r}, ...); or use mode overwrite.",
    )
