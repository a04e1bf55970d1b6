"""Paths and URLs: sources read files from both in the same way."""

from __future__ import annotations

import errno
import gc
import io
import os
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest

from airflow_provider_milvusdm.config.jobs import F2M, M2H
from airflow_provider_milvusdm.config.validation import read_params
from airflow_provider_milvusdm.exceptions import ConfigurationError, DamagedSourceError
from airflow_provider_milvusdm.storage.files import read_items
from airflow_provider_milvusdm.storage.paths import AnyPath, common_folder, local_path, real_path, source_path
from airflow_provider_milvusdm.storage.remote import RemotePath

BYTES = bytes(range(100))


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    """A local folder, and one in an fsspec filesystem, with the same content."""
    url = str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4()}"
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.makedirs(f"{root}/some/empty")
    for name in ("a.h5", "some/b.wal", "some/c.rv"):
        filesystem.pipe_file(f"{root}/{name}", BYTES)
    return source_path(url)


def test_paths_and_urls_give_the_same_answers(folder: AnyPath) -> None:
    file = folder / "some" / "b.wal"
    assert (file.name, file.stem, file.suffix, file.parent.name) == ("b.wal", "b", ".wal", "some")
    assert (file.is_file(), file.is_dir(), folder.is_dir(), (folder / "some").is_file()) == (True, False, True, False)
    assert not (folder / "none").is_file()
    assert not (folder / "none").is_dir()
    assert file.stat().st_size == 100
    assert file.with_name("c.rv").is_file()
    assert file.read_bytes() == BYTES
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["a.h5"]
    assert [str(path) for path in (folder / "some").glob("*.wal")] == [str(file)]
    assert list((folder / "none").glob("*")) == []


def test_subfolders_are_listed_with_one_request() -> None:
    url = f"memory://{uuid.uuid4()}"
    filesystem, root = fsspec.core.url_to_fs(url)
    for name in ("t/a/1/1.uid", "t/a/1/deep/er", "t/a/2/2.rv", "t/a/file", "t/file", "t/b/3/x", "t2/a/4/x", "u/a/5/x"):
        filesystem.pipe_file(f"{root}/{name}", b"")
    folder = source_path(f"{url}/t")
    assert isinstance(folder, RemotePath)
    assert folder.list_subfolders() == {("a", "1"), ("a", "2"), ("b", "3")}
    none = source_path(f"{url}/none")
    assert isinstance(none, RemotePath)
    assert none.list_subfolders() == set()


def test_an_opened_file_is_read_from_anywhere(folder: AnyPath) -> None:
    with (folder / "a.h5").open("rb") as file:
        assert file.read(3) == BYTES[:3]
        assert file.seek(-10, os.SEEK_END) == 90
        assert file.read() == BYTES[90:]
        assert file.read(1) == b""
        file.seek(50)
        file.seek(-1, os.SEEK_CUR)
        assert file.read(2) == BYTES[49:51]


