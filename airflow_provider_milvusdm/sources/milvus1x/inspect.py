"""Inspect a Milvus 1.x catalog: the selected collections and partitions, in groups to resolve."""

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
    SourceRef,
)
from airflow_provider_milvusdm.model.units import group_sizes, split_evenly, unit_bytes_within
from airflow_provider_milvusdm.sources.milvus1x.catalog import COPY_WAL, Catalog
from airflow_provider_milvusdm.sources.milvus1x.lock import is_running
from airflow_provider_milvusdm.sources.milvus1x.log_options import LogOptions
from airflow_provider_milvusdm.sources.milvus1x.segment_name import SegmentFolder
from airflow_provider_milvusdm.sources.milvus1x.unflushed import Flushed, LogCounts, Unflushed, count_log
from airflow_provider_milvusdm.sources.milvus1x.unlisted import (
    count_unlisted,
    describe_unlisted,
    list_folders,
    unlisted_fault,
)
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath

CURE_FLUSH = (
    "Start the 1.x server on a copy of the directory and flush the collection, or migrate without these rows: "
    "unflushed_log: ignore."
)
UNLISTED = "segment folders that the catalog does not name, whose rows may be missing"

Selection = Mapping[str, Sequence[str] | None]
"""By collection: the tags of the partitions to migrate; None: all of them."""


