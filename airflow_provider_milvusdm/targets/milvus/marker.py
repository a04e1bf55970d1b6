"""The marker that a collection carries while it's loaded, and afterwards: a collection property.

A half-loaded collection is never taken for a finished one: whoever finds the marker knows who is loading it, and into
what it becomes. It is small whatever the number of partitions: etcd takes some 0.75 MB a collection.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.targets.milvus.fence import Fence
from airflow_provider_milvusdm.targets.milvus.runs import Run

if TYPE_CHECKING:
    from pymilvus import MilvusClient

PROPERTY = "milvusdm.migration"
LOADING, VERIFIED, COMPLETE = "loading", "verified", "complete"
CREATED, OVERWRITTEN, EMPTYING, SYNCED = "created", "overwritten", "emptying", "synced"
ADDED, APPENDED = "added", "appended"
"""Actions that whoever goes on has to know: ``overwritten`` takes another's place, ``emptying`` is the first half of
replacing partitions."""
UNTOUCHED = -1
"""Stands in ``counts`` for a partition that is left as it is."""


@dataclass(frozen=True)
class Marker:
    """Who loads what into a collection, and how far that is.

    ``state``: ``loading``, ``verified`` (it only has to get its name) or ``complete``. ``source``: fingerprint of the
    source. ``counts``: rows in each partition to load before the first of ours, see :func:`pack_counts`.
    """

    state: str
    generation: str
    source: str
    collection: str = ""
    """The source's name of the collection."""
    target: str = ""
    """The name that the collection gets once it is verified, or has."""
    action: str = ""
    run: Run = field(default_factory=Run)
    counts: tuple[int, ...] = ()
    partitions: str = ""
    """Digest of the partitions' names that ``counts`` are of."""
    settings: str = ""
    """Digest of what a new collection was made with."""
    aliases: tuple[str, ...] = ()
    """To be made once it has its name: they stood for a collection that was dropped for it."""
    previous: str = ""
    """``source`` of the marker that this one took the place of."""
    seen: str = ""
    """What of the source the target holds bit for bit once the load is complete, see
    :mod:`airflow_provider_milvusdm.targets.milvus.seen`."""

    @property
    def is_loading(self) -> bool:
        return self.state == LOADING

    def properties(self) -> dict[str, str]:
        """The marker as a collection property; what is empty is left out."""
        filled = {name: value for name, value in asdict(self).items() if value}
        return {PROPERTY: json.dumps(filled, separators=(",", ":"))}

    @property
    def finished_source(self) -> str:
        """``source`` of the last marker whose rows are all there."""
        return self.source if self.state == COMPLETE else self.previous

    def before_it(self) -> Marker | None:
        """The marker of before, where this one's rows are taken back."""
        return Marker(COMPLETE, self.generation, self.previous, self.collection, self.target) if self.previous else None

    def verified(self) -> Marker:
        return replace(self, state=VERIFIED)

    def completed(self) -> Marker:
        return replace(self, state=COMPLETE)


def new_marker(source: str, **others: Any) -> Marker:
    """A marker with an generation of its own: checkpoints written for another one are worth nothing."""
    return Marker(LOADING, secrets.token_hex(8), source, **others)


def read_marker(collection: str, properties: Mapping[str, str]) -> Marker | None:
    """The marker among the properties of a described collection; TargetError where it is none of this version's."""
    text = properties.get(PROPERTY)
    if not text:
        return None
    try:
        values = json.loads(text)
        lists = {name: tuple(values[name]) for name in ("counts", "aliases") if name in values}
        return Marker(**{**values, **lists, "run": Run(**values.get("run", {}))})
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(collection, PROPERTY, text) from error


def unreadable(collection: str, name: str, text: str) -> TargetError:
    return TargetError(
        f"what a migration noted on collection {collection!r} of the target can't be read",
        expected=f"property {name} as this version of the provider writes it",
        found=text[:200],
        cure=f"Drop or rename the collection, or, where all of its rows are known to be right, empty the property: "
        f"client.alter_collection_properties({collection!r}, {{{name!r}: ''}}).",
    )


def set_marker(client: MilvusClient, collection: str, marker: Marker) -> None:
    client.alter_collection_properties(collection, marker.properties())


def refuse_other_marker(client: MilvusClient, collection: str, generation: str) -> None:
    """Refuse to go on with a collection that another run has marked since; empty: one that carried no marker."""
    marker = read_marker(collection, client.describe_collection(collection).get("properties", {}))
    found = marker.generation if marker else ""
    if found != generation:
        raise TargetError(
            f"another run has begun to write into collection {collection!r} of the target",
            expected=f"a marker with generation {generation}" if generation else "no marker",
            found=f"one with generation {found}" if found else "none",
            cure="Wait for it to end, and start a new run.",
        )


def fence_by_mark(client: MilvusClient, collection: str, generation: str) -> Fence:
    """A fence that refuses as :func:`refuse_other_marker` does."""
    return Fence(partial(refuse_other_marker, client, collection, generation))


def restore_marker(client: MilvusClient, collection: str, marker: Marker | None) -> None:
    """Have the collection carry the marker that it had before, or none."""
    if marker:
        set_marker(client, collection, marker)
    else:
        remove_property(client, collection, PROPERTY)


def remove_property(client: MilvusClient, collection: str, name: str) -> None:
    """Remove a property; a server before 2.5 can only empty it."""
    from pymilvus import MilvusException

    try:
        client.drop_collection_properties(collection, [name])
    except MilvusException:
        client.alter_collection_properties(collection, {name: ""})


def pack_counts(partitions: Collection[str], before: Mapping[str, int]) -> dict[str, Any]:
    """``before`` as fields of a marker: in the order of the ``partitions`` that rows go to, nothing where all are 0."""
    counts = tuple(before.get(name, UNTOUCHED) for name in sorted(partitions))
    return {"counts": counts if any(counts) else (), "partitions": _digest(partitions)}


def unpack_counts(partitions: Collection[str], marker: Marker) -> dict[str, int]:
    """Rows before the first of ours in each of the ``partitions``, without those that are left as they are."""
    if not is_of(partitions, marker):
        raise TargetError(
            f"collection {marker.target!r} of the target is half loaded, with other partitions",
            expected="the partitions of the run that left it so",
            found=", ".join(sorted(partitions)[:20]),
            cure="Name the same source_collection, and a copy of the source as it was then.",
        )
    names = sorted(partitions)
    found = dict(zip(names, marker.counts or [0] * len(names), strict=True))
    return {name: count for name, count in found.items() if count != UNTOUCHED}


def is_of(partitions: Collection[str], marker: Marker) -> bool:
    """Whether the marker is of a load of these partitions."""
    return marker.partitions == _digest(partitions)


def _digest(names: Collection[str]) -> str:
    return hashlib.blake2b("\0".join(sorted(names)).encode(), digest_size=8).hexdigest()
