"""Files of a source: on the worker's disk, or behind a URL that fsspec opens (``s3://…``), read there by ranges."""

from __future__ import annotations

import errno
import gc
import io
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from airflow_provider_milvusdm.exceptions import ConfigurationError, DamagedSourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
FILE_URL = "file://"
BUFFER_BYTES = 1 << 20
"""What is read at once of a file whose reader asks for a few bytes here and there."""

UrlOpener: TypeAlias = Callable[[str], tuple[Any, str]]
"""Gives the fsspec filesystem that a URL leads to, and the path in it."""


def _open_with_fsspec(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    opened: tuple[Any, str] = url_to_fs(url)
    return opened


_open_url: UrlOpener = _open_with_fsspec


def open_urls_with(opener: UrlOpener) -> None:
    """Take filesystems from ``opener``, which may know credentials, and no longer from fsspec itself."""
    global _open_url
    _open_url = opener


class FileStat(NamedTuple):
    st_size: int


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder behind a URL: of :class:`pathlib.Path`, what sources use.

    What is not there, is refused or breaks off raises an OSError with ``errno`` and ``filename``, as a local path does;
    other errors are those of the filesystem.
    """

    url: str
    key: str = field(compare=False)
    filesystem: Any = field(compare=False, repr=False)

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
        """The path without ``.`` and ``..``; there are no links to follow."""
        scheme, _, path = self.url.partition("://")
        url = f"{scheme}://{posixpath.normpath(path)}"
        return RemotePath(url, posixpath.normpath(self.key), self.filesystem)

    def is_file(self) -> bool:
        try:
            return bool(self._info["type"] == "file")
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether anything is in it: object stores have no empty folders."""
        return any(self.glob("*"))

    def stat(self) -> FileStat:
        return FileStat(int(self._info["size"]))

    def state(self) -> tuple[int, int]:
        """Modification time in microseconds, 0 where the filesystem doesn't say, and size in bytes; asked anew."""
        self.filesystem.invalidate_cache(self.key)
        with self._named():
            size, modified = int(self.filesystem.info(self.key)["size"]), 0
            with suppress(NotImplementedError):
                modified = round(self.filesystem.modified(self.key).timestamp() * 1e6)
        return modified, size

    def iterdir(self) -> Iterator[RemotePath]:
        with self._named():
            keys = [key.rstrip("/") for key in self.filesystem.ls(self.key, detail=False)]
        for key in keys:
            if key.rpartition("/")[0].strip("/") == self.key.strip("/"):  # others mark the folder itself
                yield self / key.rpartition("/")[2]

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What is in the folder under such a name; nothing where there is no folder."""
        try:
            yield from (path for path in self.iterdir() if fnmatchcase(path.name, pattern))
        except (FileNotFoundError, NotADirectoryError):
            return

    def folders_below(self) -> set[str]:
        """``<folder>/<folder>`` of all files that are in one two below; asked for at once, not folder by folder."""
        try:
            with self._named():
                keys = self.filesystem.find(self.key)
        except FileNotFoundError:
            return set()
        root = f"{self.key.strip('/')}/"
        below = (key.strip("/").removeprefix(root).split("/") for key in keys if key.strip("/").startswith(root))
        return {"/".join(parts[:2]) for parts in below if len(parts) > 2}

    def open(self, mode: str = "rb") -> io.BufferedReader:
        return _RemoteFile(_Ranges(self), BUFFER_BYTES)

    def read_bytes(self) -> bytes:
        return self.read(0, self.stat().st_size)

    def read(self, start: int, stop: int) -> bytes:
        """These bytes, all of them."""
        with self._named():
            found: bytes = self.filesystem.cat_file(self.key, start=start, end=stop)
        if len(found) != stop - start:
            raise DamagedSourceError(
                "a file ends too early",
                where=self,
                expected=f"bytes {start} to {stop}",
                found=f"{len(found)} bytes",
                cure="Let nobody write to the source, and start a new run.",
            )
        return found

    @cached_property
    def _info(self) -> dict[str, Any]:
        with self._named():
            found: dict[str, Any] = self.filesystem.info(self.key)
        return found

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Filesystems leave ``errno`` and ``filename`` out."""
        try:
            yield
        except OSError as error:
            raise OSError(_errno(error), error.strerror or str(error), self.url) from error


AnyPath: TypeAlias = Path | RemotePath


def source_path(text: str) -> AnyPath:
    """The path or URL that ``text`` is. Raises ConfigurationError where the URL can't be opened."""
    if text.startswith(FILE_URL):
        return Path(text.removeprefix(FILE_URL))
    if not URL.match(text):
        return Path(text)
    filesystem, key = _open_url(text)
    filesystem.invalidate_cache()  # listings of an earlier task
    return RemotePath(text.rstrip("/"), key.rstrip("/"), filesystem)


def local_path(text: str) -> str:
    """``text``, which must be no URL."""
    if URL.match(text):
        raise ConfigurationError(
            "a URL is not possible here",
            expected="a path, as the workers see it",
            found=text,
            cure="Copy from or to the URL by other means. (Faiss indexes are mapped into memory, HDF5 files are "
            "written in place.)",
        )
    return text


def real_path(path: AnyPath) -> AnyPath:
    """The path with links followed and ``..`` resolved."""
    return Path(os.path.realpath(path)) if isinstance(path, Path) else path.resolve()


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


def common_folder(paths: Sequence[AnyPath]) -> AnyPath:
    """The lowest folder that all files are below."""
    if all(isinstance(path, Path) for path in paths):
        return Path(os.path.commonpath([str(path.parent) for path in paths]))
    folder = paths[0].parent
    while not all(str(path).startswith(f"{folder}/") for path in paths):
        folder = folder.parent
        if not URL.match(str(folder)):
            raise ConfigurationError(
                "files of several places",
                expected="URLs of one bucket, or paths",
                found=", ".join(map(str, paths)),
                cure="Load them one place after the other, with mode: append.",
            )
    return folder


def read_items(path: AnyPath, dtype: np.dtype[Any], offset: int, items: int) -> npt.NDArray[Any]:
    """So many items from byte ``offset`` on; of a local file they are mapped, and the pages go with the array."""
    import numpy as np

    if not items:
        return np.empty(0, dtype)
    if isinstance(path, Path):
        return np.memmap(path, dtype, mode="r", offset=offset, shape=(items,))
    return np.frombuffer(path.read(offset, offset + items * dtype.itemsize), dtype)


class _Ranges(io.RawIOBase):
    """A remote file; each read is a request for a range."""

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
        """The URL: what HDF5 takes for the file's name."""
        return str(self.raw.path)  # type: ignore[attr-defined]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Filesystems work in a thread of their own, which would wait for ever if it collected an object of h5py's.

    h5py holds its lock while it reads a file-like object, and needs it to free one. Source: h5py's documentation, "File
    Objects", on Python file-like objects.
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
