"""Segment folders of a Milvus 1.x server that no row of its catalog names: their rows may be missing.

A catalog that was copied without its ``meta.sqlite-wal`` is older than the folders. But a server also leaves such a
folder if it is killed while it writes or merges a segment: when it starts again, it removes the row from the catalog,
and keeps the folder. Source: the server's code, ``CleanUpShadowFiles`` of ``core/src/db/meta/SqliteMetaImpl.cpp``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from airflow_provider_milvusdm.exceptions import DamagedSourceError
from airflow_provider_milvusdm.sources.milvus1x.catalog import COPY_WAL
from airflow_provider_milvusdm.sources.milvus1x.segment_name import SegmentFolder
from airflow_provider_milvusdm.storage.files import refuse_unreadable
from airflow_provider_milvusdm.storage.paths import AnyPath
from airflow_provider_milvusdm.storage.remote import RemotePath

EXAMPLES = 5
ID_BYTES = 8
"""A ``.uid`` file is a header of the same size, then one id per row."""


@refuse_unreadable()
def list_folders(tables_folder: AnyPath) -> frozenset[SegmentFolder]:
    """All segment folders below the tables folder; on a local disk also files at the same depth."""
    if isinstance(tables_folder, RemotePath):
        return frozenset(SegmentFolder(*names) for names in tables_folder.list_subfolders())
    return frozenset(SegmentFolder(path.parent.name, path.name) for path in tables_folder.glob("*/*"))


def count_unlisted(
    tables_folder: AnyPath, folders: Iterable[SegmentFolder], listed: Collection[SegmentFolder]
) -> dict[SegmentFolder, int]:
    """Number of rows, deleted ones included, of each folder that is not listed.

    A folder without ids is ignored: the server had not written any rows yet.
    """
    counts = {}
    for folder in sorted(folder for folder in folders if folder not in listed):
        uid = tables_folder / folder.table_id / folder.segment_id / f"{folder.segment_id}.uid"
        if uid.is_file() and (rows := uid.stat().st_size // ID_BYTES - 1) > 0:
            counts[folder] = rows
    return counts


def describe_unlisted(unlisted: Mapping[SegmentFolder, int]) -> str:
    """The number of folders and rows, and the first folders."""
    shown = [f"{_as_text(str(folder))} ({rows})" for folder, rows in islice(unlisted.items(), EXAMPLES)]
    more = [f"and {len(unlisted) - EXAMPLES} more"] if len(unlisted) > EXAMPLES else []
    return f"{len(unlisted)} with {sum(unlisted.values())} rows: {', '.join([*shown, *more])}"


def _as_text(name: str) -> str:
    """A name that a report can show: anybody may have created the folder, with any bytes in its name."""
    return name if name.isascii() and name.isprintable() else ascii(name)


def unlisted_fault(
    collection: str, tables_folder: AnyPath, unlisted: Mapping[SegmentFolder, int]
) -> DamagedSourceError:
    """The error for a collection with unlisted folders."""
    return DamagedSourceError(
        f"segment folders of collection {collection!r} are not in the catalog: their rows may be missing",
        where=tables_folder,
        expected="each in the catalog's table TableFiles",
        found=describe_unlisted(unlisted),
        cure=f"The catalog may be older than the folders. {COPY_WAL}. If a 1.x server was killed while it wrote or "
        "merged these segments, their rows are also in other segments or in the log: set unlisted_segments: ignore.",
    )
