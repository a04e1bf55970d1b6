"""Write a new HDF5 file so that a full disk ends with an error.

HDF5 can't close a file that it can't write: the file stays open, its space stays in use, and the process crashes with a
segmentation fault when it ends. So HDF5 writes through a Python object, which accepts all writes after an error.
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
    """A file that HDF5 writes to. After its first error it discards what is written; :meth:`check` raises that error.

    An error that is raised while HDF5 writes would be hidden by another one, because HDF5 goes on calling.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: ReadableBuffer) -> int:
        rest = memoryview(data)
        size = rest.nbytes
        with self._keep_error():
            while rest and not self.error:
                rest = rest[super().write(rest) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        with self._keep_error():
            super().truncate(size)
        return size or 0

    @contextmanager
    def _keep_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error:
            raise self.error


def require_writable(folder: Path, param: str) -> None:
    """Check that files can be created in a folder, or that the folder can be created; nothing is created here.

    ``param``: the name of the param that holds the folder. Raises ConfigurationError.
    """
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        return
    raise ConfigurationError(
        f"the folder of {param} can't be written into",
        where=folder,
        expected="a folder that the user of this task can create or write into",
        found=f"{existing}, {'which this user may not write into' if existing.is_dir() else 'which is not a folder'}",
        cure="Name another folder, or give this user write permission.",
    )


def begin_part(path: Path) -> Path:
    """A new name under which this attempt writes the file until it is complete; files of other attempts are removed.

    So an attempt that was suspended and goes on later has no file to rename any more.
    """
    for other in path.parent.glob(f"{glob.escape(path.stem)}.*.part"):
        other.unlink(missing_ok=True)
    return path.with_suffix(f".{secrets.token_hex(4)}.part")


@contextmanager
def create_hdf5(path: Path, needed: str) -> Iterator[tuple[h5py.File, Output]]:
    """Create a file and write it inside the ``with`` block; afterwards it is safely on the disk.

    ``needed``: what the disk space is needed for, for the message. Raises TargetError if the disk is full, and removes
    the file then; raises OSError for what a retry may fix.
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
                cure="Free disk space, or name a folder on a larger disk, and run again: the file is written anew.",
            ) from None
