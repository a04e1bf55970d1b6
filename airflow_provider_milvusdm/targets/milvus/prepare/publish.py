"""Give a verified collection its name: readers see what was there before, then all of the new rows.

Renames take a server milliseconds. Where one is killed between two of them, the next run goes on or goes back: see
:mod:`airflow_provider_milvusdm.targets.milvus.prepare.leftovers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import VerificationError
from airflow_provider_milvusdm.targets.milvus.fence import REQUEST_SECONDS
from airflow_provider_milvusdm.targets.milvus.marker import OVERWRITTEN, Marker, refuse_other_marker, set_marker
from airflow_provider_milvusdm.targets.milvus.prepare.alias import aliased, list_aliases, switch_to
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import note_former
from airflow_provider_milvusdm.targets.milvus.prepare.own_name import former_name, own_name
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_awake_or_not, seconds_left

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def publish(client: MilvusClient, marker: Marker) -> None:
    """Give the collection with this marker its name; one that has it is replaced where that is what was asked for."""
    name = own_name(marker.target, marker.generation)
    if client.has_collection(name):
        there = aliased(client, marker.target)
        if there:
            if marker.action != OVERWRITTEN or there != marker.target:
                raise _taken(marker, name, there)
            note_former(client, marker.target, marker.run)
        deadline = seconds_awake_or_not() + REQUEST_SECONDS
        set_marker(client, name, marker.verified())  # refused where another attempt has given it its name since
        if there:  # still what this is to take the place of: who slept over it is late
            former = former_name(marker.target, marker.generation)
            client.rename_collection(marker.target, former, timeout=seconds_left(deadline))
        client.rename_collection(name, marker.target)
    finish(client, marker)


def finish(client: MilvusClient, marker: Marker) -> None:
    """Whatever is left to do once the collection has its name: aliases, and an end of the former one."""
    former = former_name(marker.target, marker.generation)
    refuse_other_marker(client, marker.target, marker.generation)
    if client.has_collection(former):
        switch_to(client, marker.target, *list_aliases(client, former))
        client.drop_collection(former)
    make_aliases(client, marker.target, marker.aliases)
    set_marker(client, marker.target, marker.completed())


def make_aliases(client: MilvusClient, target: str, aliases: Iterable[str]) -> None:
    """Have those of ``aliases`` that stand for nothing stand for ``target``."""
    switch_to(client, target, *[alias for alias in aliases if not aliased(client, alias)])


def _taken(marker: Marker, name: str, there: str) -> VerificationError:
    return VerificationError(
        f"collection {marker.target!r} of the target was made by something else while its rows were loaded",
        expected="no collection of this name, as when this run began",
        found=f"{'one' if there == marker.target else f'an alias of {there!r}'}; the verified rows are in {name!r}",
        cure=f"Rename or drop one of them: client.rename_collection({name!r}, ...); or use mode overwrite.",
    )
