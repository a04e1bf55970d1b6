"""Collections that a run creates: they have a name of their own until they are verified and published."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.manifests import CreatedCollection
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import DEFAULT_PARTITION
from airflow_provider_milvusdm.targets.milvus.fence import new_deadline
from airflow_provider_milvusdm.targets.milvus.marker import (
    LOADING,
    Marker,
    new_marker,
    pack_counts,
    pack_mapped,
    refuse_changed_collection,
    set_marker,
)
from airflow_provider_milvusdm.targets.milvus.prepare.alias import list_aliases
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.prepare.existing import Existing
from airflow_provider_milvusdm.targets.milvus.prepare.leftovers import Leftover
from airflow_provider_milvusdm.targets.milvus.prepare.lost import count_exactly, refuse_unapproved_loss
from airflow_provider_milvusdm.targets.milvus.prepare.own_name import former_name, own_name
from airflow_provider_milvusdm.targets.milvus.prepare.partitions import make_partitions
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import await_jobs
from airflow_provider_milvusdm.targets.milvus.server.sending import sent_before


def create_unpublished(case: Case, action: Action) -> CreatedCollection:
    """Create an empty collection, then drop what runs with other rows left, and with ``in_place`` the old collection.

    In this order the target refuses what it can't take before anything of the user's is touched. Raises TargetError.
    """
    if case.existing:
        _check_rights_to_replace(case)
    in_place = case.options.in_place and action is Action.OVERWRITTEN
    marker = new_marker(
        case.plan.fingerprint,
        collection=case.plan.name,
        target=case.target.name,
        action=Action.CREATED if in_place else action,
        run=case.options.runs.own,
        settings=case.new.digest,
        aliases=_aliases(case, in_place=in_place),
        replaces=case.existing.collection_id if case.existing and not in_place else 0,
        replaced_rows=count_exactly(case.client, case.target) if case.existing and not in_place else None,
        is_approved=case.options.is_approved,
        **pack_counts(case.wanted, dict.fromkeys(case.wanted, 0)),
        **pack_mapped(case.plan.name, case.plan.partition_names),
    )
    name = _create(case, marker)
    try:
        refuse_unapproved_loss(case, action)
        created = _adopt(case, name, marker, action)
    except TargetError:
        case.client.drop_collection(name)
        raise
    drop_leftovers(case)
    if in_place and case.existing:
        _drop_existing(case, case.existing)
    return created


def _drop_existing(case: Case, existing: Existing) -> None:
    """Drop the old collection; the deadline stops a suspended process, which would drop a newer one."""
    deadline = new_deadline()
    refuse_changed_collection(case.client, case.target.name, existing.generation, existing.collection_id)
    aliases = list_aliases(case.client, case.target.name)
    with sent_before(case.client, deadline) as timeout:
        for alias in aliases:
            case.client.drop_alias(alias, timeout=timeout)
        case.client.drop_collection(case.target.name, timeout=timeout)


def resume_unpublished(case: Case, leftover: Leftover, marker: Marker) -> CreatedCollection:
    """Continue with what an earlier run of the same source left half loaded."""
    created = _adopt(case, leftover.name, replace(marker, action=Action.CREATED), Action.RESUMED)
    drop_leftovers(case, leftover.name)
    await_jobs(case.client, created.own_name)
    _make_partitions(case, created.own_name, case.client.list_partitions(created.own_name))
    return replace(created, upsert=True)


def drop_leftovers(case: Case, except_for: str = "") -> None:
    """Drop what runs that have ended left under names of their own."""
    for leftover in case.leftovers:
        if leftover.name != except_for:
            case.client.drop_collection(leftover.name)


def _aliases(case: Case, *, in_place: bool) -> tuple[str, ...]:
    """Aliases to create again in the end: those of collections dropped here, or by a run that ended halfway."""
    aliases = {alias for leftover in case.leftovers if leftover.marker for alias in leftover.marker.aliases}
    return tuple(sorted(aliases.union(list_aliases(case.client, case.target.name) if in_place else ())))


def _create(case: Case, marker: Marker) -> str:
    """Create the collection with its partitions and return its name; one that the target refuses is dropped."""
    name = own_name(case.target.name, marker.generation)
    replace(case.new, target=replace(case.target, name=name)).create(marker.properties())
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
    """Give it a name that no earlier run or attempt knows: what these still write is refused from here on.

    A target that allows no renaming refuses it now, not after everything is loaded.
    """
    own = replace(marker, state=LOADING, generation=secrets.token_hex(8), run=case.options.runs.own)
    new_name = own_name(case.target.name, own.generation)
    _rename(case, name, new_name)
    set_marker(case.client, new_name, own)
    before = dict.fromkeys(case.wanted, 0)
    return CreatedCollection(case.plan.name, action, before, generation=own.generation, own_name=new_name)


def _rename(case: Case, name: str, new_name: str) -> None:
    with _refuse_without_rights(case, "given its name once it is verified", "RenameCollection"):
        case.client.rename_collection(name, new_name)


def _check_rights_to_replace(case: Case) -> None:
    """Raises TargetError where publishing could not move the aliases of the old collection, and drop it.

    A server checks the right to drop a collection before it looks for the collection: there is none of this name.
    """
    from pymilvus import MilvusException

    nowhere = former_name(case.target.name, secrets.token_hex(8))
    with _refuse_without_rights(case, "replaced by a new one", "ListAliases, DropCollection"):
        list_aliases(case.client, case.target.name)
        with suppress(MilvusException):
            case.client.drop_collection(nowhere)


@contextmanager
def _refuse_without_rights(case: Case, outcome: str, rights: str) -> Iterator[None]:
    from grpc import RpcError, StatusCode

    try:
        yield
    except RpcError as error:
        if error.code() != StatusCode.PERMISSION_DENIED:
            raise
        raise TargetError(
            f"collection {case.target.name!r} of the target could not be {outcome}",
            expected=f"a login with the rights {rights}",
            found=error.details(),
            cure="Grant them to it. Nothing was changed.",
        ) from None
