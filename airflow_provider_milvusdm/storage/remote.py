"""Files behind a URL, read in ranges of bytes."""

from __future__ import annotations

import errno
import gc
import io
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from airflow_provider_milvusdm.exceptions import DamagedSourceError

BUFFER_BYTES = 1 << 20
"""Read at once from a file whose reader asks for a few bytes here and there."""


class FileStat(NamedTuple):
    """What sources use of :class:`os.stat_result`."""

    st_size: int


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder behind a URL, with the part of :class:`pathlib.Path` that sources use.

    If a file is missing or refused, or the storage can't be reached, an OSError with ``errno`` and ``filename`` is
    raised, as for a local path.
    """

    url: str
    key: str = field(compare=False)
    """The path inside the filesystem."""
    filesystem: Any = field(compare=False, repr=False)
    """An fsspec filesystem."""

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}", f"{self.key}/{name}", self.filesystem)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.url.rpartition("/")[0], self.key.rpartition("/")[0], self.filesystem)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def absolute(self) -> RemotePath:
        return self

    def resolve(self) -> RemotePath:
        """The path without ``.`` and ``..``; object stores have no links."""
        scheme, _, path = self.url.partition("://")
        url = f"{scheme}://{posixpath.normpath(path)}"
        return RemotePath(url, posixpath.normpath(self.key), self.filesystem)

    def is_file(self) -> bool:
        try:
            return bool(self._info["type"] == "file")
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether the folder has any content: object stores have no empty folders."""
        return any(self.glob("*"))

    def stat(self) -> FileStat:
        return FileStat(int(self._info["size"]))

    def state(self) -> tuple[int, int]:
        """Modification time in microseconds, 0 if the filesystem has none, and size in bytes; never from a cache."""
        self.filesystem.invalidate_cache(self.key)
        with self._named_errors():
            size, modified = int(self.filesystem.info(self.key)["size"]), 0
            with suppress(NotImplementedError):
                modified = round(self.filesystem.modified(self.key).timestamp() * 1e6)
        return modified, size

    def iterdir(self) -> Iterator[RemotePath]:
        with self._named_errors():
            keys = [key.rstrip("/") for key in self.filesystem.ls(self.key, detail=False)]
        for key in keys:
            if key.rpartition("/")[0].strip("/") == self.key.strip("/"):  # an object may stand for the folder itself
                yield self / key.rpartition("/")[2]

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Files and folders in this folder whose name matches; none if the folder doesn't exist."""
        try:
            yield from (path for path in self.iterdir() if fnmatchcase(path.name, pattern))
        except (FileNotFoundError, NotADirectoryError):
            return

    def list_subfolders(self) -> set[tuple[str, str]]:
        """``(a, b)`` for each folder ``a/b`` that has files, whatever their depth; with one listing of all files."""
        try:
            with self._named_errors():
                keys = self.filesystem.find(self.key)
        except FileNotFoundError:
            return set()
        root = f"{self.key.strip('/')}/"
        below = (key.strip("/").removeprefix(root).split("/") for key in keys if key.strip("/").startswith(root))
        return {(parts[0], parts[1]) for parts in below if len(parts) > 2}

    def open(self, mode: str = "rb") -> io.BufferedReader:
        return _RemoteFile(_Ranges(self), BUFFER_BYTES)

    def read_bytes(self) -> bytes:
        return self.read(0, self.stat().st_size)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop``. Raises DamagedSourceError if the file ends before ``stop``."""
        with self._named_errors():
            found: bytes = self.filesystem.cat_file(self.key, start=start, end=stop)
        if len(found) != stop - start:
            raise DamagedSourceError(
                "a file ends too early",
                where=self,
                expected=f"bytes {start} to {stop}",
                found=f"{len(found)} bytes",
                cure="Stop what writes to the source, and start a new run.",
            )
        return found

    @cached_property
    def _info(self) -> dict[str, Any]:
        with self._named_errors():
            found: dict[str, Any] = self.filesystem.info(self.key)
        return found

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Raise each error as an OSError with ``errno`` and ``filename``; filesystems raise others, too."""
        try:
            yield
        except OSError as error:
            raise OSError(_errno(error), error.strerror or str(error), self.url) from error
        except Exception as error:  # such as those of botocore
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self.url) from error


class _Ranges(io.RawIOBase):
    """A remote file as Python's raw I/O; each read is one request for a range."""

    def __init__(self, path: RemotePath) -> None:
        self.path, self.size, self.position = path, path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}
        self.position = starts[whence] + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        stop = min(self.position + len(buffer), self.size)
        if stop <= self.position:
            return 0
        with _no_garbage_collection():
            found = self.path.read(self.position, stop)
        buffer[: len(found)] = found
        self.position = stop
        return len(found)


class _RemoteFile(io.BufferedReader):
    def __repr__(self) -> str:
        """The URL: HDF5 uses it as the file's name."""
        return str(self.raw.path)  # type: ignore[attr-defined]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Prevent a deadlock between h5py and the thread in which a filesystem works.

    h5py holds its lock while it reads a file-like object. If that thread collected an h5py object, it would wait for
    the lock for ever. Source: h5py's documentation, "File Objects", on Python file-like objects.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _errno(error: OSError) -> int:
    if isinstance(error, FileNotFoundError):
        return errno.ENOENT
    return errno.EACCES if isinstance(error, PermissionError) else error.errno or errno.EIO
