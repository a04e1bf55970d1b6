"""Collections that a run makes, under a name of their own until they are verified."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CreatedCollection
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.targets.milvus.marker import (
    LOADING,
    Marker,
    new_marker,
    pack_counts,
    set_marker,
)
from airflow_provider_milvusdm.targets.milvus.prepare.alias import list_aliases
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.prepare.existing import refuse_another
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import Leftover
from airflow_provider_milvusdm.targets.milvus.prepare.own_name import own_name
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import make_partitions
from airflow_provider_milvusdm.targets.milvus.seen import seen_by
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import await_jobs


def create(case: Case, action: Action) -> CreatedCollection:
    """Make it, empty; then what runs of other rows left is dropped, and to ``overwrite`` in place the old collection.

    So all that the target can refuse it refuses before anything of the user's is touched.
    """
    in_place = case.options.in_place and action is Action.OVERWRITTEN
    marker = new_marker(
        case.plan.fingerprint,
        collection=case.plan.name,
        target=case.target.name,
        action=Action.CREATED if in_place else action,
        run=case.options.runs.own,
        settings=case.new.digest,
        aliases=_aliases(case, in_place=in_place),
        seen=seen_by(case.plan),
        **pack_counts(case.wanted, dict.fromkeys(case.wanted, 0)),
    )
    name = _make(case, marker)
    try:
        created = _adopt(case, name, marker, action)
    except TargetError:
        case.client.drop_collection(name)
        raise
    drop_leftovers(case)
    if in_place and case.existing:
        refuse_another(case.client, case.target.name, case.existing)
        for alias in list_aliases(case.client, case.target.name):
            case.client.drop_alias(alias)
        case.client.drop_collection(case.target.name)
    return created


def resume(case: Case, leftover: Leftover, marker: Marker) -> CreatedCollection:
    """Go on with what an earlier run of the same source left half loaded."""
    created = _adopt(case, leftover.name, replace(marker, action=Action.CREATED), Action.RESUMED)
    drop_leftovers(case, leftover.name)
    await_jobs(case.client, created.own_name)
    _make_partitions(case, created.own_name, case.client.list_partitions(created.own_name))
    return replace(created, upsert=True)


def drop_leftovers(case: Case, stays: str = "") -> None:
    """Drop what runs that have ended left under names of their own."""
    for leftover in case.leftovers:
        if leftover.name != stays:
            case.client.drop_collection(leftover.name)


def _aliases(case: Case, *, in_place: bool) -> tuple[str, ...]:
    """Aliases that have to be made again in the end: of what is dropped here, or was by a run that ended halfway."""
    aliases = {alias for leftover in case.leftovers if leftover.marker for alias in leftover.marker.aliases}
    return tuple(sorted(aliases.union(list_aliases(case.client, case.target.name) if in_place else ())))


def _make(case: Case, marker: Marker) -> str:
    """Make the collection with its partitions; its name. Nothing stays of one that is refused."""
    name = own_name(case.target.name, marker.generation)
    replace(case.new, target=replace(case.target, name=name)).make(marker.properties())
    try:
        _make_partitions(case, name, {DEFAULT_PARTITION})
    except TargetError:
        case.client.drop_collection(name)
        raise
    return name


def _make_partitions(case: Case, name: str, there: Collection[str]) -> None:
    if not case.keyed:
        make_partitions(case.client, name, [wanted for wanted in case.wanted if wanted not in there])


def _adopt(case: Case, name: str, marker: Marker, action: Action) -> CreatedCollection:
    """Give it a name that no earlier run or attempt knows: what they still write is refused from here on.

    A target that lets nothing be renamed refuses it now, and not when all is loaded.
    """
    own = replace(marker, state=LOADING, generation=secrets.token_hex(8), run=case.options.runs.own)
    new_name = own_name(case.target.name, own.generation)
    _rename(case, name, new_name)
    set_marker(case.client, new_name, own)
    before = dict.fromkeys(case.wanted, 0)
    return CreatedCollection(case.plan.name, action, before, generation=own.generation, own_name=new_name)


def _rename(case: Case, name: str, new_name: str) -> None:
    from grpc import RpcError, StatusCode

    try:
        case.client.rename_collection(name, new_name)
    except RpcError as error:
        if error.code() != StatusCode.PERMISSION_DENIED:
            raise
        raise TargetError(
            f"collection {case.target.name!r} of the target can't get its name once it is verified",
            expected="a login with the right to rename collections (RenameCollection)",
            found=error.details(),
            cure="Grant it that right. Nothing was changed.",
        ) from None
