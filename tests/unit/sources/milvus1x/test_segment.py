"""What is read from a segment's folder, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceError, SourceNotFoundError
from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric
from airflow_provider_milvusdm.sources.milvus1x.segment import Milvus1xSource
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING, IP, JACCARD, L2, SUBSTRUCTURE, SUPERSTRUCTURE, TANIMOTO
from tests.support.milvus1x_segment import Damage, Segment
from tests.support.reading import assert_in_order, inspect, read_partition, read_rows, refused, resolve
from tests.support.tree_checksum import tree_checksum

FLOATS = np.arange(12, dtype=np.float32).reshape(3, 4)
BITS = np.array([[1, 0], [0, 0], [255, 7]], dtype=np.uint8)
NEWS = CollectionSpec("news", 4, Metric.L2)


@pytest.fixture
def segment(directory: Milvus1xDirectory) -> Segment:
    """The written segment `news/7`: ids 1, 2, 3, the second deleted."""
    segment = directory.segment(
        directory.collection("news", dimension=4), [1, 2, 3], FLOATS, deleted=[1], segment_id="7"
    )
    directory.write()
    return segment


@pytest.mark.parametrize("metric", [L2, IP])
def test_float_vectors_are_read_bit_for_bit(directory: Milvus1xDirectory, metric: int) -> None:
    news = directory.collection("news", dimension=3, metric=metric)
    tiny, largest = np.nextafter(np.float32(0), np.float32(1)), np.finfo(np.float32).max
    directory.segment(news, [-(2**63), 2**63 - 2], [[0.1, -0.0, tiny], [largest, -largest, 0]])
    assert read_partition(directory.write(), "news") == [
        (-(2**63), struct.pack("<3f", 0.1, -0.0, tiny)),
        (2**63 - 2, struct.pack("<3f", largest, -largest, 0)),
    ]


@pytest.mark.parametrize("metric", [HAMMING, JACCARD, TANIMOTO, SUBSTRUCTURE, SUPERSTRUCTURE])
def test_binary_vectors_keep_zero_bytes_at_their_end(directory: Milvus1xDirectory, metric: int) -> None:
    faces = directory.collection("faces", dimension=16, metric=metric)
    directory.segment(faces, [5, 6, 7], BITS)
    assert read_partition(directory.write(), "faces") == [(5, b"\x01\x00"), (6, b"\x00\x00"), (7, b"\xff\x07")]


@pytest.mark.parametrize(
    ("deleted", "live"),
    [([], [1, 2, 3]), ([2, 0], [2]), ([1, 1, 1], [1, 3]), ([2, 1, 0, 2], []), ([0], [2, 3]), ([2], [1, 2])],
)
def test_deletions_are_a_set_of_offsets(directory: Milvus1xDirectory, deleted: list[int], live: list[int]) -> None:
    directory.segment(directory.collection("news", dimension=4), [1, 2, 3], FLOATS, deleted=deleted)
    [group] = resolve(directory.write())
    assert read_rows(group.units).get(("news", "_default"), []) == directory.live_rows("news")
    assert [row_id for row_id, _ in directory.live_rows("news")] == live
    assert (group.partitions[0].live_rows, group.partitions[0].deleted_rows) == (len(live), 3 - len(live))


def test_a_segment_without_rows_is_read(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [], np.empty((0, 4)), segment_id="1")
    directory.segment(news, [8], FLOATS[:1], segment_id="2")
    [group] = resolve(directory.write())
    assert [row_slice.segment for unit in group.units for row_slice in unit.slices] == ["news/2"]
    assert group.partitions[0].live_rows == 1


def test_bytes_after_the_number_in_the_header_are_ignored(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1, 2, 3], FLOATS, deleted=[1], damage=Damage(tail=b"left over from a rewrite"))
    assert read_partition(directory.write(), "news") == directory.live_rows("news")


def test_any_range_of_stored_rows_is_read_without_its_deleted_ones(
    segment: Segment, directory: Milvus1xDirectory
) -> None:
    opened = Milvus1xSource(str(directory.tables_folder)).segment(NEWS, "news/7")
    assert (opened.stored_rows, opened.deleted_rows) == (3, 1)
    for start in range(4):
        for stop in range(start, 4):
            batch = opened.read(start, stop)
            live = [offset for offset in range(start, stop) if offset != 1]
            assert batch.ids.tolist() == [segment.ids[offset] for offset in live]
            assert [row.tobytes() for row in batch.vectors] == [segment.vectors[offset] for offset in live]
            assert batch.vectors.shape == (len(live), 4)


def cut(name: str, size: int) -> Callable[[Segment], Any]:
    return lambda segment: os.truncate(segment.folder / name, size)


def rewrite(name: str, content: bytes) -> Callable[[Segment], Any]:
    return lambda segment: (segment.folder / name).write_bytes(content)


def remove(name: str) -> Callable[[Segment], Any]:
    return lambda segment: (segment.folder / name).unlink()


def with_header(name: str, claimed: int) -> Callable[[Segment], Any]:
    return lambda segment: (segment.folder / name).write_bytes(
        struct.pack("<Q", claimed) + (segment.folder / name).read_bytes()[8:]
    )


@pytest.mark.parametrize(
    ("damage", "error", "parts"),
    [
        (cut("7.rv", 55), DamagedSourceError, ["7/7.rv", "Expected 48 bytes after the header", "found 47 bytes"]),
        (cut("7.uid", 31), DamagedSourceError, ["7/7.uid", "Expected 24 bytes after the header", "found 23 bytes"]),
        (cut("deleted_docs", 11), DamagedSourceError, ["7/deleted_docs", "Expected 4 bytes", "found 3 bytes"]),
        (cut("7.rv", 8), DamagedSourceError, ["7/7.rv", "Expected 48 bytes after the header", "found 0 bytes"]),
        (cut("7.rv", 7), DamagedSourceError, ["7/7.rv", "Expected a header of 8 bytes", "found 7 bytes"]),
        (cut("7.uid", 0), DamagedSourceError, ["7/7.uid", "Expected a header of 8 bytes", "found 0 bytes"]),
        (cut("deleted_docs", 0), DamagedSourceError, ["7/deleted_docs", "Expected a header", "found 0 bytes"]),
        (with_header("7.rv", 2**60), DamagedSourceError, ["7.rv", f"Expected {2**60} bytes", "found 48 bytes"]),
        (with_header("7.uid", 2**60), DamagedSourceError, ["7.uid", f"Expected {2**60} bytes", "found 24 bytes"]),
        (with_header("7.uid", 2**64 - 8), DamagedSourceError, ["7.uid", f"Expected {2**64 - 8} bytes", "found 24"]),
        (with_header("deleted_docs", 2**60), DamagedSourceError, ["deleted_docs", f"{2**60}", "found 4 bytes"]),
        (with_header("7.rv", 32), DamagedSourceError, ["7/7.rv", "Expected 48 bytes: 3 ids x 16", "found 32 bytes"]),
        (with_header("7.rv", 47), DamagedSourceError, ["7/7.rv", "Expected 48 bytes: 3 ids x 16", "found 47 bytes"]),
        (with_header("7.uid", 16), DamagedSourceError, ["7/7.rv", "Expected 32 bytes: 2 ids x 16", "found 48 bytes"]),
        (with_header("7.uid", 20), DamagedSourceError, ["7.uid", "Expected a multiple of 8 bytes", "found 20 bytes"]),
        (
            with_header("deleted_docs", 2),
            DamagedSourceError,
            ["deleted_docs", "a multiple of 4 bytes", "found 2 bytes"],
        ),
        (remove("7.rv"), SourceNotFoundError, ["7/7.rv", "Expected a file, found none"]),
        (remove("7.uid"), SourceNotFoundError, ["7/7.uid", "Expected a file, found none"]),
        (remove("deleted_docs"), SourceNotFoundError, ["7/deleted_docs", "Expected a file, found none"]),
        (
            lambda segment: shutil.rmtree(segment.folder),
            SourceNotFoundError,
            ["news/7", "Expected a folder, found none"],
        ),
        (
            lambda segment: (segment.rv.unlink(), segment.rv.mkdir()),
            SourceNotFoundError,
            ["7/7.rv", "Expected a file, found none"],
        ),
        (
            lambda segment: (segment.uid.unlink(), os.mkfifo(segment.uid)),
            SourceNotFoundError,
            ["7/7.uid", "Expected a file, found none"],
        ),
        (
            rewrite("deleted_docs", struct.pack("<Qi", 4, 3)),
            DamagedSourceError,
            ["deleted_docs", "Expected offsets from 0, below 3", "found 1 others, the first 3"],
        ),
        (
            rewrite("deleted_docs", struct.pack("<Q3i", 12, 0, -1, 9)),
            DamagedSourceError,
            ["deleted_docs", "Expected offsets from 0, below 3", "found 2 others, the first -1"],
        ),
    ],
)
def test_a_damaged_segment_is_refused(
    directory: Milvus1xDirectory,
    segment: Segment,
    damage: Callable[[Segment], Any],
    error: type[SourceError],
    parts: list[str],
) -> None:
    damage(segment)
    assert_in_order(refused(directory.path, as_a=error), [str(directory.tables_folder), *parts, "Restore", "backup"])


@pytest.mark.parametrize(
    "segment_id", ["../evil", "{outside}", "../../../outside", "", ".", "..", "a/b", "a\0b", "x" * 300, "新闻"]
)
def test_a_segment_id_that_is_not_a_folder_name_is_refused(
    directory: Milvus1xDirectory, segment: Segment, tmp_path: Path, segment_id: str
) -> None:
    tables = directory.tables_folder
    segment_id = segment_id.format(outside=tmp_path / "outside")
    for folder in (tables, tables / "news", tables / "news" / "a" / "b", tables / "evil", tmp_path / "outside"):
        copy_segment(segment, folder)
    with closing(sqlite3.connect(directory.catalog_path)) as connection:
        connection.execute("UPDATE TableFiles SET segment_id = ?", [segment_id])
        connection.commit()
    assert_in_order(
        refused(directory.path, as_a=DamagedSourceError, unlisted_segments="ignore"),
        ["is outside the tables folder", str(tables), "Expected <table_id>/<segment_id>", "found 'news/", "backup"],
    )


def copy_segment(segment: Segment, folder: Path) -> None:
    """A complete segment in another folder, named like that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(segment.rv, folder / f"{folder.name}.rv")
    shutil.copy(segment.uid, folder / f"{folder.name}.uid")
    shutil.copy(segment.deleted_docs, folder / "deleted_docs")


