"""Paths: a text becomes a local path, or the path behind a URL that fsspec opens (``s3://…``)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.storage.remote import RemotePath

AnyPath: TypeAlias = Path | RemotePath
UrlOpener: TypeAlias = Callable[[str], tuple[Any, str]]
"""Returns the fsspec filesystem that a URL leads to, and the path in it."""

FILE_URL = "file://"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _open_with_fsspec(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    opened: tuple[Any, str] = url_to_fs(url)
    return opened


_open_url: UrlOpener = _open_with_fsspec


def open_urls_with(opener: UrlOpener) -> None:
    """From now on, open URLs in this process with ``opener``, which may know credentials that fsspec doesn't."""
    global _open_url
    _open_url = opener


def source_path(text: str) -> AnyPath:
    """The path or URL in ``text``. Raises ConfigurationError if the URL can't be opened."""
    if text.startswith(FILE_URL):
        return Path(text.removeprefix(FILE_URL))
    if not URL.match(text):
        return Path(text)
    filesystem, key = _open_url(text)
    filesystem.invalidate_cache()  # listings of an earlier task
    return RemotePath(text.rstrip("/"), key.rstrip("/"), filesystem)


def local_path(text: str) -> str:
    """``text``, if it is a local path. Raises ConfigurationError for a URL, which may hold a login."""
    if scheme := URL.match(text):
        raise ConfigurationError(
            "a URL is not possible here",
            expected="a path on the workers",
            found=f"{scheme[0]}…",
            cure="Copy the files from or to the URL with another tool. (Faiss indexes are mapped into memory, HDF5 "
            "files are written in place.)",
        )
    return text


def real_path(path: AnyPath) -> AnyPath:
    """The path with links followed and ``..`` resolved."""
    return Path(os.path.realpath(path)) if isinstance(path, Path) else path.resolve()


def common_folder(paths: Sequence[AnyPath]) -> AnyPath:
    """The lowest folder that contains all files. Raises ConfigurationError if there is none."""
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
                cure="Load one place after the other, with mode: append.",
            )
    return folder
