"""Inspect a Milvus 1.x catalog: which collections and partitions are asked for, in groups to resolve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_milvusdm.exceptions import (
    ConfigurationError,
    SourceError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.sources import refuse_unreadable
from airflow_provider_milvusdm.sources.files import AnyPath
from airflow_provider_milvusdm.sources.milvus1x_catalog import COPY_WAL, Catalog
from airflow_provider_milvusdm.sources.milvus1x_log import Unflushed, count_unflushed
from airflow_provider_milvusdm.sources.units import group_sizes, split_evenly, unit_bytes_within
from airflow_provider_milvusdm.vectors import ALL_COLLECTIONS, CollectionSpec, PartitionGroup, PartitionSpec, SourceRef

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

    @property
    def live_bytes(self) -> int:
        rows = sum(partition.live_rows for partition in self.partitions)
        return rows * self.collection.vector_bytes if self.collection else 0


@refuse_unreadable()
def inspect_catalog(
    catalog: Catalog,
    tables: AnyPath,
    wal: AnyPath,
    selection: Selection,
    *,
    unit_bytes: int,
    most_tasks: int,
    unflushed_log: str = "error",
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
    asked = [_ask(catalog, wal, unflushed_log, name, tags) for name, tags in _expand(catalog, selection).items()]
    if len(asked) > most_tasks // 2:
        raise ConfigurationError(
            f"{len(asked)} collections are too many for one run",
            expected=f"at most {most_tasks // 2}, half of Airflow's core.max_map_length",
            cure="Name fewer in source_collection, or raise core.max_map_length.",
        )
    one_key_space = partitions == "partition_key"
    counts = group_sizes([1 if one_key_space else len(one.partitions) for one in asked], most_tasks // 2)
    total = sum(one.live_bytes for one in asked)
    unit_bytes = unit_bytes_within(total, sum(counts), most_tasks, unit_bytes)
    return [
        PartitionGroup(
            name=one.name,
            source=SourceRef("milvus1x", str(tables)),
            collection=one.collection,
            partitions=some,
            whole=one.whole,
            one_key_space=one_key_space,
            unit_bytes=unit_bytes,
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


def _ask(catalog: Catalog, wal: AnyPath, unflushed_log: str, name: str, tags: Sequence[str] | None) -> _Asked:
    whole = tags is None
    try:
        collection = catalog.collection(name)
        wanted = catalog.tags(name) if tags is None else list(dict.fromkeys(tags))
        partitions = tuple(catalog.partition(name, tag) for tag in wanted)
        notes = _check_log(catalog, wal, unflushed_log, name, wanted)
    except SourceError as fault:
        return _Asked(name, whole, error=str(fault))
    return _Asked(name, whole, collection, partitions, notes=notes)


def _check_log(catalog: Catalog, wal: AnyPath, unflushed_log: str, name: str, tags: Sequence[str]) -> tuple[str, ...]:
    """A note on rows that only the log holds, or an error: they are data, and in no segment."""
    unflushed = count_unflushed(catalog, wal, name, tags)
    if unflushed == Unflushed():
        return ()
    if unflushed_log == "ignore":
        return (f"rows that only the 1.x server's log holds were ignored: {unflushed}",)
    raise UnsupportedSourceError(
        f"rows of collection {name!r} are only in the 1.x server's log",
        where=wal,
        expected="all rows in segments",
        found=str(unflushed),
        cure="Start the 1.x server once more on a copy of the directory and flush the collection, or leave these "
        "rows behind: unflushed_log: ignore.",
    )
