"""A new HDF5 file, which a full disk ends with an error.

HDF5 itself can't close a file that it can't write: the file stays open, its space taken, and a process that ends then
ends in a segmentation fault. So it writes through an object of Python's, which takes all that follows an error.
"""

from __future__ import annotations

import errno
import glob
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from airflow_provider_milvusdm.exceptions import ConfigurationError, TargetError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Output(io.FileIO):
    """A file that HDF5 writes to: it takes and drops what follows its first error, which :meth:`check` raises.

    Raised while HDF5 writes, it would come back as another one, for HDF5 goes on calling.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: ReadableBuffer) -> int:
        rest = memoryview(data)
        size = rest.nbytes
        with self._noting():
            while rest and not self.error:
                rest = rest[super().write(rest) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        with self._noting():
            super().truncate(size)
        return size or 0

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error

    def check(self) -> None:
        if self.error:
            raise self.error


def require_writable(folder: Path, param: str) -> None:
    """Refuse a folder in which no file can be made; one that isn't there yet is as good as that it would be made in.

    ``param``: that names it. Nothing is made. Raises ConfigurationError.
    """
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        return
    raise ConfigurationError(
        f"the folder of {param} can't be written into",
        where=folder,
        expected="a folder that the user of this task may make or write into",
        found=f"{there} {'that this user may not write into' if there.is_dir() else 'that is no folder'}",
        cure="Name another folder, or give this user the right to write there.",
    )


def begin_part(path: Path) -> Path:
    """Where this attempt writes the file until it is whole; what others left is gone, and with it their way back.

    One that slept finds nothing to rename when it wakes, and what it still writes is in no folder.
    """
    for left in path.parent.glob(f"{glob.escape(path.stem)}.*.part"):
        left.unlink(missing_ok=True)
    return path.with_suffix(f".{secrets.token_hex(4)}.part")


@contextmanager
def create_hdf5(path: Path, needed: str) -> Iterator[tuple[h5py.File, Output]]:
    """Write a file in the block, which is on the disk afterwards, or gone where there is no room for it.

    ``needed``: what the room is needed for. Raises TargetError, or OSError for what a retry may mend.
    """
    with Output(path) as output:
        try:
            with h5py.File(output, "w") as file:
                yield file, output
            output.check()
            os.fsync(output.fileno())
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            path.unlink()
            raise TargetError(
                f"a file can't be written: {os.strerror(error.errno)}",
                where=path,
                expected=f"room for {needed}",
                found=f"{shutil.disk_usage(path.parent).free} bytes free",
                cure="Make room, or name a folder with more, and run again: the file is written anew.",
            ) from None