@dataclass(frozen=True)
class _Request:
    """A selected collection and what was found of it, or why it can't be read."""

    name: str
    whole: bool
    """All its partitions are selected."""
    collection: CollectionSpec | None = None
    partitions: tuple[PartitionSpec, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    flushed: Flushed = field(default_factory=Flushed)
    unflushed: Unflushed | None = None
    """The operations in the log that are to be replayed."""
    table_ids: Collection[str] = ()
    """Folders of its partitions."""
    other_tags: tuple[str, ...] = ()
    """Tags of its partitions that are not selected."""

    @property
    def live_bytes(self) -> int:
        rows = sum(partition.live_rows for partition in self.partitions)
        return rows * self.collection.vector_bytes if self.collection else 0

    @property
    def work(self) -> int:
        """Bytes to read, for grouping."""
        return sum(partition.work(self.collection.vector_bytes) for partition in self.partitions if self.collection)

    def source(self, tables_folder: AnyPath, log_folder: AnyPath, partitions: Sequence[PartitionSpec]) -> SourceRef:
        """The source of these partitions of the collection."""
        ref = SourceRef("milvus1x", str(tables_folder))
        if not self.unflushed:
            return ref
        options = LogOptions.of(log_folder, self.unflushed, self.flushed, partitions)
        return replace(ref, options=options.as_manifest())

    def owns(self, folder: SegmentFolder) -> bool:
        return folder.table_id in self.table_ids

    def noted(self, *notes: str) -> _Request:
        return replace(self, notes=(*self.notes, *notes))

    def refused(self, fault: SourceError) -> _Request:
        return _Request(self.name, self.whole, error=str(fault), table_ids=self.table_ids)


@refuse_unreadable()
def inspect_catalog(
    catalog: Catalog,
    tables_folder: AnyPath,
    log_folder: AnyPath,
    selection: Selection,
    *,
    unit_bytes: int,
    max_tasks: int,
    unflushed_log: str = "replay",
    unlisted_segments: str = "error",
    partitions: str = "keep",
    folders: Collection[SegmentFolder] | None = None,
) -> list[PartitionGroup]:
    """Groups of partitions to resolve, at least one for each selected collection.

    A collection gets a group for each ``unit_bytes``; of few collections no more than ``max_tasks // 2`` groups.
    ``unit_bytes`` is raised so that no step of the run gets more than ``max_tasks`` large load units.
    With ``partitions`` ``partition_key``, all partitions of a collection are one group, because an id may not be in two
    of them. ``folders``: what :func:`list_folders` found before the catalog was read, so that a folder which a server
    creates in between is not taken for one that the catalog lacks; None: they are listed now.

    A fault of one collection is the ``error`` of its group. Raises SourceError or ConfigurationError only if the whole
    source can't be read.
    """
    if not tables_folder.is_dir():
        raise SourceNotFoundError(
            "no tables folder",
            where=tables_folder,
            cure="Set source_milvus_path to the directory that has db/tables; if the tables are elsewhere, set "
            "tables_path.",
        )
    requests = [_find(catalog, name, tags) for name, tags in _expand(catalog, selection).items()]
    log = count_log(log_folder, catalog, {request.name: request.flushed for request in requests})
    requests = [_with_log(request, log, log_folder, unflushed_log) for request in requests]
    folders = list_folders(tables_folder) if folders is None else folders
    unlisted = count_unlisted(tables_folder, folders, catalog.folders())
    requests = [_with_unlisted(request, unlisted, tables_folder, unlisted_segments) for request in requests]
    others = {
        folder: rows for folder, rows in unlisted.items() if not any(request.owns(folder) for request in requests)
    }
    notes = (*_list_notes(catalog, log, tables_folder, log_folder, unflushed_log), *_list_unlisted_notes(others))
    requests[0] = replace(requests[0], notes=(*requests[0].notes, *notes))
    return _group(requests, tables_folder, log_folder, partitions == "partition_key", max_tasks, unit_bytes)


def _group(
    requests: Sequence[_Request],
    tables_folder: AnyPath,
    log_folder: AnyPath,
    one_key_space: bool,
    max_tasks: int,
    unit_bytes: int,
) -> list[PartitionGroup]:
    """Groups of the partitions: half of the tasks at most, as the units of a group are rounded up."""
    partitions = [1 if one_key_space else len(request.partitions) for request in requests]
    counts = group_sizes(partitions, [request.work for request in requests], unit_bytes, max_tasks // 2)
    total_bytes = sum(request.live_bytes for request in requests)
    unit_bytes = unit_bytes_within(total_bytes, sum(counts), max_tasks, unit_bytes)
    return [
        PartitionGroup(
            name=request.name,
            source=request.source(tables_folder, log_folder, group),
            collection=request.collection,
            partitions=group,
            whole=request.whole,
            one_key_space=one_key_space,
            unit_bytes=unit_bytes,
            error=request.error,
            notes=request.notes,
            other_tags=() if number else request.other_tags,
        )
        for request, count in zip(requests, counts, strict=True)
        for number, group in enumerate(split_evenly(request.partitions, count))
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
            "the catalog has no collection",
            where=catalog.origin,
            cure=f"Is this the right directory? {COPY_WAL}.",
        )
    return expanded


def _find(catalog: Catalog, name: str, tags: Sequence[str] | None) -> _Request:
    whole = tags is None
    try:
        collection = catalog.collection(name)
        wanted = catalog.tags(name) if tags is None else list(dict.fromkeys(tags))
        partitions = tuple(catalog.partition(name, tag) for tag in wanted)
        lsns = catalog.flushed_lsns(name)
    except SourceError as fault:
        return _Request(name, whole, error=str(fault))
    return _Request(
        name,
        whole,
        collection,
        partitions,
        flushed=Flushed((tag, lsns[tag]) for tag in wanted),
        table_ids=catalog.table_ids(name, wanted),
        other_tags=tuple(sorted(lsns.keys() - set(wanted))),
    )


def _with_log(request: _Request, log: LogCounts, log_folder: AnyPath, unflushed_log: str) -> _Request:
    """Apply the policy ``unflushed_log`` to the operations that are only in the log."""
    if request.error:
        return request
    fault, unflushed = log.gap_fault(request.flushed), log.unflushed[request.name]
    if fault and unflushed_log != "ignore":
        return request.refused(fault)
    request = request.noted(*_list_log_notes(unflushed, fault))
    policy = {"replay": _replay, "ignore": _ignore, "error": _refuse}[unflushed_log]
    return policy(request, unflushed, log_folder) if unflushed else request


def _list_log_notes(unflushed: Unflushed, fault: SourceError | None) -> Iterator[str]:
    if fault:
        yield f"the 1.x server's log was ignored, rows that are only in the log are not migrated: {fault}"
    if unflushed.before_start:
        yield (
            f"{unflushed.before_start} rows in the 1.x server's log are not migrated, as the server ignores them too: "
            f"they are before lsn {unflushed.start}, and the catalog says that everything before it was flushed"
        )


def _replay(request: _Request, unflushed: Unflushed, log_folder: AnyPath) -> _Request:
    if unflushed.others:
        return request.refused(
            UnsupportedSourceError(
                f"the 1.x server's log has operations on collection {request.name!r} that can't be replayed",
                where=log_folder,
                expected="insertions and deletions",
                found=", ".join(f"{count} records of type {kind}" for kind, count in sorted(unflushed.others.items())),
                cure=CURE_FLUSH,
            )
        )
    partitions = tuple(_with_log_segments(partition, unflushed) for partition in request.partitions)
    note = f"replayed from the 1.x server's log: {unflushed.inserted} rows inserted, {unflushed.deleted} ids deleted"
    return replace(request, partitions=partitions, unflushed=unflushed).noted(note)


def _with_log_segments(partition: PartitionSpec, unflushed: Unflushed) -> PartitionSpec:
    added = tuple(unflushed.segments(partition.tag))
    rows = sum(segment.live_rows for segment in added)
    return replace(partition, segments=(*partition.segments, *added), replayed_rows=rows)


def _ignore(request: _Request, unflushed: Unflushed, log_folder: AnyPath) -> _Request:
    return request.noted(f"rows that are only in the 1.x server's log were ignored: {unflushed}")


def _refuse(request: _Request, unflushed: Unflushed, log_folder: AnyPath) -> _Request:
    return request.refused(
        UnsupportedSourceError(
            f"rows of collection {request.name!r} are only in the 1.x server's log",
            where=log_folder,
            expected="all rows in segments",
            found=str(unflushed),
            cure=f"Migrate them too: unflushed_log: replay. Or: {CURE_FLUSH}",
        )
    )


def _with_unlisted(
    request: _Request, unlisted: Mapping[SegmentFolder, int], tables_folder: AnyPath, policy: str
) -> _Request:
    """Apply the policy ``unlisted_segments`` to segment folders that the catalog lacks."""
    owned = {folder: rows for folder, rows in unlisted.items() if request.owns(folder)}
    if request.error or not owned:
        return request
    if policy != "ignore":
        return request.refused(unlisted_fault(request.name, tables_folder, owned))
    return request.noted(f"{UNLISTED}, not migrated: {describe_unlisted(owned)}")


def _list_unlisted_notes(others: Mapping[SegmentFolder, int]) -> Iterator[str]:
    if others:
        yield f"{UNLISTED}: {describe_unlisted(others)}"


def _list_notes(
    catalog: Catalog, log: LogCounts, tables_folder: AnyPath, log_folder: AnyPath, unflushed_log: str
) -> Iterator[str]:
    """Notes on the whole directory, for the report."""
    yield from catalog.notes
    if is_running(tables_folder, log_folder):
        yield (
            "a Milvus 1.x server has the directory open: what it writes from now on is not migrated, and the run "
            "fails if that changes what is migrated"
        )
    if not log.exists:
        yield f"no log of the 1.x server in {log_folder}: rows that were only in the log, if any, are not migrated"
    if log.rows_after_last:
        yield (
            f"{log.rows_after_last} rows in the 1.x server's log are not migrated, as the server ignores them too: "
            "they are after the last record that mxlog.meta names"
        )
    if unflushed_log == "replay" and log.unknown:
        listed = ", ".join(f"{name} ({rows})" for name, rows in sorted(log.unknown.items()))
        yield (
            "the 1.x server's log has rows of collections or partitions that the catalog does not have; they are not "
            f"migrated: {listed}"
        )
