"""The folder of a run: a marker file in it tells it from folders of the same name on other disks, or of other runs."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

from airflow_provider_milvusdm.exceptions import FolderNotSharedError, TargetError

PREFIX = ".milvusdm-"


def marker_of(folder: Path, own: Iterable[str]) -> Path:
    """The marker file of the folder of a run: the one that it has, or a new one, which is not written yet.

    ``own``: the names of all that this run has used. Raises TargetError if the folder is that of another run.
    """
    _refuse_others(folder, own)
    return min(folder.glob(f"{PREFIX}*"), default=folder / f"{PREFIX}{secrets.token_hex(8)}")


def write_marker(marker: Path) -> None:
    """Create the folder of a run with its marker file; what is there is kept.

    Raises TargetError if another run has just created the folder.
    """
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    try:
        _refuse_others(marker.parent, [marker.name])
    except TargetError:
        marker.unlink()
        raise


def _refuse_others(folder: Path, own: Iterable[str]) -> None:
    others = {path.name for path in folder.glob(f"{PREFIX}*")} - set(own)
    if others:
        raise TargetError(
            "the folder for the files of this run has those of another run",
            where=folder,
            expected="no folder, or one that this run has created",
            found=", ".join(sorted(others)),
            cure="If another Airflow has a DAG and a run of the same names, name another data_dir. If the other run "
            "was deleted, move its folder away.",
        )


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
