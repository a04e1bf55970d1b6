"""Segment folders that the catalog does not name: their rows may be missing, so their collection is refused."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from airflow_provider_milvusdm.config.validation import parse_selection
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.operators.milvus1x import Milvus1xInspectOperator
from airflow_provider_milvusdm.sources.milvus1x.inspect import inspect_catalog
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog
from airflow_provider_milvusdm.sources.milvus1x.unlisted import list_folders
from airflow_provider_milvusdm.storage.paths import AnyPath, source_path
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import DROPPED, NEW, NEW_INDEX, NEW_MERGE, RAW, TO_DELETE
from tests.support.reading import assert_in_order, errors, read_partition

UNLISTED = "segment folders that the catalog does not name, whose rows may be missing"


def zeros(rows: int) -> np.ndarray:
    return np.zeros((rows, 4), np.float32)


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest) -> Any:
    """Returns the path of a directory, on a disk or in object storage."""

    def put(path: Path) -> AnyPath:
        if request.param == "local":
            return path
        url = f"memory://{uuid.uuid4()}"
        fsspec.filesystem("memory").put(str(path), url, recursive=True)
        return source_path(url)

    return put


def inspect(path: AnyPath, selection: Any = "*", **options: Any) -> list[PartitionGroup]:
    return inspect_catalog(
        read_sqlite_catalog(path / "db" / "meta.sqlite"),
        path / "db" / "tables",
        path / "wal",
        parse_selection(selection),
        **{"unit_bytes": 256 << 20, "max_tasks": 1024} | options,
    )


def test_a_catalog_copied_without_its_wal_is_refused(directory: Milvus1xDirectory, storage: Any) -> None:
    directory.collection("first", dimension=4)
    directory.segment(directory.collection("news", dimension=4), range(100), zeros(100))
    directory.write()
    kept = directory.catalog_path.read_bytes()
    newer = directory.segment(directory._tables[1], range(100, 1100), zeros(1000), deleted=[5])
    directory.write()
    directory.catalog_path.write_bytes(kept)
    path = storage(directory.path)

    found = errors(inspect(path))
    assert found["first"] == ""
    assert_in_order(
        found["news"],
        [
            "egment folders of collection 'news'",
            "their rows may be missing",
            str(path / "db" / "tables"),
            f"found 1 with 1000 rows: news/{newer.segment_id} (1000)",
            "meta.sqlite-wal",
            "unlisted_segments: ignore",
        ],
    )
    groups = inspect(path, unlisted_segments="ignore")
    assert [group.error for group in groups] == ["", ""]
    assert groups[1].notes == (f"{UNLISTED}, not migrated: 1 with 1000 rows: news/{newer.segment_id} (1000)",)
    assert groups[0].notes == ()


def test_a_catalog_with_its_wal_is_accepted(directory: Milvus1xDirectory, storage: Any) -> None:
    for name in ("first", "news"):
        directory.segment(directory.collection(name, dimension=4), range(3), zeros(3))
    path = storage(directory.write(leave_in_wal=True))
    assert {group.name: (group.error, group.notes) for group in inspect(path)} == dict.fromkeys(
        ("first", "news"), ("", ())
    )
    directory.catalog_path.with_name("meta.sqlite-wal").unlink()
    [group] = inspect(storage(directory.path))
    assert group.name == "first"
    assert "found 1 with 3 rows: first/" in group.error


def test_unlisted_folders_refuse_the_migrated_partition_and_are_noted_for_others(
    directory: Milvus1xDirectory, storage: Any
) -> None:
    news = directory.collection("news", dimension=4)
    x, y = (directory.partition(news, tag) for tag in "xy")
    directory.segment(x, [1], zeros(1))
    lost = directory.segment(y, [2, 3], zeros(2), file_types=())
    path = storage(directory.write())
    for selection in ("news", {"news": ["y"]}, {"news": ["_default", "y"]}):
        assert all(f"{y.table_id}/{lost.segment_id} (2)" in group.error for group in inspect(path, selection))
    for selection in ({"news": ["x"]}, {"news": ["_default"]}):
        [group] = inspect(path, selection)
        assert (group.error, group.notes) == ("", (f"{UNLISTED}: 1 with 2 rows: {y.table_id}/{lost.segment_id} (2)",))


def test_folders_of_unknown_tables_are_noted_and_refuse_nothing(directory: Milvus1xDirectory, storage: Any) -> None:
    for name in ("news", "other"):
        directory.segment(directory.collection(name, dimension=4), [1], zeros(1))
    directory.write()
    elsewhere = Milvus1xDirectory(directory.path)
    lost = elsewhere.collection("lost", dimension=4)
    for number in range(7):
        elsewhere.segment(lost, [1, 2], zeros(2), segment_id=str(number))
    elsewhere.write(catalog=False)
    groups = inspect(storage(directory.path))
    assert [group.error for group in groups] == ["", ""]
    listed = ", ".join(f"lost/{number} (2)" for number in range(5))
    assert [group.notes for group in groups] == [(f"{UNLISTED}: 7 with 14 rows: {listed}, and 2 more",), ()]


def test_a_folder_with_an_odd_name_is_noted_as_text(directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("news", dimension=4), [1], zeros(1))
    name = b"1\n\xff".decode("utf-8", "surrogateescape")
    folder = directory.write() / "db" / "tables" / "lost" / name
    folder.mkdir(parents=True)
    (folder / f"{name}.uid").write_bytes(bytes(24))
    [group] = inspect(directory.path)
    assert group.notes == (f"{UNLISTED}: 1 with 2 rows: 'lost/1\\n\\udcff' (2)",)


def test_folders_that_a_server_leaves_in_normal_operation_are_no_fault(
    directory: Milvus1xDirectory, storage: Any
) -> None:
    news = directory.collection("news", dimension=4)
    gone = directory.collection("gone", dimension=4, state=DROPPED)
    dropped = directory.partition(news, "x", state=DROPPED)
    for number, table in enumerate((news, gone, dropped)):
        directory.segment(table, [number], zeros(1))
    for file_type in (NEW, NEW_MERGE, NEW_INDEX, TO_DELETE, RAW):
        directory.segment(news, [10 + file_type], zeros(1), file_types=(file_type,))
    directory.segment(news, [], zeros(0), file_types=())
    path = directory.write()
    tables = directory.tables_folder
    (tables / "news" / "made").mkdir()
    (tables / "news" / "begun").mkdir()
    (tables / "news" / "begun" / "begun.rv").write_bytes(bytes(24))
    (tables / "news" / "a file").write_bytes(b"")
    (tables / "a file").write_bytes(b"")
    [group] = inspect(storage(path))
    assert (group.error, group.notes) == ("", ())


def test_a_segment_that_is_created_during_inspection_is_no_fault(
    directory: Milvus1xDirectory,
) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1], zeros(1))
    path = directory.write()
    folders, catalog = list_folders(directory.tables_folder), read_sqlite_catalog(directory.catalog_path)
    directory.segment(news, [2], zeros(1))
    directory.write()
    asked = (catalog, directory.tables_folder, path / "wal", {"news": None})
    limits: dict[str, Any] = {"unit_bytes": 1 << 20, "max_tasks": 1024}
    assert errors(inspect_catalog(*asked, **limits, folders=folders)) == {"news": ""}
    assert errors(inspect_catalog(*asked, **limits)) != {"news": ""}


def test_the_operator_uses_the_param(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1], zeros(1))
    directory.segment(news, [2], zeros(1), file_types=())
    path = str(directory.write())
    for policy, refused in (("error", True), ("ignore", False)):
        step = Milvus1xInspectOperator(task_id="i", source_milvus_path=path, unlisted_segments=policy)
        assert [bool(group.error) for group in step.inspect()] == [refused]
    assert read_partition(directory.path, "news", unlisted_segments="ignore") == directory.live_rows("news")[:1]


def test_a_real_directory_has_no_unlisted_folders(real_data: Path) -> None:
    notes = [note for group in inspect(real_data / "milvus") for note in group.notes]
    assert not any(UNLISTED in note for note in notes)