@pytest.mark.parametrize("linked", ["tables/news/7", "tables/news"])
def test_a_link_that_leaves_the_tables_folder_is_refused(
    directory: Milvus1xDirectory, segment: Segment, tmp_path: Path, linked: str
) -> None:
    inside = directory.path / "db" / linked
    inside.rename(tmp_path / "elsewhere")
    inside.symlink_to(tmp_path / "elsewhere")
    assert "outside the tables folder" in refused(directory.path, as_a=DamagedSourceError)


@pytest.mark.parametrize("name", ["rv", "uid", "deleted_docs"])
def test_a_file_that_is_a_link_is_refused(
    directory: Milvus1xDirectory, segment: Segment, tmp_path: Path, name: str
) -> None:
    file: Path = getattr(segment, name)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    fault = refused(directory.path, as_a=DamagedSourceError)
    assert_in_order(fault, ["is a link", str(file), "a link to", "Replace the link"])


def test_a_link_in_a_circle_is_refused(directory: Milvus1xDirectory, segment: Segment) -> None:
    shutil.rmtree(segment.folder)
    segment.folder.symlink_to(segment.folder)
    assert "folder is gone" in refused(directory.path, as_a=SourceNotFoundError)


def test_segments_in_a_secondary_path_of_the_server_are_refused_with_that_cause(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    segments = [directory.segment(news, [number], [[1, 2, 3, 4]]) for number in range(3)]
    secondary = directory.write().with_name("secondary") / "db" / "tables"
    secondary.joinpath("news").mkdir(parents=True)
    for segment in segments[1:]:
        shutil.move(segment.folder, secondary / "news" / segment.segment_id)
    text = refused(directory.path)
    assert_in_order(text, ["2 faults", "folder is gone", segments[1].segment_id, "storage.secondary_path", "copy"])
    shutil.copytree(secondary, directory.tables_folder, dirs_exist_ok=True)
    assert read_partition(directory.path, "news") == directory.live_rows("news")


def test_the_tables_folder_itself_may_be_a_link(directory: Milvus1xDirectory, segment: Segment, tmp_path: Path) -> None:
    directory.tables_folder.rename(tmp_path / "elsewhere")
    directory.tables_folder.symlink_to(tmp_path / "elsewhere")
    assert read_partition(directory.path, "news") == directory.live_rows("news")


def test_a_real_directory_is_read(real_data: Path) -> None:
    before = tree_checksum(real_data)
    expected = json.loads((real_data / "expected.json").read_text())
    groups = {group.name: group for group in inspect(real_data / "milvus")}
    assert set(groups) == set(expected)
    for name, wanted in expected.items():
        rows = read_partition(real_data / "milvus", name)
        collection = groups[name].collection
        assert collection is not None
        assert (collection.dimension, collection.metric, len(rows)) == (
            wanted["dimension"],
            wanted["metric_type"],
            wanted["rows"],
        )
        if rows:
            ids = b"".join(struct.pack("<q", row_id) for row_id, _ in rows)
            vectors = b"".join(vector for _, vector in rows)
            assert hashlib.sha256(ids).hexdigest() == wanted["ids_sha256"]
            assert hashlib.sha256(vectors).hexdigest() == wanted["vectors_sha256"]
    assert tree_checksum(real_data) == before
