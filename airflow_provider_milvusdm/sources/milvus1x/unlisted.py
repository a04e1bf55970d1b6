"""Segment folders of a Milvus 1.x server that no row of its catalog names: their rows may be missing.

A catalog that was copied without its ``meta.sqlite-wal`` is older than the folders. A server that was killed while it
wrote or merged a segment leaves a folder, too: at its next start it forgets the row and not the folder. Source: the
server's code, ``CleanUpShadowFiles`` of ``core/src/db/meta/SqliteMetaImpl.cpp``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from airflow_provider_milvusdm.exceptions import DamagedSourceError
from airflow_provider_milvusdm.sources.milvus1x.catalog import COPY_WAL
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath
from airflow_provider_milvusdm.storage.remote import RemotePath

EXAMPLES = 5
ROW_BYTES = 8
"""Of an id; before the first one stands a header of as many."""


@refuse_unreadable()
def list_folders(tables: AnyPath) -> frozenset[str]:
    """``<table_id>/<segment_id>`` of all that is two below the tables folder."""
    if isinstance(tables, RemotePath):
        return frozenset(tables.folders_below())
    return frozenset(f"{path.parent.name}/{path.name}" for path in tables.glob("*/*"))


def count_unlisted(tables: AnyPath, folders: Iterable[str], listed: Collection[str]) -> dict[str, int]:
    """By name: the rows, deleted ones too, of segment folders that are not ``listed``.

    One without ids has no rows: its server had not come that far.
    """
    counts = {}
    for name in sorted(folder for folder in folders if folder not in listed):
        uid = tables / name / f"{name.rpartition('/')[2]}.uid"
        if uid.is_file() and (rows := uid.stat().st_size // ROW_BYTES - 1) > 0:
            counts[name] = rows
    return counts


def describe(unlisted: Mapping[str, int]) -> str:
    """How many folders and rows, and the first of them."""
    named = [f"{_shown(name)} ({rows})" for name, rows in islice(unlisted.items(), EXAMPLES)]
    more = [f"and {len(unlisted) - EXAMPLES} more"] if len(unlisted) > EXAMPLES else []
    return f"{len(unlisted)} with {sum(unlisted.values())} rows: {', '.join([*named, *more])}"


def _shown(name: str) -> str:
    """As text that a report may hold: anybody may have made the folder, under any name."""
    return name if name.isascii() and name.isprintable() else ascii(name)


def unlisted_fault(collection: str, tables: AnyPath, unlisted: Mapping[str, int]) -> DamagedSourceError:
    return DamagedSourceError(
        f"segment folders of collection {collection!r} that no row of the catalog names: their rows may be missing",
        where=tables,
        expected="each in the catalog's table TableFiles",
        found=describe(unlisted),
        cure=f"The catalog may be older than the folders: {COPY_WAL}. Where a 1.x server was killed while it wrote or "
        "merged them, other segments or its log have the rows: unlisted_segments: ignore.",
    )
