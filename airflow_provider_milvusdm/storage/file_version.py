"""File versions: whether a segment's files are still the ones that an earlier task read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_milvusdm.exceptions import ChangedSourceError
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.storage.paths import AnyPath


def version_of(files: Iterable[AnyPath]) -> str:
    """Digest of the sizes and modification times of files, missing files included; empty if there are no files."""
    states = [_state(file) for file in files]
    return hashlib.blake2b(repr(states).encode(), digest_size=8).hexdigest() if states else ""


def refuse_changed(files: Iterable[AnyPath], row_slice: Slice) -> None:
    """Check that the files of a segment have the version in the slice.

    Raises ChangedSourceError if they have another one.
    """
    found = version_of(files) if row_slice.file_version else ""
    if found == row_slice.file_version:
        return
    latest = max(files, key=_state)
    raise ChangedSourceError(
        f"segment {row_slice.segment} changed since an earlier task read it",
        where=latest,
        expected=f"files of version {row_slice.file_version}",
        found=f"version {found}: {_describe(latest)}",
        cure="Stop what writes to the source (a 1.x server, if it still runs), and start a new run.",
    )


def _state(file: AnyPath) -> tuple[int, int]:
    """Modification time in microseconds, as file systems differ in what they keep below, and size in bytes."""
    try:
        if not isinstance(file, Path):
            return file.state()
        status = file.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_mtime_ns // 1000, status.st_size


def _describe(file: AnyPath) -> str:
    time, size = _state(file)
    return f"{size} bytes, written {datetime.fromtimestamp(time / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
