"""Manifests: what tasks pass to each other, in the order of the chain, and how they become JSON and back.

:mod:`airflow_provider_milvusdm.report` has the report of a collection, which the verify tasks pass on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import (
    DEFAULT_PARTITION,
    CollectionSpec,
    PartitionSpec,
    Slice,
    SourceRef,
    TargetCollection,
)
from airflow_provider_milvusdm.model.groups import PART_BYTES
from airflow_provider_milvusdm.model.shares import Share, count_shares
from airflow_provider_milvusdm.model.units import LoadUnit

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class PartitionGroup:
    """What one resolve task takes: partitions of one collection.

    A collection that can't be read has an ``error`` and no ``collection``: its resolve task fails with that error,
    and the other collections are not affected.
    """

    name: str
    source: SourceRef
    collection: CollectionSpec | None = None
    partitions: tuple[PartitionSpec, ...] = ()
    whole: bool = True
    """The whole collection was asked for, and not partitions by name."""
    one_key_space: bool = False
    """An id must be unique in all of its partitions, because they become one collection without partitions."""
    unit_bytes: int = 0
    error: str = ""
    notes: tuple[str, ...] = ()
    """Remarks on the collection for the report."""
    other_tags: tuple[str, ...] = ()
    """Tags of its partitions that were not asked for; only the first group of a collection has them."""
    share: Share | None = None
    """What the task takes of the partitions; None: all. ``partitions`` have the segments that begin in the share."""

    @property
    def work(self) -> int:
        """Bytes to read, for grouping."""
        vectors = self.collection.vector_bytes if self.collection else 0
        if self.share:
            return self.share.work(vectors)
        return sum(partition.work(vectors) for partition in self.partitions)

    @property
    def shares(self) -> int:
        """How many tasks its largest key space is for."""
        if self.collection is None or self.share:
            return 1
        rows = [partition.live_rows for partition in self.partitions] or [0]
        return count_shares(sum(rows) if self.one_key_space else max(rows), self.collection.vector_bytes)

    @property
    def label(self) -> str:
        first = self.partitions[0].tag if self.partitions else ""
        more = f" +{len(self.partitions) - 1}" if len(self.partitions) > 1 else ""
        numbered = f" {self.share.number}/{self.share.count}" if self.share else ""
        return f"{self.name}/{first}{more}{numbered}" if first else self.name


@dataclass(frozen=True)
class _AlikeUnits:
    """Load units that have all but their slices in common."""

    unit: LoadUnit
    slices: tuple[tuple[Slice, ...], ...]


def _pack(units: tuple[LoadUnit, ...]) -> tuple[_AlikeUnits, ...]:
    runs = groupby(units, lambda unit: replace(unit, slices=()))
    return tuple(_AlikeUnits(alike, tuple(unit.slices for unit in run)) for alike, run in runs)


def _unpack(packed: Any) -> tuple[LoadUnit, ...]:
    runs = _adapter(tuple[_AlikeUnits, ...]).validate_python(packed)
    return tuple(replace(run.unit, slices=slices) for run in runs for slices in run.slices)


PackedUnits: TypeAlias = Annotated[tuple[LoadUnit, ...], BeforeValidator(_unpack), PlainSerializer(_pack)]
"""Load units; in JSON, what they have in common is written once."""


@dataclass(frozen=True)
class ResolvedPartition:
    """A partition whose segments were opened, its ids read and its vectors checked."""

    tag: str
    live_rows: int
    deleted_rows: int
    fingerprint: str
    """Digest of the ids, the vectors, the deletions and the rows excluded; equal for equal rows."""
    excluded: int = 0
    """Number of live rows that a policy excludes."""
    unsaved: int = 0
    """How many of them have invalid vectors and are in no file: a dry run only counts them."""
    notes: tuple[str, ...] = ()
    """Remarks on its rows for the report."""
    id_range: tuple[int, int] | None = None
    """Its lowest and highest id; None if it has no rows, or if its ids must be unique in the whole collection."""
    key_ranges: str = ""
    """Number and hashes of the rows to load by ranges of their keys, see
    :mod:`airflow_provider_milvusdm.rows.key_ranges`."""

    @property
    def rows(self) -> int:
        """Number of rows to load."""
        return self.live_rows - self.excluded


@dataclass(frozen=True)
class ResolvedSlice:
    """A segment that was resolved, or a range of its rows."""

    row_slice: Slice
    checksum: str
    """Of ids and vectors, a number below 2^64; those of the parts of a segment add up to that of the segment."""
    fingerprint: str = ""
    """The segment's, hexadecimal. It and the next two are known where the slice begins with the first row."""
    deleted_rows: int = 0
    """Number of rows that the source deleted, in the whole segment."""
    replayed_deletes: int = 0
    """How many of them the log deleted."""