@pytest.mark.parametrize(("offset", "items"), [(0, 25), (8, 3), (96, 1), (100, 0)])
def test_items_are_read_from_an_offset(folder: AnyPath, offset: int, items: int) -> None:
    found = read_items(folder / "a.h5", np.dtype("<i4"), offset, items)
    assert found.tolist() == np.frombuffer(BYTES, "<i4")[offset // 4 :][:items].tolist()


def test_a_missing_file_is_an_error_with_its_name(folder: AnyPath) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        (folder / "none").stat()
    assert (raised.value.errno, raised.value.filename) == (errno.ENOENT, str(folder / "none"))


class Faulty:
    """A filesystem whose requests all fail with this error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def cat_file(self, key: str, start: int, end: int) -> bytes:
        raise self.error


@pytest.mark.parametrize(
    ("error", "number", "words"),
    [
        (PermissionError("Forbidden"), errno.EACCES, r"\[Errno 13\] Forbidden: 's3://b/a'"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), errno.ECONNRESET, r"\[Errno 104\] reset: 's3://b/a'"),
        (TimeoutError("late"), errno.EIO, r"\[Errno 5\] late: 's3://b/a'"),
    ],
)
def test_errors_of_a_filesystem_get_an_errno_and_a_filename(error: OSError, number: int, words: str) -> None:
    with pytest.raises(OSError, match=words) as raised:
        RemotePath("s3://b/a", "b/a", Faulty(error)).read(0, 1)
    assert (raised.value.errno, raised.value.filename) == (number, "s3://b/a")
    assert isinstance(raised.value, PermissionError) == isinstance(error, PermissionError)


def test_a_file_that_became_shorter_is_damaged() -> None:
    filesystem, key = fsspec.core.url_to_fs(f"memory://{uuid.uuid4()}")
    filesystem.pipe_file(key, BYTES)
    with pytest.raises(DamagedSourceError, match=r"ends too early: memory://x\. Expected bytes 90 to 110, found 10"):
        RemotePath("memory://x", key, filesystem).read(90, 110)


def test_an_object_that_stands_for_its_folder_is_not_listed() -> None:
    class Marked:
        def ls(self, key: str, detail: bool) -> list[str]:
            return [f"{key}/", key, f"{key}/a"]

    assert [path.url for path in RemotePath("s3://c@b/x", "b/x", Marked()).iterdir()] == ["s3://c@b/x/a"]


def test_a_file_url_is_a_path() -> None:
    assert source_path("file:///data/milvus") == Path("/data/milvus")


def test_an_opened_remote_file_has_its_url_as_name(tmp_path: Path) -> None:
    path = source_path(f"memory://{uuid.uuid4()}")
    assert isinstance(path, RemotePath)
    path.filesystem.pipe_file(path.key, b"")
    opened = path.open()
    assert isinstance(opened, io.BufferedReader)
    assert repr(opened) == str(path)


def test_no_garbage_is_collected_while_h5py_waits_for_a_filesystem() -> None:
    """Otherwise the filesystem's thread could wait for h5py's lock, to free an object of h5py, for ever."""
    enabled = []

    class Noting:
        def info(self, key: str) -> dict[str, object]:
            return {"type": "file", "size": len(BYTES)}

        def cat_file(self, key: str, start: int, end: int) -> bytes:
            enabled.append(gc.isenabled())
            return BYTES[start:end]

    with RemotePath("s3://b/a", "b/a", Noting()).open() as file:
        assert file.read() == BYTES
    assert enabled == [False]
    assert gc.isenabled()


def remote(*urls: str) -> list[AnyPath]:
    return [RemotePath(url, url.partition("://")[2], None) for url in urls]


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        ([Path("/a/b/c.h5"), Path("/a/d.h5")], "/a"),
        ([Path("/a.h5")], "/"),
        (remote("s3://c@b/x/y/1.h5", "s3://c@b/x/yy/2.h5"), "s3://c@b/x"),
        (remote("s3://c@b/1.h5"), "s3://c@b"),
        (remote("s3://b//x/1.h5", "s3://b//x/2.h5"), "s3://b//x"),
    ],
)
def test_the_common_folder_of_several_files(paths: list[AnyPath], folder: str) -> None:
    assert str(common_folder(paths)) == folder


@pytest.mark.parametrize(
    "paths",
    [
        remote("s3://c@b/1.h5", "s3://c@d/1.h5"),
        remote("s3://c@b/1.h5", "gs://c@b/1.h5"),
        [Path("/a/1.h5"), *remote("s3://c@b/1.h5")],
        [*remote("s3://c@b/1.h5"), Path("/a/1.h5")],
    ],
)
def test_files_of_several_places_are_refused(paths: list[AnyPath]) -> None:
    with pytest.raises(ConfigurationError, match="Files of several places"):
        common_folder(paths)


def test_a_real_path_has_no_dots() -> None:
    [path] = remote("s3://c@b/x/./y/../z")
    assert str(real_path(path)) == "s3://c@b/x/z"


@pytest.mark.parametrize("url", ["s3://c@b/x", "gs://b/x", "file:///x"])
def test_a_url_is_refused_where_a_path_is_needed(url: str) -> None:
    with pytest.raises(ConfigurationError, match="A URL is not possible here"):
        local_path(url)
    with pytest.raises(ConfigurationError, match=r"data_path.*URL"):
        read_params(F2M, {"data_path": url, "dest_collection_name": "news"})
    with pytest.raises(ConfigurationError, match=r"data_dir.*URL"):
        read_params(M2H, {"source_milvus_path": "/data", "data_dir": url})


@pytest.mark.parametrize("path", ["/data/x", "x", "./s3:/x", "C:/x"])
def test_a_path_is_accepted_where_a_path_is_needed(path: str) -> None:
    assert local_path(path) == path
