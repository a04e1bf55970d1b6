"""Collections under names of their own that runs left when they ended halfway: found, and given back.

A collection is published in steps. Each of them leaves a state that is recognised here:

    loading    target: the former one or none   own name: rows are written
    verified   target: the former one or none   own name: all rows
               target: none                     own name: all rows   former name: what target was
    verified   target: all rows                 former name: what target was
    complete   target: all rows
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.targets.milvus.marker import Marker, read_marker, remove_property, unreadable
from airflow_provider_milvusdm.targets.milvus.prepare.own_name import is_alike, may_belong
from airflow_provider_milvusdm.targets.milvus.runs import Run, Runs, refuse_other_run

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.manifests import CollectionPlan

FORMER = "milvusdm.former"
"""Property of a collection that is replaced: its former name, and the run that renamed it."""


@dataclass(frozen=True)
class Leftover:
    """A collection under a name of its own.

    ``marker``: of a collection that is, or was, being loaded. ``former``: of a collection to be replaced, its name.
    """

    name: str
    marker: Marker | None = None
    former: str = ""
    run: Run = field(default_factory=Run)


def find_leftovers(client: MilvusClient, plan: CollectionPlan) -> list[Leftover]:
    """What runs left that were to create the plan's target. Raises TargetError where a property can't be read."""
    names = [name for name in client.list_collections() if may_belong(name, plan.target.name, aliased=bool(plan.alias))]
    found = (_read(client, name) for name in names)
    return [leftover for leftover in found if leftover and _belongs(leftover, plan)]


def _belongs(leftover: Leftover, plan: CollectionPlan) -> bool:
    if leftover.marker is None or not plan.alias:
        return (leftover.marker.target if leftover.marker else leftover.former) == plan.target.name
    return leftover.marker.collection == plan.name and is_alike(leftover.marker.target, plan.target.name)


def _read(client: MilvusClient, name: str) -> Leftover | None:
    """The leftover of this name; None where it was renamed meanwhile, or is no run's."""
    if not client.has_collection(name):
        return None
    properties = client.describe_collection(name).get("properties", {})
    if properties.get(FORMER):
        try:
            former = json.loads(properties[FORMER])
            return Leftover(name, former=former["target"], run=Run(**former["run"]))
        except (ValueError, TypeError, KeyError) as error:
            raise unreadable(name, FORMER, properties[FORMER]) from error
    marker = read_marker(name, properties)
    return Leftover(name, marker=marker, run=marker.run) if marker else None


def note_former(client: MilvusClient, name: str, run: Run) -> None:
    """Set a property on a collection that is going to be renamed."""
    former = {"target": name, "run": asdict(run)}
    client.alter_collection_properties(name, {FORMER: json.dumps(former, separators=(",", ":"))})


def refuse_other_runs(runs: Runs, target: str, leftovers: Sequence[Leftover]) -> None:
    """Raises TargetError where another run may be at work on one of them."""
    for leftover in leftovers:
        refuse_other_run(runs, leftover.run, target)


def give_back(client: MilvusClient, target: str, leftovers: Sequence[Leftover]) -> None:
    """Give a collection its former name back, where the run that renamed it has put nothing in its place.

    Raises TargetError where that is not clear.
    """
    former = [leftover.name for leftover in leftovers if leftover.former]
    if len(former) > 1 or client.has_collection(target):
        raise TargetError(
            f"collection {target!r} of the target exists, and so does the one that had this name before",
            expected="one of them",
            found=", ".join(former),
            cure="Find out which of them holds the rows you want, and drop or rename the others.",
        )
    client.rename_collection(former[0], target)
    remove_property(client, target, FORMER)
