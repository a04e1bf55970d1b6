"""Read an HDF5 file in a child process first.

With damaged bytes, libhdf5 may loop for ever (a global heap with an object of size 0) or crash: then the child ends and
not the task. The child is forked, because that takes milliseconds; a new Python with h5py takes half a second per file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from airflow_provider_milvusdm.exceptions import DamagedSourceError
from airflow_provider_milvusdm.sources.hdf5.file import CURE

SECONDS = 60
"""Inspecting a file takes milliseconds, but a busy network disk can be much slower."""


def probe(path: Path, inspect: Callable[[], object]) -> None:
    """Call ``inspect`` in a child process; what it returns or raises there is ignored.

    Raises DamagedSourceError if it doesn't end or crashes.
    """
    child = os.fork()
    if not child:
        _inspect_and_exit(inspect)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise DamagedSourceError(
            "a damaged HDF5 file",
            where=path,
            expected="what HDF5 can read",
            found=_describe(signal.Signals(os.WTERMSIG(status))),
            cure=CURE,
        )


def _describe(ended_by: signal.Signals) -> str:
    if ended_by == signal.SIGALRM:
        return f"bytes that HDF5 was still reading after {SECONDS} s"
    return f"bytes with which HDF5 crashed ({ended_by.name})"


def _inspect_and_exit(inspect: Callable[[], object]) -> NoReturn:
    """The child process. The alarm ends it without Python, which never gets a turn while C code loops."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        inspect()
    finally:
        os._exit(0)
