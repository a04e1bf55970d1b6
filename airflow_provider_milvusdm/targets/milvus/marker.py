"""The marker of a collection while it is loaded and afterwards: a collection property.

By the marker a half-loaded collection is told from a finished one: it says which run loads it, and what it becomes.
It stays small for any number of partitions, because etcd accepts only some 0.75 MB a collection.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import ChangedTargetError, TargetError
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.targets.milvus.fence import Fence
from airflow_provider_milvusdm.targets.milvus.runs import Run
from airflow_provider_milvusdm.targets.milvus.server.capabilities import stores_properties_at_once
from airflow_provider_milvusdm.targets.milvus.server.sending import sent_before

if TYPE_CHECKING:
    from pymilvus import MilvusClient

PROPERTY = "milvusdm.migration"
LOADING, VERIFIED, COMPLETE = "loading", "verified", "complete"
UNTOUCHED = -1
"""In ``counts``: this partition is left as it is."""
NEW = -2
"""In ``counts``: the run creates this partition."""
PLACE_LENGTH, MAPPED_LENGTH = 3, 8
"""Characters of the digest of a partition's name, and of this and the digest of the collection and tag behind it."""


@dataclass(frozen=True)
class Marker:
    """Which run loads what into a collection, and how far it got.

    ``state``: ``loading``, ``verified`` (only its name is still to be changed) or ``complete``. ``source``: fingerprint
    of the source. ``counts``: number of rows in each partition before the run wrote any, see :func:`pack_counts`.
    """

    state: str
    generation: str
    source: str
    collection: str = ""
    """The source's name of the collection."""
    target: str = ""
    """The name that the collection has, or gets once it is verified."""
    action: Action | None = None
    run: Run = field(default_factory=Run)
    counts: tuple[int, ...] = ()
    partitions: str = ""
    """Digest of the names of the partitions that ``counts`` belong to."""
    keys: tuple[int, ...] = ()
    """Lowest and highest key of the rows that are added to a partition with other rows; empty if there is none."""
    settings: str = ""
    """Digest of the schema and settings of a new collection."""
    aliases: tuple[str, ...] = ()
    """Aliases to create once it has its name; they belonged to a collection that was dropped for it."""
    replaces: int = 0
    """The target's id of the collection that a new one replaces."""
    replaced_rows: int | None = None
    """Rows of that collection when this one was created; None: unknown."""
    is_approved: bool = False
    """Somebody approved that those rows are lost, and no others."""
    previous: str = ""
    """``source`` of the marker that this one replaced."""
    mapped: str = ""
    """Which tags were loaded into partitions of other names, see :func:`pack_mapped`."""
    mapping: str = ""
    """The same, for the tags that are being loaded; they are among ``mapped`` once the load is complete."""

    @property
    def is_loading(self) -> bool:
        return self.state == LOADING

    def properties(self) -> dict[str, str]:
        """The marker as a collection property, without its empty fields."""
        empty = asdict(Marker("", "", ""))
        filled = {name: value for name, value in asdict(self).items() if value != empty[name]}
        return {PROPERTY: json.dumps(filled, separators=(",", ":"))}

    @property
    def finished_source(self) -> str:
        """``source`` of the last marker whose load is complete."""
        return self.source if self.state == COMPLETE else self.previous

    def before_it(self) -> Marker | None:
        """The marker to set once the rows of this one are removed; None where there was none before."""
        if not self.previous:
            return None
        return Marker(COMPLETE, self.generation, self.previous, self.collection, self.target, mapped=self.mapped)

    def verified(self) -> Marker:
        return replace(self, state=VERIFIED)

    def completed(self) -> Marker:
        return replace(self, state=COMPLETE, mapped=_join(_split(self.mapped) | _split(self.mapping)), mapping="")


def new_marker(source: str, **others: Any) -> Marker:
    """A marker with a new generation, for which no checkpoint of another marker is valid."""
    return Marker(LOADING, secrets.token_hex(8), source, **others)


def read_marker(collection: str, properties: Mapping[str, str]) -> Marker | None:
    """The marker among the ``properties`` of a described collection; None where there is none.

    Raises TargetError where another version of the provider wrote it.
    """
    text = properties.get(PROPERTY)
    if not text:
        return None
    try:
        values = json.loads(text)
        lists = {name: tuple(values[name]) for name in ("counts", "keys", "aliases") if name in values}
        action = Action(values["action"]) if "action" in values else None
        return Marker(**{**values, **lists, "action": action, "run": Run(**values.get("run", {}))})
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(collection, PROPERTY, text) from error


def unreadable(collection: str, name: str, text: str) -> TargetError:
    """The error for a property that can't be parsed."""
    return TargetError(
        f"a property that a migration set on collection {collection!r} of the target can't be read",
        expected=f"property {name} as this version of the provider writes it",
        found=text[:200],
        cure=f"Drop or rename the collection. If you know that all of its rows are right, empty the property: "
        f"client.alter_collection_properties({collection!r}, {{{name!r}: ''}}).",
    )


def set_marker(client: MilvusClient, collection: str, marker: Marker, deadline: float | None = None) -> None:
    """Set the marker. ``deadline``: needed where the name may belong to another run once this process has slept.

    Raises LateError where ``deadline`` is over.
    """
    _set_properties(client, collection, marker.properties(), deadline)


def _set_properties(
    client: MilvusClient, collection: str, properties: Mapping[str, str], deadline: float | None = None
) -> None:
    """Set properties so that they survive a restart of the server."""
    for _ in range(1 if stores_properties_at_once(client) else 2):
        with sent_before(client, deadline) as timeout:
            client.alter_collection_properties(collection, dict(properties), timeout=timeout)


