"""Files of a source: their items are read, links and unreadable files are refused."""

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
    """Turn a PermissionError into a SourceError: a retry doesn't help there."""
    try:
        yield
    except PermissionError as error:
        raise SourceError(
            "no permission to read the source",
            where=error.filename,
            found=error.strerror,
            cure="Give read permission to the user that runs this task, or to the URL's connection. "
            "Nothing is written to the source.",
        ) from None


def refuse_link(path: AnyPath) -> None:
    """Refuse a symbolic link, which can lead to any file of the worker. Raises DamagedSourceError."""
    if isinstance(path, Path) and path.is_symlink():
        raise DamagedSourceError(
            "a file of the source is a link",
            where=path,
            expected="a regular file: a 1.x server never creates links",
            found=f"a link to {os.readlink(path)}",
            cure="Replace the link with the file that it points to.",
        )


def read_items(path: AnyPath, dtype: np.dtype[Any], offset: int, items: int) -> npt.NDArray[Any]:
    """Items from byte ``offset`` on: an array of ``dtype``, shape (items,).

    A local file is mapped into memory, and its pages are freed together with the array. Raises DamagedSourceError if a
    remote file is too short.
    """
    import numpy as np

    if not items:
        return np.empty(0, dtype)
    if isinstance(path, Path):
        # os.fspath: NumPy resolves a Path, and each folder of it, at each call.
        return np.memmap(os.fspath(path), dtype, mode="r", offset=offset, shape=(items,))
    return np.frombuffer(path.read(offset, offset + items * dtype.itemsize), dtype)
