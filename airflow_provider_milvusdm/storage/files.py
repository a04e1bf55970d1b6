"""Files of a source: read as items, refused where they are links or unreadable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceError
from airflow_provider_milvusdm.storage.paths import AnyPath

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@contextmanager
def refuse_unreadable() -> Iterator[None]:
    """What the worker's user may not read, no retry mends."""
    try:
        yield
    except PermissionError as error:
        raise SourceError(
            "no permission to read the source",
            where=error.filename,
            found=error.strerror,
            cure="Let the user that this task runs as, or the URL's connection, read it; it is never written.",
        ) from None


def refuse_link(path: AnyPath) -> None:
    """Refuse a file of a source that is a link: it may lead to any other file."""
    if isinstance(path, Path) and path.is_symlink():
        raise DamagedSourceError(
            "a file of the source is a link",
            where=path,
            expected="the file itself: a server never makes a link of one",
            found=f"a link to {os.readlink(path)}",
            cure="Put the file that it names in its place.",
        )


def state_of(path: AnyPath) -> tuple[int, int]:
    """Modification time in microseconds (what file systems keep of it differs below) and size in bytes, asked anew."""
    if not isinstance(path, Path):
        return path.state()
    status = path.stat()
    return status.st_mtime_ns // 1000, status.st_size


def read_items(path: AnyPath, dtype: np.dtype[Any], offset: int, items: int) -> npt.NDArray[Any]:
    """So many items from byte ``offset`` on; of a local file they are mapped, and the pages go with the array."""
    import numpy as np

    if not items:
        return np.empty(0, dtype)
    if isinstance(path, Path):
        return np.memmap(path, dtype, mode="r", offset=offset, shape=(items,))
    return np.frombuffer(path.read(offset, offset + items * dtype.itemsize), dtype)
