"""Stamps: whether files of a source are what they were when another task read them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

from airflow_provider_milvusdm.exceptions import ChangedSourceError
from airflow_provider_milvusdm.model.collections import Slice
from airflow_provider_milvusdm.storage.files import state_of
from airflow_provider_milvusdm.storage.paths import AnyPath


def version_of(files: Iterable[AnyPath]) -> str:
    """Digest of the sizes and modification times of files, empty for none; one that is gone has a stamp, too."""
    states = [_state(file) for file in files]
    return hashlib.blake2b(repr(states).encode(), digest_size=8).hexdigest() if states else ""


def refuse_changed(files: Iterable[AnyPath], piece: Slice) -> None:
    """Raise ChangedSourceError where its segment's files are not those that the slice was made of."""
    found = version_of(files) if piece.file_version else ""
    if found == piece.file_version:
        return
    latest = max(files, key=_state)
    raise ChangedSourceError(
        f"segment {piece.segment} changed since its ids were resolved",
        where=latest,
        expected=f"files of version {piece.file_version}",
        found=f"version {found}: {_described(latest)}",
        cure="Stop what writes to the source (a 1.x server, if it still runs), and start a new run.",
    )


def _state(file: AnyPath) -> tuple[int, int]:
    """Modification time in microseconds and size in bytes."""
    try:
        return state_of(file)
    except FileNotFoundError:
        return 0, 0


def _described(file: AnyPath) -> str:
    time, size = _state(file)
    return f"{size} bytes, written {datetime.fromtimestamp(time / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
