"""The words of a migration: collection, partition, segment, row, load unit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

from pydantic import BeforeValidator, PlainSerializer

from airflow_provider_milvusdm.manifest import from_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ALL_COLLECTIONS = "*"
DEFAULT_PARTITION = "_default"
SOURCE_ID = "source_id"
"""Field for the ids of the source, where rows get keys of their own."""
PARTITION_TAG = "partition_tag"
"""Field for the partition tags of the source, where they become a partition key."""


class Metric(StrEnum):
    """How two vectors are compared; the last five compare bits."""

    L2 = "L2"
    IP = "IP"
    COSINE = "COSINE"
    HAMMING = "HAMMING"
    JACCARD = "JACCARD"
    TANIMOTO = "TANIMOTO"
    SUBSTRUCTURE = "SUBSTRUCTURE"
    SUPERSTRUCTURE = "SUPERSTRUCTURE"

    @property
    def is_binary(self) -> bool:
        return self not in (Metric.L2, Metric.IP, Metric.COSINE)


@dataclass(frozen=True)
class VectorBatch:
    """Some live rows.

    ``ids``: int64, shape (n,). ``vectors``: float32, shape (n, dimension), or for binary vectors uint8,
    shape (n, dimension / 8). ``columns``: scalar fields beside them by name, int64 of shape (n,), or one text for all.
    """

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    columns: Mapping[str, npt.NDArray[np.int64] | str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> VectorBatch:
        """Rows ``start`` to ``stop`` of it."""
        columns = {name: some if isinstance(some, str) else some[start:stop] for name, some in self.columns.items()}
        return VectorBatch(self.ids[start:stop], self.vectors[start:stop], columns)


@dataclass(frozen=True)
class CollectionSpec:
    """A collection as its source describes it."""

    name: str
    dimension: int
    metric: Metric
    index_type: str = "FLAT"
    index_params: Mapping[str, int] = field(default_factory=dict)
    generated_ids: bool = False
    """The source's server made the ids: its application inserts without them."""

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector."""
        return self.dimension // 8 if self.metric.is_binary else self.dimension * 4


@dataclass(frozen=True)
class SegmentSpec:
    """One segment of a source: its name there, and the live rows that the source's catalog claims."""

    name: str
    live_rows: int


@dataclass(frozen=True)
class PartitionSpec:
    tag: str
    segments: tuple[SegmentSpec, ...] = ()
    first_key: int = 0
    """Where keys of their own count on from, should its rows get such: no two partitions' meet."""
    replayed_rows: int = 0
    """Rows that a log inserts; they are among those of its segments."""

    @property
    def live_rows(self) -> int:
        return sum(segment.live_rows for segment in self.segments)