@dataclass(frozen=True)
class DuplicateCounts:
    """How many rows shared their ids, and what was done with them."""

    remapped: int = 0
    """Ids that are on several rows, each of which gets a new key."""
    different: int = 0
    """Rows excluded though they have another vector than the row that was kept, or are in another partition."""
    elsewhere: int = 0
    """Those of them that are in another partition."""
    same: int = 0
    """Rows excluded that are the same as the row that was kept."""


@dataclass(frozen=True)
class SkippedCount:
    """How many rows of a partition were excluded because of their vectors, and the file that they are in, if any."""

    tag: str
    rows: int
    path: str


@dataclass(frozen=True)
class ResolvedShare:
    """What a resolve task found in its share of partitions."""

    partition: str
    """Tag of the first of the partitions."""
    number: int
    count: int
    slices: tuple[ResolvedSlice, ...]
    """The rows whose vectors were read."""
    excluded: Mapping[str, str]
    """By segment: its rows that the share found to be excluded, as text of a mask."""
    key_ranges: Mapping[str, str]
    """By tag: the rows whose vectors were read, without those that the share found to be excluded anywhere."""
    id_range: tuple[int, int]
    """Lowest and highest id of the rows whose vectors were read."""
    duplicates: DuplicateCounts
    skipped: tuple[SkippedCount, ...] = ()
    invalid_vectors: str = "error"
    """The policy for invalid vectors; that for duplicates is the group's."""


@dataclass(frozen=True)
class ResolvedGroup:
    """What a resolve task found in its partitions."""

    name: str
    partitions: tuple[ResolvedPartition, ...]
    units: PackedUnits
    own_keys: bool = False
    """Rows get new primary keys (``duplicate_ids: remap``); their ids are in the column ``source_id``."""
    duplicate_ids: str = "error"
    """The policy by which rows with equal ids were chosen."""
    share: ResolvedShare | None = None
    """If the task took only a share; ``partitions`` and ``units`` follow once all shares are joined."""
    skipped_files: tuple[str, ...] = ()
    """The files of excluded rows that the task has written; those of a share are in ``share``."""


