"""Give a verified collection its name: readers see what was there before, then all of the new rows.

Renames take a server milliseconds. Where one is killed between two of them, the next run goes on or goes back: see
:mod:`airflow_provider_milvusdm.targets.milvus.prepare.leftovers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import VerificationError
from airflow_provider_milvusdm.targets.milvus.marker import OVERWRITTEN, Mark, refuse_other_mark, set_mark
from airflow_provider_milvusdm.targets.milvus.prepare.alias import aliased, list_aliases, switch_to
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import note_former
from airflow_provider_milvusdm.targets.milvus.prepare.own_name import former_name, own_name

if TYPE_CHECKING:
    from pymilvus import MilvusClient


def publish(client: MilvusClient, mark: Mark) -> None:
    """Give the collection with this mark its name; one that has it is replaced where that is what was asked for."""
    name = own_name(mark.target, mark.incarnation)
    if client.has_collection(name):
        there = aliased(client, mark.target)
        if there:
            if mark.action != OVERWRITTEN or there != mark.target:
                raise _taken(mark, name, there)
            note_former(client, mark.target, mark.run)
        set_mark(client, name, mark.verified())  # refused where another attempt has given it its name since
        if there:
            client.rename_collection(mark.target, former_name(mark.target, mark.incarnation))
        client.rename_collection(name, mark.target)
    finish(client, mark)


def finish(client: MilvusClient, mark: Mark) -> None:
    """Whatever is left to do once the collection has its name: aliases, and an end of the former one."""
    former = former_name(mark.target, mark.incarnation)
    refuse_other_mark(client, mark.target, mark.incarnation)
    if client.has_collection(former):
        switch_to(client, mark.target, *list_aliases(client, former))
        client.drop_collection(former)
    make_aliases(client, mark.target, mark.aliases)
    set_mark(client, mark.target, mark.completed())


def make_aliases(client: MilvusClient, target: str, aliases: Iterable[str]) -> None:
    """Have those of ``aliases`` that stand for nothing stand for ``target``."""
    switch_to(client, target, *[alias for alias in aliases if not aliased(client, alias)])


def _taken(mark: Mark, name: str, there: str) -> VerificationError:
    return VerificationError(
        f"collection {mark.target!r} of the target was made by something else while its rows were loaded",
        expected="no collection of this name, as when this run began",
        found=f"{'one' if there == mark.target else f'an alias of {there!r}'}; the verified rows are in {name!r}",
        cure=f"Rename or drop one of them: client.rename_collection({name!r}, ...); or use mode overwrite.",
    )
