"""Manifests: what tasks pass to each other, as JSON and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from airflow_provider_milvusdm.model.collections import (
    DEFAULT_PARTITION,
    CollectionSpec,
    PartitionSpec,
    Slice,
    SourcePosition,
    SourceRef,
    TargetCollection,
)
from airflow_provider_milvusdm.model.units import LoadUnit


@dataclass(frozen=True)
class PartitionGroup:
    """What one resolve task takes: some partitions of one collection.

    A collection that can't be read travels too, with its ``error`` and no ``collection``: so that its resolve
    task fails with that error and the other collections go on.
    """

    name: str
    source: SourceRef
    collection: CollectionSpec | None = None
    partitions: tuple[PartitionSpec, ...] = ()
    whole: bool = True
    """All partitions of the collection were asked for, not named ones."""
    one_key_space: bool = False
    """Its partitions become one: an id on rows of two of them is a duplicate."""
    unit_bytes: int = 0
    position: SourcePosition | None = None
    """None where the source says nothing of what it held before."""
    error: str = ""
    notes: tuple[str, ...] = ()
    """What the report has to say of the collection."""

    @property
    def label(self) -> str:
        first = self.partitions[0].tag if self.partitions else ""
        more = f" +{len(self.partitions) - 1}" if len(self.partitions) > 1 else ""
        return f"{self.name}/{first}{more}" if first else self.name


@dataclass(frozen=True)
class _AlikeUnits:
    """Load units that differ in their slices alone."""

    unit: LoadUnit
    slices: tuple[tuple[Slice, ...], ...]


def _pack(units: tuple[LoadUnit, ...]) -> tuple[_AlikeUnits, ...]:
    runs = groupby(units, lambda unit: replace(unit, slices=()))
    return tuple(_AlikeUnits(alike, tuple(unit.slices for unit in run)) for alike, run in runs)


def _unpack(packed: Any) -> tuple[LoadUnit, ...]:
    runs = from_json(tuple[_AlikeUnits, ...], packed)
    return tuple(replace(run.unit, slices=slices) for run in runs for slices in run.slices)


PackedUnits: TypeAlias = Annotated[tuple[LoadUnit, ...], BeforeValidator(_unpack), PlainSerializer(_pack)]
"""Load units, which in JSON have what they share once."""


@dataclass(frozen=True)
class ResolvedPartition:
    """A partition whose segments were opened, its ids read and its vectors checked."""

    tag: str
    live_rows: int
    deleted_rows: int
    fingerprint: str
    """Digest of the ids, the vectors, the deletions and what is left out: the same rows give the same one."""
    excluded: int = 0
    """Live rows that a policy leaves out."""
    notes: tuple[str, ...] = ()
    """What the report has to say of them."""
    id_range: tuple[int, int] | None = None
    """Its lowest and highest id; None: it has no rows, or shares one key space with the others."""
    key_ranges: str = ""
    """Number and hashes of the rows to load by ranges of their keys, see
    :mod:`airflow_provider_milvusdm.rows.key_ranges`."""

    @property
    def rows(self) -> int:
        """Rows to load."""
        return self.live_rows - self.excluded


@dataclass(frozen=True)
class ResolvedGroup:
    """What a resolve task found."""

    name: str
    partitions: tuple[ResolvedPartition, ...]
    units: PackedUnits
    own_keys: bool = False
    """Rows have keys of their own, and their ids are in the column ``source_id``."""
    duplicate_ids: str = "error"
    """The policy that chose among rows of one id."""


@dataclass(frozen=True)
class CollectionPlan:
    """A collection asked for, all that was found of it, and the names it gets in the target."""

    name: str
    target: TargetCollection
    source: SourceRef | None = None
    collection: CollectionSpec | None = None
    whole: bool = True
    partitions: tuple[ResolvedPartition, ...] = ()
    partition_names: Mapping[str, str] = field(default_factory=dict)
    """Target partition of each tag; the tag itself where it becomes a partition key."""
    units: PackedUnits = ()
    named: bool = True
    """The target has the collection's own name, or the one that ``rename`` gives it; else one had to be made up."""
    position: SourcePosition | None = None
    """That of the source; its history is a digest, and tells rows of the same place in the target."""
    alias: str = ""
    """Alias to switch to the target once it is verified."""
    error: str = ""
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.name

    @property
    def rows(self) -> int:
        """Rows to load."""
        return sum(partition.rows for partition in self.partitions)

    @property
    def fingerprint(self) -> str:
        """Digest of all rows asked for, and where they go: what an interrupted migration is known by."""
        digest = hashlib.blake2b(self.target.name.encode(), digest_size=16)
        for partition in sorted(self.partitions, key=lambda partition: partition.tag):
            name = self.partition_names[partition.tag]
            digest.update(f"{partition.tag}\0{name}\0{partition.fingerprint}\0".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class CreatedCollection:
    """What the create step did (or, ``plan_only``, would do), and the rows that each partition to load held before."""

    name: str
    action: str
    before: Mapping[str, int] = field(default_factory=dict)
    """By target partition; the partitions that are not in it are left as they are."""
    upsert: bool = False
    plan_only: bool = False
    units: PackedUnits | None = None
    """What to load in place of the plan's units, where the target holds some rows already."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """How many it holds, by target partition; they are not counted in ``before``."""
    notes: tuple[str, ...] = ()
    """What the report has to say of the target."""
    generation: str = ""
    """That of the marker which was set."""
    own_name: str = ""
    """The collection's name until it is verified; empty: it is loaded under the target's."""


Manifest = TypeVar("Manifest")


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def to_json(manifest: Any) -> Any:
    """A manifest as JSON values."""
    return _adapter(type(manifest)).dump_python(manifest, mode="json")


def from_json(kind: type[Manifest], value: Any) -> Manifest:
    """JSON values as the manifest they were made of."""
    manifest: Manifest = _adapter(kind).validate_python(value)
    return manifest


def parse_text(value: Any) -> Any:
    """An operator's argument, which a template renders as JSON text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


@dataclass(frozen=True)
class Loaded:
    """What a load task brought into the target: live rows by target partition, and the time it took."""

    collection: str
    rows: dict[str, int]
    seconds: float
    unit: str
    """Its digest."""


@dataclass(frozen=True)
class ExportUnit:
    """What one export task takes: a partition, and the file that it goes to."""

    source: SourceRef
    collection: CollectionSpec
    partition: str
    path: str
    rows: int
    slices: tuple[Slice, ...] = ()
    target: str = DEFAULT_PARTITION
    """Name of the partition in a Milvus 2.x that the file is loaded into."""

    @property
    def label(self) -> str:
        return f"{self.collection.name}/{self.partition}"

    @property
    def digest(self) -> str:
        """Of its rows' places, wherever they go: what it is known by."""
        return hashlib.blake2b(f"{self.label}\0{self.slices!r}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Exported:
    """A file that was written: its rows, and the digest of their ids and vectors."""

    collection: str
    partition: str
    path: str
    rows: int
    digest: str
    seconds: float
