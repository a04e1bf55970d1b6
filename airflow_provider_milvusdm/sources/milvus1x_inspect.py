"""Inspect a Milvus 1.x catalog: which collections and partitions are asked for, in groups to resolve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_provider_milvusdm.exceptions import (
    ConfigurationError,
    SourceError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.sources import refuse_unreadable
from airflow_provider_milvusdm.sources.files import AnyPath
from airflow_provider_milvusdm.sources.milvus1x_catalog import COPY_WAL, Catalog
from airflow_provider_milvusdm.sources.milvus1x_log_segment import log_options
from airflow_provider_milvusdm.sources.milvus1x_position import find_position, with_log
from airflow_provider_milvusdm.sources.milvus1x_server import is_running
from airflow_provider_milvusdm.sources.milvus1x_unflushed import Unflushed, count_unflushed, count_unknown
from airflow_provider_milvusdm.sources.units import group_sizes, split_evenly, unit_bytes_within
from airflow_provider_milvusdm.vectors import (
    ALL_COLLECTIONS,
    CollectionSpec,
    PartitionGroup,
    PartitionSpec,
    SourcePosition,
    SourceRef,
)

FLUSH_IT = (
    "Start the 1.x server once more on a copy of the directory and flush the collection, or leave these rows behind: "
    "unflushed_log: ignore."
)

Selection = Mapping[str, Sequence[str] | None]


@dataclass(frozen=True)
class _Asked:
    """A collection asked for, or why it can't be read."""

    name: str
    whole: bool
    collection: CollectionSpec | None = None
    partitions: tuple[PartitionSpec, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    flushed: Mapping[str, int] = field(default_factory=dict)
    """By partition: the last log position whose operations are in segments."""
    unflushed: Unflushed | None = None
    """What of the log is to be replayed."""
    position: SourcePosition | None = None

    @property
    def live_bytes(self) -> int:
        rows = sum(partition.live_rows for partition in self.partitions)
        return rows * self.collection.vector_bytes if self.collection else 0

    def source(self, tables: AnyPath, wal: AnyPath, partitions: Sequence[PartitionSpec]) -> SourceRef:
        """Where these partitions of it are read from."""
        log = log_options(wal, self.unflushed, self.flushed, partitions) if self.unflushed else {}
        return SourceRef("milvus1x", str(tables), log)

    def refused(self, fault: SourceError) -> _Asked:
        return _Asked(self.name, self.whole, error=str(fault))


@refuse_unreadable()
def inspect_catalog(
    catalog: Catalog,
    tables: AnyPath,
    wal: AnyPath,
    selection: Selection,
    *,
    unit_bytes: int,
    most_tasks: int,
    unflushed_log: str = "replay",
    partitions: str = "keep",
) -> list[PartitionGroup]:
    """Groups of partitions to resolve, at least one for each collection asked for.

    ``unit_bytes`` is raised and partitions are grouped so that no step of the run gets more than ``most_tasks``
    tasks. With ``partitions`` ``partition_key`` all of a collection are one group, for an id may not be in two of them.
    A fault of one collection travels in its group; only a source that can't be read at all raises.
    """
    if not tables.is_dir():
        raise SourceNotFoundError(
            "no tables folder",
            where=tables,
            cure="source_milvus_path is the directory that holds db/tables; tables_path names another place.",
        )
    asked = [_ask(catalog, name, tags) for name, tags in _expand(catalog, selection).items()]
    if len(asked) > most_tasks // 2:
        raise ConfigurationError(
            f"{len(asked)} collections are too many for one run",
            expected=f"at most {most_tasks // 2}, half of Airflow's core.max_map_length",
            cure="Name fewer in source_collection, or raise core.max_map_length.",
        )
    asked = _with_log(asked, catalog, wal, unflushed_log)
    asked[0] = replace(asked[0], notes=asked[0].notes + _notes_on_all(catalog, tables, wal, unflushed_log))
    one_key_space = partitions == "partition_key"
    counts = group_sizes([1 if one_key_space else len(one.partitions) for one in asked], most_tasks // 2)
    total = sum(one.live_bytes for one in asked)
    unit_bytes = unit_bytes_within(total, sum(counts), most_tasks, unit_bytes)
    return [
        PartitionGroup(
            name=one.name,
            source=one.source(tables, wal, some),
            collection=one.collection,
            partitions=some,
            whole=one.whole,
            one_key_space=one_key_space,
            unit_bytes=unit_bytes,
            position=one.position,
            error=one.error,
            notes=one.notes,
        )
        for one, count in zip(asked, counts, strict=True)
        for some in split_evenly(one.partitions, count)
    ]


def _expand(catalog: Catalog, selection: Selection) -> dict[str, Sequence[str] | None]:
    """The selection with ``*`` replaced by all collections that it doesn't name."""
    if selection.get(ALL_COLLECTIONS):
        raise ConfigurationError(
            "partitions of all collections can't be chosen at once",
            where="source_collection",
            expected=f'{{"{ALL_COLLECTIONS}": null}}',
            found=f"{ALL_COLLECTIONS} with partitions {', '.join(selection[ALL_COLLECTIONS] or ())}",
            cure="Name each collection with its partitions.",
        )
    expanded = {name: tags for name, tags in selection.items() if name != ALL_COLLECTIONS}
    if ALL_COLLECTIONS in selection:
        expanded |= {name: None for name in catalog.names() if name not in expanded}
    if not expanded:
        raise SourceNotFoundError(
            "the catalog holds no collection",
            where=catalog.origin,
            cure=f"Is this the directory? {COPY_WAL}.",
        )
    return expanded


def _ask(catalog: Catalog, name: str, tags: Sequence[str] | None) -> _Asked:
    whole = tags is None
    try:
        collection = catalog.collection(name)
        wanted = catalog.tags(name) if tags is None else list(dict.fromkeys(tags))
        partitions = tuple(catalog.partition(name, tag) for tag in wanted)
        lsns = catalog.flushed_lsns(name)
        position = find_position(catalog, name)
    except SourceError as fault:
        return _Asked(name, whole, error=str(fault))
    flushed = {tag: lsns[tag] for tag in wanted}
    return _Asked(name, whole, collection, partitions, flushed=flushed, position=position)


def _with_log(asked: Sequence[_Asked], catalog: Catalog, wal: AnyPath, unflushed_log: str) -> list[_Asked]:
    """The collections with the rows that only the log holds: they are data, and in no segment."""
    try:
        found = count_unflushed(wal, {one.name: one.flushed for one in asked})
    except SourceError as fault:
        return [one if one.error else one.refused(fault) for one in asked]
    policy = {"replay": _replayed, "ignore": _ignored, "error": _refused}[unflushed_log]
    return [policy(one, found[one.name], wal) if found[one.name] else one for one in asked]


def _replayed(one: _Asked, unflushed: Unflushed, wal: AnyPath) -> _Asked:
    if unflushed.others:
        return one.refused(
            UnsupportedSourceError(
                f"operations of collection {one.name!r} in the 1.x server's log that can't be replayed",
                where=wal,
                expected="insertions and deletions",
                found=", ".join(f"{count} records of type {kind}" for kind, count in sorted(unflushed.others.items())),
                cure=FLUSH_IT,
            )
        )
    partitions = tuple(
        replace(partition, segments=(*partition.segments, *unflushed.segments(partition.tag)))
        for partition in one.partitions
    )
    note = f"replayed from the 1.x server's log: {unflushed.inserted} rows inserted, {unflushed.deleted} ids deleted"
    position = with_log(one.position, unflushed.last_lsn) if one.position else None
    return replace(one, partitions=partitions, unflushed=unflushed, position=position, notes=(*one.notes, note))


def _ignored(one: _Asked, unflushed: Unflushed, wal: AnyPath) -> _Asked:
    note = f"rows that only the 1.x server's log holds were ignored: {unflushed}"
    return replace(one, notes=(*one.notes, note))


def _refused(one: _Asked, unflushed: Unflushed, wal: AnyPath) -> _Asked:
    return one.refused(
        UnsupportedSourceError(
            f"rows of collection {one.name!r} are only in the 1.x server's log",
            where=wal,
            expected="all rows in segments",
            found=str(unflushed),
            cure=f"Load them, too: unflushed_log: replay. Or: {FLUSH_IT}",
        )
    )


def _notes_on_all(catalog: Catalog, tables: AnyPath, wal: AnyPath, unflushed_log: str) -> tuple[str, ...]:
    """What the report has to say of the whole directory."""
    notes = []
    if is_running(tables, wal):
        notes.append(
            "a Milvus 1.x server has the directory open: what it writes from now on is not migrated, and the run "
            "fails if that touches what is"
        )
    if unflushed_log == "replay" and (unknown := _unknown(catalog, wal)):
        listed = ", ".join(f"{name} ({rows})" for name, rows in sorted(unknown.items()))
        notes.append(f"rows in the 1.x server's log of what its catalog does not hold are left out: {listed}")
    return tuple(notes)


def _unknown(catalog: Catalog, wal: AnyPath) -> Mapping[str, int]:
    known = {name: [row["partition_tag"] for row in catalog.partitions.get(name, [])] for name in catalog.names()}
    try:
        return count_unknown(wal, known)
    except SourceError:  # each collection has this fault
        return {}
