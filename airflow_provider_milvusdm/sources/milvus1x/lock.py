"""Whether a Milvus 1.x server has its directory open.

It holds a write lock on ``lock`` in its storage folder and in the log's as long as it runs. Source: the server's code,
``core/src/server/init/InstanceLockCheck.cpp``. A server on another machine may not be seen.
"""

from __future__ import annotations

import fcntl
import struct
import sys
from pathlib import Path

from airflow_provider_milvusdm.storage.paths import AnyPath

FLOCK = struct.Struct("hhqqi4x")
"""``struct flock`` of Linux on 64 bits: type, whence, start, length, process."""


def is_running(tables: AnyPath, wal: AnyPath) -> bool:
    """Whether the folder that ``db/tables`` is in, or the log's, is locked."""
    return any(map(_is_locked, (tables.parent.parent / "lock", wal / "lock")))


def _is_locked(path: AnyPath) -> bool:
    """Whether another process holds a write lock; asked without taking one."""
    if sys.platform != "linux" or not isinstance(path, Path) or not path.is_file():
        return False
    question = FLOCK.pack(fcntl.F_RDLCK, 0, 0, 0, 0)
    with path.open("rb") as file:
        try:
            answer = FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, question))
        except OSError:  # a file system without locks
            return False
    return bool(answer[0] != fcntl.F_UNLCK)
