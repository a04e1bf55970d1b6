"""Paths: a text becomes a local path, or one behind a URL that fsspec opens (``s3://…``)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.storage.remote import RemotePath

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
FILE_URL = "file://"


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
