"""A 1.x directory through the package's reader, as the first two steps of the chain take it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_milvusdm.config.validation import parse_selection
from airflow_provider_milvusdm.exceptions import SourceError
from airflow_provider_milvusdm.manifests import PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.milvus1x.catalog import Catalog
from airflow_provider_milvusdm.sources.milvus1x.inspect import inspect_catalog
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog

Rows = list[tuple[int, bytes]]
ROWS_A_BATCH = 7
NOBODY = 65534


def catalog_of(path: Path) -> Catalog:
    return read_sqlite_catalog(path / "db" / "meta.sqlite")


def inspect(path: Path, selection: Any = "*", **options: Any) -> list[PartitionGroup]:
    return inspect_catalog(
        catalog_of(path),
        path / "db" / "tables",
        path / "wal",
        parse_selection(selection),
        **{"unit_bytes": 256 << 20, "max_tasks": 1024} | options,
    )


def resolve(
    path: Path, selection: Any = "*", policies: RowPolicies | None = None, **options: Any
) -> list[ResolvedGroup]:
    return [resolve_group(group, policies) for group in inspect(path, selection, **options)]


def errors(groups: Iterable[PartitionGroup]) -> dict[str, str]:
    """By collection; empty text where it can be read."""
    return {group.name: group.error for group in groups}


def refused(path: Path, selection: Any = "*", *, as_a: type[SourceError] = SourceError, **options: str) -> str:
    """What resolve says of a directory with one group, which it must refuse."""
    [group] = inspect(path, selection, **options)
    with pytest.raises(as_a) as fault:
        resolve_group(group)
    return str(fault.value)


def read_rows(units: Iterable[LoadUnit]) -> dict[tuple[str, str], Rows]:
    """The live rows of load units, by collection and partition, as a load task reads them."""
    rows: dict[tuple[str, str], Rows] = {}
    for unit in units:
        for _, partition, batch in read_slices(unit.source, unit.collection, unit.slices, ROWS_A_BATCH):
            vectors = [vector.tobytes() for vector in batch.vectors]
            rows.setdefault((unit.collection.name, partition), []).extend(zip(batch.ids.tolist(), vectors, strict=True))
    return rows


def read_partition(path: Path, collection: str, tag: str = "_default", **options: Any) -> Rows:
    units = [unit for group in resolve(path, {collection: [tag]}, **options) for unit in group.units]
    return read_rows(units).get((collection, tag), [])


def assert_in_order(text: str, parts: Sequence[str]) -> None:
    """Each part stands in the text, in this order."""
    position = 0
    for part in parts:
        assert part in text[position:], f"{part!r} is not behind the others in: {text}"
        position = text.index(part, position) + len(part)


@contextmanager
def without_permissions(folder: Path) -> Iterator[None]:
    """Nobody but root may look into the folder, and the block isn't root."""
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        with not_root():
            yield
    finally:
        folder.chmod(mode)


@contextmanager
def not_root() -> Iterator[None]:
    """Files are opened as a user that permissions hold for."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
