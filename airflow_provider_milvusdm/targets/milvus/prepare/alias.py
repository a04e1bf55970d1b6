"""Cut-over: an alias is switched to a collection that was loaded under a name of its own, once it is verified."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import ConfigurationError, TargetError
from airflow_provider_milvusdm.targets.milvus.server.capabilities import caches_aliases

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.config.target_settings import CollectionSettings
    from airflow_provider_milvusdm.manifests import CollectionPlan


SETTLED_SECONDS = 1
"""After which an alias is switched once more: a proxy of 2.3 that looks it up in the very moment of the switch goes on
with what it found, until another switch has it look again."""


def aliased(client: MilvusClient, alias: str) -> str:
    """The collection that the alias stands for; empty where there is no such alias, or collection of that name."""
    return str(client.describe_collection(alias)["collection_name"]) if client.has_collection(alias) else ""


def check_alias(
    client: MilvusClient, plan: CollectionPlan, settings: CollectionSettings, *, create_index: bool
) -> None:
    """Refuse an alias that can't be switched to a collection that readers can search."""
    if not plan.alias:
        return
    if not plan.whole:
        raise ConfigurationError(
            f"alias {plan.alias!r} would lead readers to some partitions of collection {plan.name!r} alone",
            expected="the whole collection",
            found=f"partitions {', '.join(partition.tag for partition in plan.partitions)}",
            cure="Leave out alias, or the partitions in source_collection.",
        )
    if not create_index or settings.load is False:
        raise ConfigurationError(
            f"alias {plan.alias!r} would lead readers to a collection that can't be searched",
            expected="create_index: true, and not load: false in target",
            found="create_index: false" if not create_index else "load: false",
            cure="Correct one of them.",
        )
    if aliased(client, plan.alias) == plan.alias:
        raise TargetError(
            f"alias {plan.alias!r} is the name of a collection of the target",
            expected="an alias, or a name that nothing has",
            found=f"collection {plan.alias!r}",
            cure="Choose another alias for readers to use, or give the collection another name first: "
            f"client.rename_collection({plan.alias!r}, {plan.alias + '_old'!r}).",
        )


def refuse_alias(client: MilvusClient, target: str) -> None:
    """Refuse a target whose name is an alias: what it stands for is another's, and would be renamed or dropped."""
    found = aliased(client, target)
    if found not in ("", target):
        raise TargetError(
            f"collection {target!r} of the target is an alias",
            expected="a collection of this name, or none",
            found=f"an alias that stands for collection {found!r}",
            cure=f"To load anew behind this alias, set alias: {target} and rename the collection; "
            f"to load into {found!r}, rename it so.",
        )


def switch_alias(client: MilvusClient, plan: CollectionPlan) -> tuple[str, ...]:
    """Switch the plan's alias, in one step, to its target; notes that say how to go back."""
    if not plan.alias:
        return ()
    before, name = aliased(client, plan.alias), plan.target.name
    switch_to(client, name, plan.alias)
    if before == name:
        return (f"alias {plan.alias} stands for {name} already",)
    if before:
        back = f"client.alter_alias({before!r}, {plan.alias!r}) goes back to {before}, which is as it was"
    else:
        back = f"client.drop_alias({plan.alias!r}) takes it back"
    return (f"alias {plan.alias} stands for {name} now; {back}",)


def switch_to(client: MilvusClient, name: str, *aliases: str) -> None:
    """Have aliases stand for a collection from one moment to the next, whether there are such aliases or not."""
    moved = [alias for alias in aliases if aliased(client, alias) not in ("", name)]
    for alias in aliases:
        if aliased(client, alias):
            client.alter_alias(name, alias)
        else:
            _make_alias(client, name, alias)
    if moved and caches_aliases(client):
        time.sleep(SETTLED_SECONDS)
        for alias in moved:
            client.alter_alias(name, alias)


def list_aliases(client: MilvusClient, name: str) -> list[str]:
    """A server of 2.3 looks in the database that the request itself names alone, not in the connection's."""
    database = client._generate_call_context().get_db_name()
    return list(client.list_aliases(name, db_name=database)["aliases"])


def _make_alias(client: MilvusClient, name: str, alias: str) -> None:
    """An alias of a collection that was dropped leads nowhere, and can be altered alone."""
    from pymilvus import MilvusException

    try:
        client.create_alias(name, alias)
    except MilvusException:
        client.alter_alias(name, alias)
