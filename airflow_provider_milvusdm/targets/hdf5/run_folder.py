"""The folder of a run: a marker file in it tells it from a folder of the same name on another disk."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from airflow_provider_milvusdm.exceptions import FolderNotSharedError

PREFIX = ".milvusdm-"


def marker_of(folder: Path) -> Path:
    """The marker file of the folder of a run: the one that it has, or a new one, which is not written yet."""
    return min(folder.glob(f"{PREFIX}*"), default=folder / f"{PREFIX}{secrets.token_hex(8)}")


def write_marker(marker: Path) -> None:
    """Create the folder of a run with its marker file; what is there is kept."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def require_marker(marker: Path) -> None:
    """Check that this worker sees the folder that was marked. Raises FolderNotSharedError."""
    if marker.exists():
        return
    raise FolderNotSharedError(
        "this worker does not see the folder into which the run writes its files",
        where=marker.parent,
        expected=f"the file {marker.name}, which the run wrote there before it exported",
        found=f"no such file on {socket.gethostname()}",
        cure="Name a data_dir that all workers share, or run on one worker alone. If the folder was removed, clear the "
        "whole run.",
    )