@dataclass(frozen=True)
class CollectionPlan:
    """A collection that was asked for: what was resolved of it, and its names in the target."""

    name: str
    target: TargetCollection
    source: SourceRef | None = None
    collection: CollectionSpec | None = None
    whole: bool = True
    partitions: tuple[ResolvedPartition, ...] = ()
    partition_names: Mapping[str, str] = field(default_factory=dict)
    """Target partition by tag; the tag itself where it becomes the partition key."""
    units: PackedUnits = ()
    renamed: bool = False
    """The target's name is given by ``rename``."""
    mapped_tags: tuple[str, ...] = ()
    """Tags whose partition has another name in the target, which ``rename`` does not give."""
    alias: str = ""
    """Alias that is switched to the target once it is verified."""
    unit_bytes: int = 0
    error: str = ""
    refused: bool = False
    """The plan step found the error, and not an earlier one."""
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.name

    @property
    def work(self) -> int:
        """Bytes to load and to verify, for grouping."""
        vectors = self.rows * self.collection.vector_bytes if self.collection else 0
        return vectors + len(self.partitions) * PART_BYTES

    @property
    def rows(self) -> int:
        """Number of rows to load."""
        return sum(partition.rows for partition in self.partitions)

    @property
    def unsaved(self) -> int:
        """Number of excluded rows that are in no file."""
        return sum(partition.unsaved for partition in self.partitions)

    @property
    def fingerprint(self) -> str:
        """Digest of all rows asked for and of their names in the target; it identifies an interrupted migration."""
        digest = hashlib.blake2b(self.target.name.encode(), digest_size=16)
        for partition in sorted(self.partitions, key=lambda partition: partition.tag):
            name = self.partition_names[partition.tag]
            digest.update(f"{partition.tag}\0{name}\0{partition.fingerprint}\0".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class CreatedCollection:
    """What the create step did (if ``plan_only``: would do), and how many rows the partitions held before."""

    name: str
    action: Action
    before: Mapping[str, int] = field(default_factory=dict)
    """Rows by target partition; a partition that is not in it is not written to."""
    upsert: bool = False
    plan_only: bool = False
    units: PackedUnits | None = None
    """Load units that replace those of the plan, where the target holds rows of them already."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """How many rows of the source it holds already, by target partition; they are not counted in ``before``."""
    notes: tuple[str, ...] = ()
    """Remarks on the target for the report."""
    generation: str = ""
    """The generation in the marker that was set."""
    own_name: str = ""
    """The collection's name until it is verified; empty if it is loaded under the target's name."""
    lost: int | None = 0
    """If ``plan_only``: rows of the target that would be dropped, deleted or given another vector; None: unknown."""
    existing: int = 0
    """If ``plan_only``: the target's own id of the collection that exists; 0: none."""
    has_begun: bool = False
    """If ``plan_only``: an earlier attempt of this run was interrupted while it changed the collection that exists."""
    alias: str = ""
    """If ``plan_only``: the plan's alias, if it would be switched to the collection, or created for it."""
    aliased: str = ""
    """If ``plan_only``: the collection that this alias stands for; empty: it does not exist."""
    approved_aliased: str | None = None
    """The collection that the plan's alias stood for when somebody approved that it is switched; None: nobody did."""


@dataclass(frozen=True)
class Foreseen:
    """What a run would do to the target for one collection: a row of the plan that somebody approves."""

    name: str
    target: str
    fingerprint: str = ""
    """That of the :class:`CollectionPlan`."""
    action: Action | None = None
    """None: nothing, because of the ``fault``."""
    rows: int = 0
    """Rows to load."""
    lost: int | None = 0
    """Rows that the target holds and that are dropped, deleted or given another vector; None: unknown."""
    existing: int = 0
    """The target's own id of the collection that exists; on a server, another one of the same name has another."""
    has_begun: bool = False
    """An earlier attempt of the same run has already deleted some of the rows."""
    mapped: Mapping[str, str] = field(default_factory=dict)
    """Names of partitions in the target by tag, where they differ."""
    alias: str = ""
    """Alias that is switched to the collection once it is verified, or created for it."""
    aliased: str = ""
    """The collection that this alias stands for; empty: it does not exist."""
    address: str = ""
    """The server and the database, or the file, that has the collection."""
    in_place: bool = False
    """The old collection is dropped before the rows are loaded."""
    fault: str = ""

    @property
    def is_harmless(self) -> bool:
        """Whether the target stays as it is."""
        return self.action in (Action.SKIPPED, Action.KEPT, None) and not self.alias

    @property
    def is_destructive(self) -> bool:
        return self.lost is None or self.lost > 0

    def covers(self, other: Foreseen) -> bool:
        """Whether whoever approved this has approved the other, too: it does the same, or leaves the rows there are."""
        if other.action is None:
            return True
        if (self.address, self.target, self.fingerprint) != (other.address, other.target, other.fingerprint):
            return False
        if other.in_place and not self.in_place:
            return False
        if other.alias and (self.alias, self.aliased) != (other.alias, other.aliased):
            return False
        if other.action in (Action.SKIPPED, Action.KEPT):
            return True
        return self._includes(other.action) and (not other.is_destructive or self._includes_loss(other))

    def _includes_loss(self, other: Foreseen) -> bool:
        """Whether the rows are the same; or what an interrupted attempt left of them, as far as numbers tell."""
        if self.existing != other.existing:
            return False
        if self.lost == other.lost or not other.has_begun:
            return self.lost == other.lost
        return self.lost is None or (other.lost is not None and other.lost < self.lost)

    def _includes(self, action: Action) -> bool:
        """Whether the action is this one, continues it, or is what is left of it once the old collection is gone."""
        if action is Action.RESUMED:
            return self.action is not None and self.action.effect.loads_rows
        return action is self.action or (action is Action.CREATED and self.action is Action.OVERWRITTEN)


@dataclass(frozen=True)
class Loaded:
    """What a load task wrote to the target: live rows by target partition, and the time it took."""

    collection: str
    rows: dict[str, int]
    seconds: float
    unit: str
    """Digest of the load unit."""


@dataclass(frozen=True)
class ExportUnit:
    """What one export task takes: a partition, and the paths of its file and of the marker of the run's folder."""

    source: SourceRef
    collection: CollectionSpec
    partition: str
    path: str
    marker: str
    rows: int
    slices: tuple[Slice, ...] = ()
    target: str = DEFAULT_PARTITION
    """Name of the partition in Milvus 2.x, for whoever loads the file there."""

    @property
    def name(self) -> str:
        return self.collection.name

    @property
    def label(self) -> str:
        return f"{self.name}/{self.partition}"

    @property
    def work(self) -> int:
        """Bytes to write, for grouping."""
        return self.rows * self.collection.vector_bytes + PART_BYTES

    @property
    def digest(self) -> str:
        """Digest of its slices; it identifies the unit, whatever its path is."""
        return hashlib.blake2b(f"{self.label}\0{self.slices!r}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the number of its rows."""

    collection: str
    partition: str
    path: str
    marker: str
    rows: int
    seconds: float


@dataclass(frozen=True)
class Fault:
    """What a task that failed says of its collection, or what a check found wrong with it."""

    collection: str
    fault: str
    unit: str = ""
    """Digest of the unit that was not loaded or exported; empty for other steps."""


Manifest = TypeVar("Manifest", bound="DataclassInstance")

_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def to_json(manifest: DataclassInstance) -> dict[str, Any]:
    """A manifest as JSON values."""
    values: dict[str, Any] = _adapter(type(manifest)).dump_python(manifest, mode="json")
    return values


def from_json(kind: type[Manifest], values: Mapping[str, Any]) -> Manifest:
    """The manifest that :func:`to_json` made ``values`` of. Raises ValueError where they are of another kind."""
    manifest: Manifest = _adapter(kind).validate_python(values)
    return manifest