@dataclass(frozen=True)
class SourceRef:
    """Enough to open a source again in another task: its kind in the registry, where it is, and how to read it."""

    kind: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourcePosition:
    """How far a source had come: what was there by then, a later look finds as it was, or merged, or deleted."""

    history: str
    """What else decides which rows a later look finds; only positions of one history can be compared."""
    segment: int
    """Name of the youngest segment, a number that grows; all up to it were finished."""
    lsn: int
    """Of the last operation that was taken in."""

    def __str__(self) -> str:
        return f"{self.history} {self.segment} {self.lsn}"

    @classmethod
    def parse(cls, text: str) -> SourcePosition | None:
        """What ``str`` made of a position; None for any other text."""
        history, *numbers = text.split(" ")
        return cls(history, *map(int, numbers)) if len(numbers) == 2 else None

    def follows(self, other: SourcePosition) -> bool:
        """Whether the source has come from the other position to this one."""
        return self.history == other.history and self.segment >= other.segment and self.lsn >= other.lsn


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
class Slice:
    """Stored rows ``start`` to ``stop`` of a segment, deleted ones counted."""

    partition: str
    segment: str
    start: int
    stop: int
    left_out: str = ""
    """Which of these rows a policy leaves out: a bit a row, see :mod:`airflow_provider_milvusdm.sources.row_mask`."""
    stamp: str = ""
    """Of the segment's files, see :mod:`airflow_provider_milvusdm.sources.stamps`; empty: none that must stay."""
    first_key: int | None = None
    """Primary key of row ``start``, those behind it counted on; None: the ids are the keys."""

    @property
    def stored_rows(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> Slice:
        """Rows ``start`` to ``stop`` of it, before any was left out."""
        key = None if self.first_key is None else self.first_key + start - self.start
        return replace(self, start=start, stop=stop, first_key=key)


@dataclass(frozen=True)
class RowPolicies:
    """What to do with rows that Milvus 1.x took and Milvus 2.x refuses."""

    duplicate_ids: str = "error"
    """``error``, ``keep_first``, ``keep_last``, or ``remap``: keys of their own, the ids in a field ``source_id``."""
    invalid_vectors: str = "error"
    """``error``, or ``skip``: rows with NaN or infinity are saved to a file and left out."""
    skipped_rows_dir: str = ""
    """Folder of these files."""


@dataclass(frozen=True)
class TargetCollection:
    """Where a load unit goes: names in the target."""

    name: str
    id_field: str = "id"
    vector_field: str = "embedding"
    auto_id: bool = False
    """The target makes the ids: the rows of the source have none."""
    own_keys: bool = False
    """Rows have keys of their own, and their ids are in the field ``source_id``."""
    partition_field: str = ""
    """The partition key: a row's tag is in this field, and there are no partitions; empty: partitions."""
    generate_ids: bool = False
    """Rows inserted without an id later on get one and those of the source keep theirs, where the target can."""


@dataclass(frozen=True)
class LoadUnit:
    """What one load task takes: segments, or ranges of rows of one.

    Once ``target`` is set, the slices' partitions are the target's.
    """

    source: SourceRef
    collection: CollectionSpec
    slices: tuple[Slice, ...]
    target: TargetCollection | None = None
    migration: str = ""
    """Fingerprint of the collection's plan: its target must carry a mark with the same."""
    incarnation: str = ""
    """That of the mark: another one stands for a target that was made anew, or gone on with by another run."""
    upsert: bool = False
    """An earlier run may have written some of these rows already."""

    @property
    def stored_rows(self) -> int:
        return sum(piece.stored_rows for piece in self.slices)

    @property
    def digest(self) -> str:
        """Of its rows' places and of the target's incarnation: what it is known by."""
        return hashlib.blake2b(f"{self.incarnation}{self.slices!r}".encode(), digest_size=16).hexdigest()

    @property
    def label(self) -> str:
        first = self.slices[0]
        more = f" +{len(self.slices) - 1}" if len(self.slices) > 1 else ""
        return f"{self.collection.name}/{first.partition}: {first.segment} [{first.start}:{first.stop}]{more}"


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
    left_out: int = 0
    """Live rows that a policy leaves out."""
    notes: tuple[str, ...] = ()
    """What the report has to say of them."""
    id_range: tuple[int, int] | None = None
    """Its lowest and highest id; None: it has no rows, or shares one key space with the others."""

    @property
    def rows(self) -> int:
        """Rows to load."""
        return self.live_rows - self.left_out


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


def ranges(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """``start`` to ``stop`` in steps of ``rows``."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


class Segment(Protocol):
    """An opened segment of any source."""

    @property
    def stored_rows(self) -> int: ...

    @property
    def deleted_rows(self) -> int:
        """Rows that are not live, as the source's catalog counts them."""
        ...

    @property
    def replayed_deletes(self) -> int:
        """Further rows that are not live: those that a log deletes beyond what the catalog counts."""
        ...

    @property
    def files(self) -> tuple[Any, ...]:
        """Paths of the files that must stay as they are for its rows to stay the same."""
        ...

    def live(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of the stored rows ``start`` to ``stop`` are live."""
        ...

    def ids(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Ids of the live rows among the stored rows ``start`` to ``stop``."""
        ...

    def read(self, start: int, stop: int) -> VectorBatch:
        """Live rows among the stored rows ``start`` to ``stop``."""
        ...

    def fingerprint(self) -> bytes:
        """Digest of what identifies the rows."""
        ...


class Source(Protocol):
    """An opened source of any kind."""

    def segment(self, collection: CollectionSpec, name: str) -> Segment: ...


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
    """What the create step did (or, ``planned``, would do), and the rows that each partition to load held before."""

    name: str
    action: str
    before: Mapping[str, int] = field(default_factory=dict)
    """By target partition; the partitions that are not in it are left as they are."""
    upsert: bool = False
    planned: bool = False
    units: PackedUnits | None = None
    """What to load in place of the plan's units, where the target holds some rows already."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """How many it holds, by target partition; they are not counted in ``before``."""
    notes: tuple[str, ...] = ()
    """What the report has to say of the target."""
    incarnation: str = ""
    """That of the mark which was set."""
    own_name: str = ""
    """The collection's name until it is verified; empty: it is loaded under the target's."""