def refuse_changed_collection(
    client: MilvusClient, collection: str, generation: str, collection_id: int | None = None
) -> None:
    """Raises ChangedTargetError where another run has marked the collection since, or something has dropped it.

    ``generation``: of the marker that it carried; empty: it carried none. ``collection_id``: by which the target knew
    it; a collection that was created anew under the same name has another one.
    """
    described = client.describe_collection(collection) if client.has_collection(collection) else None
    marker = read_marker(collection, described.get("properties", {})) if described else None
    found = marker.generation if marker else ""
    same = described is not None and collection_id in (None, described["collection_id"])
    if same and found == generation:
        return
    carried = f"a marker with generation {found}" if found else "no marker"
    raise ChangedTargetError(
        f"another run or program has changed collection {collection!r} of the target",
        expected=f"the collection with a marker of generation {generation}" if generation else "one with no marker",
        found="no such collection" if described is None else f"{'it' if same else 'a new one'} with {carried}",
        cure="Wait until no other run is at work on it, and start a new run.",
    )


def fence_by_marker(client: MilvusClient, collection: str, generation: str) -> Fence:
    """A fence that checks with :func:`refuse_changed_collection`."""
    return Fence(partial(refuse_changed_collection, client, collection, generation))


def restore_marker(client: MilvusClient, collection: str, marker: Marker | None, deadline: float) -> None:
    """Set the marker that the collection had before, or remove it where there was none.

    Raises LateError where ``deadline`` is over.
    """
    if marker:
        set_marker(client, collection, marker, deadline)
    else:
        remove_property(client, collection, PROPERTY, deadline)


def remove_property(client: MilvusClient, collection: str, name: str, deadline: float | None = None) -> None:
    """Remove a property; a server before 2.5 can only empty it. Raises LateError where ``deadline`` is over."""
    from pymilvus import MilvusException

    try:
        with sent_before(client, deadline) as timeout:
            client.drop_collection_properties(collection, [name], timeout=timeout)
    except MilvusException:
        _set_properties(client, collection, {name: ""}, deadline)


def pack_counts(partitions: Collection[str], before: Mapping[str, int], new: Collection[str] = ()) -> dict[str, Any]:
    """``before`` (rows by partition) as fields of a marker: counts in the order of the sorted ``partitions``.

    A partition that ``before`` lacks is left as it is. No counts are stored where all are 0. ``new``: partitions that
    the run creates in an existing collection.
    """
    counts = tuple(NEW if name in new else before.get(name, UNTOUCHED) for name in sorted(partitions))
    return {"counts": counts if any(counts) else (), "partitions": _digest(partitions)}


def unpack_counts(partitions: Collection[str], marker: Marker) -> dict[str, int]:
    """Number of rows before the run wrote any, by partition, without the partitions that are left as they are.

    Raises TargetError where the marker is of a load of other partitions.
    """
    return {name: max(count, 0) for name, count in _counts(partitions, marker).items() if count != UNTOUCHED}


def new_partitions(partitions: Collection[str], marker: Marker) -> set[str]:
    """The partitions that the run creates in an existing collection. Raises what :func:`unpack_counts` does."""
    return {name for name, count in _counts(partitions, marker).items() if count == NEW}


def _counts(partitions: Collection[str], marker: Marker) -> dict[str, int]:
    if not is_of(partitions, marker):
        raise TargetError(
            f"collection {marker.target!r} of the target is half loaded, and by a run with other partitions",
            expected="the partitions of that run",
            found=", ".join(sorted(partitions)[:20]),
            cure="Use the same source_collection, and a copy of the source as it was then.",
        )
    names = sorted(partitions)
    return dict(zip(names, marker.counts or [0] * len(names), strict=True))


def is_of(partitions: Collection[str], marker: Marker) -> bool:
    """Whether the marker is of a load of these partitions."""
    return marker.partitions == _digest(partitions)


def pack_mapped(
    collection: str, names: Mapping[str, str], last: Marker | None = None, there: Collection[str] = ()
) -> dict[str, str]:
    """Digests of the ``names`` of partitions by tag, where they differ, as fields of a marker; 8 characters each.

    Those of the ``last`` marker are kept, without those of partitions that are not ``there`` any more.

    :param collection: the source's name of the collection.
    """
    mapped, mapping = (_split(last.mapped), _split(last.mapping)) if last else (set(), set())
    held = {_digest_place(name) for name in there}
    new = {_digest_mapped(collection, tag, name) for tag, name in names.items() if tag != name}
    mapped, mapping = ({text for text in texts if text[:PLACE_LENGTH] in held} for texts in (mapped, mapping))
    return {"mapped": _join(mapped), "mapping": _join(mapping | new)}


def has_loaded(marker: Marker, collection: str, tag: str, name: str) -> bool:
    """Whether a migration has loaded the tag into the partition of this name, which differs from it."""
    return _digest_mapped(collection, tag, name) in _split(marker.mapped) | _split(marker.mapping)


def _split(mapped: str) -> set[str]:
    return {mapped[start : start + MAPPED_LENGTH] for start in range(0, len(mapped), MAPPED_LENGTH)}


def _join(texts: Iterable[str]) -> str:
    return "".join(sorted(texts))


def _digest_mapped(collection: str, tag: str, name: str) -> str:
    return _digest_place(name) + _short_digest(f"{collection}\0{tag}", MAPPED_LENGTH - PLACE_LENGTH)


def _digest_place(name: str) -> str:
    return _short_digest(name, PLACE_LENGTH)


def _short_digest(text: str, length: int) -> str:
    return b64encode(hashlib.blake2b(text.encode(), digest_size=16).digest())[:length].decode()


def _digest(names: Collection[str]) -> str:
    return hashlib.blake2b("\0".join(sorted(names)).encode(), digest_size=8).hexdigest()
