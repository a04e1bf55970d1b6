"""Look at an HDF5 file in a process of its own first.

Over damaged bytes libhdf5 may loop for ever (a global heap that says an object is of no size) or crash: a child
ends then, and not the task. It is forked, for that takes milliseconds, and a new Python with h5py half a second for
each of many files.
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
"""Looking at a file takes milliseconds; a busy disk far away takes longer."""


def probe(path: Path, look: Callable[[], object]) -> None:
    """Look, in a child; DamagedSourceError where that doesn't end, or ends the child, whatever else it raises."""
    child = os.fork()
    if not child:
        _look(look)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise DamagedSourceError(
            "a damaged HDF5 file",
            where=path,
            expected="what HDF5 can read",
            found=f"bytes over which {_how(signal.Signals(os.WTERMSIG(status)))}",
            cure=CURE,
        )


def _how(ended_by: signal.Signals) -> str:
    if ended_by == signal.SIGALRM:
        return f"it had not come to an end after {SECONDS} s"
    return f"its process ended by {ended_by.name}"


def _look(look: Callable[[], object]) -> NoReturn:
    """The child: ended by the alarm, without asking Python, which a loop in C doesn't."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        look()
    finally:
        os._exit(0)
