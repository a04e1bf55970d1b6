"""Aliases of collections: check them, and switch them to a collection once it is verified."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import ConfigurationError, TargetError, VerificationError
from airflow_provider_milvusdm.targets.milvus.fence import new_deadline
from airflow_provider_milvusdm.targets.milvus.server.capabilities import caches_aliases
from airflow_provider_milvusdm.targets.milvus.server.sending import sent_before

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.config.target_settings import CollectionSettings
    from airflow_provider_milvusdm.manifests import CollectionPlan
    from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore

SWITCHED = "alias switched"
"""Key in the store: the input of the step that has switched the alias."""

SETTLED_SECONDS = 1
"""Seconds after which an alias is switched once more. A 2.3 proxy that looks an alias up at the moment of the switch
keeps using the former collection until the next switch."""


def aliased(client: MilvusClient, alias: str) -> str:
    """The collection that an alias, or a name, stands for; empty where there is neither."""
    return str(client.describe_collection(alias)["collection_name"]) if client.has_collection(alias) else ""


def alias_to_switch(client: MilvusClient, alias: str, target: str) -> str | None:
    """The collection that an alias stands for before it is switched to ``target``; None: there is nothing to switch."""
    found = aliased(client, alias) if alias else target
    return None if found == target else found


def check_alias(
    client: MilvusClient, plan: CollectionPlan, settings: CollectionSettings, *, create_index: bool
) -> None:
    """Refuse an alias of the plan that readers could not search.

    Raises ConfigurationError where only some partitions, or no index, would be loaded; TargetError where the alias is
    the name of a collection.
    """
    if not plan.alias:
        return
    if not plan.whole:
        raise ConfigurationError(
            f"alias {plan.alias!r} would give readers only some partitions of collection {plan.name!r}",
            expected="the whole collection",
            found=f"partitions {', '.join(partition.tag for partition in plan.partitions)}",
            cure="Remove alias, or the partitions in source_collection.",
        )
    if not create_index or settings.load is False:
        raise ConfigurationError(
            f"alias {plan.alias!r} would give readers a collection that can't be searched",
            expected="create_index: true, and not load: false in target",
            found="create_index: false" if not create_index else "load: false",
            cure="Change create_index or load, or remove alias.",
        )
    if aliased(client, plan.alias) == plan.alias:
        raise TargetError(
            f"alias {plan.alias!r} is the name of a collection of the target",
            expected="an alias, or a name that is not in use",
            found=f"collection {plan.alias!r}",
            cure="Choose another alias, or rename the collection first: "
            f"client.rename_collection({plan.alias!r}, {plan.alias + '_old'!r}).",
        )


def refuse_alias(client: MilvusClient, target: str) -> None:
    """Raises TargetError where ``target`` is an alias: the collection behind it would be renamed or dropped."""
    found = aliased(client, target)
    if found not in ("", target):
        raise TargetError(
            f"the name {target!r} is an alias in the target",
            expected="a collection of this name, or none",
            found=f"an alias that stands for collection {found!r}",
            cure=f"To load a new collection behind this alias, set alias: {target} and rename the collection; "
            f"to load into {found!r}, use rename to give the collection this name.",
        )


def switch_alias(
    client: MilvusClient,
    plan: CollectionPlan,
    store: CheckpointStore | None = None,
    step_input: str = "",
    approved: str | None = None,
) -> tuple[str, ...]:
    """Switch the plan's alias to its target in one step; returns notes that say how to switch back.

    An earlier attempt of the step that had the same input notes in ``store`` that it has switched the alias: what has
    switched it since, such as a newer run, has priority. ``approved``: the collection that it stood for when somebody
    approved that it is switched. Raises VerificationError where it stands for another one by now.
    """
    if not plan.alias:
        return ()
    deadline = new_deadline()  # stops a suspended process, which would undo a newer switch
    before, name = aliased(client, plan.alias), plan.target.name
    if store is not None and store.get(SWITCHED) == step_input and before not in ("", name):
        again = f"client.alter_alias({name!r}, {plan.alias!r}) switches to {name}"
        return (f"alias {plan.alias} stands for {before}: it was switched after this run had switched it; {again}",)
    if approved is not None and before not in (approved, name):
        raise VerificationError(
            f"alias {plan.alias!r} of the target was switched after the plan was approved",
            expected=f"{approved or 'no collection'}, as in the plan",
            found=f"{before or 'no collection'}; the verified rows are in {name!r}",
            cure=f"It was not switched again. client.alter_alias({name!r}, {plan.alias!r}) does that.",
        )
    switch_to(client, name, [plan.alias], deadline)
    if store is not None:
        store.set(SWITCHED, step_input)
    if before == name:
        return (f"alias {plan.alias} stands for {name} already",)
    if before:
        back = f"client.alter_alias({before!r}, {plan.alias!r}) switches back to {before}, which was not changed"
    else:
        back = f"client.drop_alias({plan.alias!r}) removes it"
    return (f"alias {plan.alias} stands for {name} now; {back}",)


def switch_to(client: MilvusClient, name: str, aliases: Collection[str], deadline: float) -> None:
    """Switch aliases to collection ``name``, each in one step, and create those that do not exist.

    Raises LateError where ``deadline`` is over.
    """
    moved = [alias for alias in aliases if aliased(client, alias) not in ("", name)]
    for alias in aliases:
        if aliased(client, alias):
            _alter_alias(client, name, alias, deadline)
        else:
            _make_alias(client, name, alias, deadline)
    if moved and caches_aliases(client):
        time.sleep(SETTLED_SECONDS)
        for alias in moved:
            _alter_alias(client, name, alias, deadline)


def list_aliases(client: MilvusClient, name: str) -> list[str]:
    """Aliases of a collection. A 2.3 server uses the database named in the request, not that of the connection."""
    database = client._generate_call_context().get_db_name()
    return list(client.list_aliases(name, db_name=database)["aliases"])


def _make_alias(client: MilvusClient, name: str, alias: str, deadline: float) -> None:
    """Create an alias. The alias of a collection that was dropped still exists, and can only be altered."""
    from pymilvus import MilvusException

    try:
        with sent_before(client, deadline) as timeout:
            client.create_alias(name, alias, timeout=timeout)
    except MilvusException:
        _alter_alias(client, name, alias, deadline)


def _alter_alias(client: MilvusClient, name: str, alias: str, deadline: float) -> None:
    with sent_before(client, deadline) as timeout:
        client.alter_alias(name, alias, timeout=timeout)
