"""Whether a running Milvus 1.x server has its directory open.

While it runs, a server holds a write lock on the file ``lock`` in its storage folder and in its log folder. Source: the
server's code, ``core/src/server/init/InstanceLockCheck.cpp``. The lock of a server on another machine may be invisible.
"""

from __future__ import annotations

import fcntl
import struct
import sys
from pathlib import Path

from airflow_provider_milvusdm.storage.paths import AnyPath

FLOCK = struct.Struct("hhqqi4x")
"""``struct flock`` of 64-bit Linux: type, whence, start, length, process."""


def is_running(tables_folder: AnyPath, log_folder: AnyPath) -> bool:
    """Whether the storage folder (which has ``db/tables``) or the log folder is locked."""
    return any(map(_is_locked, (tables_folder.parent.parent / "lock", log_folder / "lock")))


def _is_locked(path: AnyPath) -> bool:
    """Whether another process holds a write lock; no lock is taken to find out."""
    if sys.platform != "linux" or not isinstance(path, Path) or not path.is_file():
        return False
    question = FLOCK.pack(fcntl.F_RDLCK, 0, 0, 0, 0)
    with path.open("rb") as file:
        try:
            answer = FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, question))
        except OSError:  # a file system without locks
            return False
    return bool(answer[0] != fcntl.F_UNLCK)
