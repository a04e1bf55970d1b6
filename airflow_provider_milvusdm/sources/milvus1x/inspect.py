"""Inspect a Milvus 1.x catalog: which collections and partitions are asked for, in groups to resolve."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_provider_milvusdm.exceptions import (
    ConfigurationError,
    SourceError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.model.collections import (
    ALL_COLLECTIONS,
    CollectionSpec,
    PartitionSpec,
    SourcePosition,
    SourceRef,
)
from airflow_provider_milvusdm.model.units import group_sizes, split_evenly, unit_bytes_within
from airflow_provider_milvusdm.sources.milvus1x.catalog import COPY_WAL, Catalog
from airflow_provider_milvusdm.sources.milvus1x.lock import is_running
from airflow_provider_milvusdm.sources.milvus1x.log_segment import log_options
from airflow_provider_milvusdm.sources.milvus1x.position import find_position, with_log
from airflow_provider_milvusdm.sources.milvus1x.unflushed import Flushed, LogCounts, Unflushed, count_log
from airflow_provider_milvusdm.sources.milvus1x.unlisted import count_unlisted, describe, list_folders, unlisted_fault
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath

FLUSH_IT = (
    "Start the 1.x server once more on a copy of the directory and flush the collection, or leave these rows behind: "
    "unflushed_log: ignore."
)
UNLISTED = "segment folders that the catalog does not name, whose rows may be missing"

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
    flushed: Flushed = field(default_factory=Flushed)
    """By partition: the last log position whose operations are in segments."""
    unflushed: Unflushed | None = None
    """What of the log is to be replayed."""
    table_ids: Collection[str] = ()
    """Folders of its partitions."""
    position: SourcePosition | None = None

    @property
    def live_bytes(self) -> int:
        rows = sum(partition.live_rows for partition in self.partitions)
        return rows * self.collection.vector_bytes if self.collection else 0

    def source(self, tables: AnyPath, wal: AnyPath, partitions: Sequence[PartitionSpec]) -> SourceRef:
        """Where these partitions of it are read from."""
        log = log_options(wal, self.unflushed, self.flushed, partitions) if self.unflushed else {}
        return SourceRef("milvus1x", str(tables), log)

    def owns(self, folder: str) -> bool:
        """Whether it is the folder of one of its segments."""
        return folder.partition("/")[0] in self.table_ids

    def refused(self, fault: SourceError) -> _Asked:
        return _Asked(self.name, self.whole, error=str(fault), table_ids=self.table_ids)


@refuse_unreadable()
def inspect_catalog(
    catalog: Catalog,
    tables: AnyPath,
    wal: AnyPath,
    selection: Selection,
    *,
    unit_bytes: int,
    max_tasks: int,
    unflushed_log: str = "replay",
    unlisted_segments: str = "error",
    partitions: str = "keep",
    folders: Collection[str] | None = None,
) -> list[PartitionGroup]:
    """Groups of partitions to resolve, at least one for each collection asked for.

    ``unit_bytes`` is raised and partitions are grouped so that no step of the run gets more than ``max_tasks``
    tasks. With ``partitions`` ``partition_key`` all of a collection are one group, for an id may not be in two of them.
    ``folders``: what :func:`list_folders` found before the catalog was read, so that none which a server makes
    meanwhile is taken for one that the catalog lacks; None: they are listed now. A fault of one collection travels in
    its group; only a source that can't be read at all raises.
    """
    if not tables.is_dir():
        raise SourceNotFoundError(
            "no tables folder",
            where=tables,
            cure="source_milvus_path is the directory that holds db/tables; tables_path names another place.",
        )
    asked = [_ask(catalog, name, tags) for name, tags in _expand(catalog, selection).items()]
    if len(asked) > max_tasks // 2:
        raise ConfigurationError(
            f"{len(asked)} collections are too many for one run",
            expected=f"at most {max_tasks // 2}, half of Airflow's core.max_map_length",
            cure="Name fewer in source_collection, or raise core.max_map_length.",
        )
    log = count_log(wal, catalog, {one.name: one.flushed for one in asked})
    asked = [_with_log(one, log, wal, unflushed_log) for one in asked]
    unlisted = count_unlisted(tables, list_folders(tables) if folders is None else folders, catalog.folders())
    asked = [_with_unlisted(one, unlisted, tables, unlisted_segments) for one in asked]
    others = {name: rows for name, rows in unlisted.items() if not any(one.owns(name) for one in asked)}
    notes = (*_notes_on_all(catalog, log, tables, wal, unflushed_log), *_note_on_unlisted(others))
    asked[0] = replace(asked[0], notes=(*asked[0].notes, *notes))
    one_key_space = partitions == "partition_key"
    counts = group_sizes([1 if one_key_space else len(one.partitions) for one in asked], max_tasks // 2)
    total = sum(one.live_bytes for one in asked)
    unit_bytes = unit_bytes_within(total, sum(counts), max_tasks, unit_bytes)
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
    flushed, table_ids = Flushed((tag, lsns[tag]) for tag in wanted), catalog.table_ids(name, wanted)
    return _Asked(name, whole, collection, partitions, flushed=flushed, table_ids=table_ids, position=position)


def _with_log(one: _Asked, log: LogCounts, wal: AnyPath, unflushed_log: str) -> _Asked:
    """The collection with the rows that only the log holds: they are data, and in no segment."""
    if one.error:
        return one
    lost, unflushed = log.lost(one.flushed), log.unflushed[one.name]
    if lost and unflushed_log != "ignore":
        return one.refused(lost)
    one = replace(one, notes=(*one.notes, *_log_notes(unflushed, lost)))
    policy = {"replay": _replayed, "ignore": _ignored, "error": _refused}[unflushed_log]
    return policy(one, unflushed, wal) if unflushed else one


def _log_notes(unflushed: Unflushed, lost: SourceError | None) -> Iterator[str]:
    if lost:
        yield f"the 1.x server's log was ignored, rows that only it held are not migrated: {lost}"
    if unflushed.before_start:
        yield (
            f"{unflushed.before_start} rows in the 1.x server's log are left out, as by the server: they are before "
            f"lsn {unflushed.start}, up to which its catalog says that all was flushed"
        )


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
    partitions = tuple(_with_segments_of_log(partition, unflushed) for partition in one.partitions)
    note = f"replayed from the 1.x server's log: {unflushed.inserted} rows inserted, {unflushed.deleted} ids deleted"
    position = with_log(one.position, unflushed.last_lsn) if one.position else None
    return replace(one, partitions=partitions, unflushed=unflushed, position=position, notes=(*one.notes, note))


def _with_segments_of_log(partition: PartitionSpec, unflushed: Unflushed) -> PartitionSpec:
    added = tuple(unflushed.segments(partition.tag))
    rows = sum(segment.live_rows for segment in added)
    return replace(partition, segments=(*partition.segments, *added), replayed_rows=rows)


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


def _with_unlisted(one: _Asked, unlisted: Mapping[str, int], tables: AnyPath, policy: str) -> _Asked:
    """The collection, or its refusal where segments of it may be missing in the catalog."""
    own = {name: rows for name, rows in unlisted.items() if one.owns(name)}
    if one.error or not own:
        return one
    if policy != "ignore":
        return one.refused(unlisted_fault(one.name, tables, own))
    return replace(one, notes=(*one.notes, f"{UNLISTED}, left behind: {describe(own)}"))


def _note_on_unlisted(others: Mapping[str, int]) -> Iterator[str]:
    if others:
        yield f"{UNLISTED}: {describe(others)}"


def _notes_on_all(catalog: Catalog, log: LogCounts, tables: AnyPath, wal: AnyPath, unflushed_log: str) -> Iterator[str]:
    """What the report has to say of the whole directory."""
    yield from catalog.notes
    if is_running(tables, wal):
        yield (
            "a Milvus 1.x server has the directory open: what it writes from now on is not migrated, and the run "
            "fails if that touches what is"
        )
    if not log.is_there:
        yield f"no log of the 1.x server in {wal}: rows that only it held, if there were any, are not migrated"
    if log.rows_behind:
        yield (
            f"{log.rows_behind} rows in the 1.x server's log are left out, as by the server: they are behind the last "
            "record that mxlog.meta names"
        )
    if unflushed_log == "replay" and log.unknown:
        listed = ", ".join(f"{name} ({rows})" for name, rows in sorted(log.unknown.items()))
        yield f"rows in the 1.x server's log of what its catalog does not hold are left out: {listed}"
