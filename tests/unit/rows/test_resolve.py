"""Rows that Milvus 2.x can't hold, contradictions between files, fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, SourceError
from airflow_provider_milvusdm.rows.resolve import resolve_group
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import BACKUP, HAMMING, INDEX, TO_INDEX
from tests.support.milvus1x_segment import Damage
from tests.support.reading import assert_in_order, inspect, read_rows, refused, resolve, without_permissions

FLOATS = np.arange(40, dtype=np.float32).reshape(10, 4)
LARGEST = 2**63 - 1


def test_every_live_row_is_resolved_exactly(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4, engine=2, index_params='{"nlist":16}')
    march = directory.partition(news, "2021-03 news")
    faces = directory.collection("faces", dimension=16, metric=HAMMING)
    directory.segment(news, [-(2**63), 7, 2**63 - 2], FLOATS[:3], deleted=[1], file_types=[INDEX, BACKUP])
    directory.segment(news, [8], FLOATS[3:4], file_types=[TO_INDEX])
    directory.segment(march, range(5), FLOATS[:5], deleted=[4, 0])
    directory.segment(faces, [1, 2], [[1, 0], [0, 0]])
    groups = resolve(directory.write())
    rows = read_rows(unit for group in groups for unit in group.units)
    assert rows == {
        ("news", "_default"): directory.live_rows("news"),
        ("news", "2021-03 news"): directory.live_rows("news", "2021-03 news"),
        ("faces", "_default"): directory.live_rows("faces"),
    }
    counts = {
        (group.name, part.tag): (part.live_rows, part.deleted_rows) for group in groups for part in group.partitions
    }
    assert counts == {("news", "_default"): (3, 1), ("news", "2021-03 news"): (3, 2), ("faces", "_default"): (2, 0)}


def test_a_collection_without_rows_has_no_units(directory: Milvus1xDirectory) -> None:
    directory.partition(directory.collection("news", dimension=4), "x")
    groups = resolve(directory.write())
    assert [(part.tag, part.live_rows) for group in groups for part in group.partitions] == [("_default", 0), ("x", 0)]
    assert [group.units for group in groups] == [()]


@pytest.mark.parametrize("row_count", [0, 1, 3, 2**60, -2])
def test_a_row_count_that_differs_from_the_segment_is_refused(directory: Milvus1xDirectory, row_count: int) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1, 2, 3], FLOATS[:3], deleted=[1], row_count=row_count, segment_id="7")
    assert_in_order(
        refused(directory.write(), as_a=DamagedSourceError),
        ["'news', segment news/7", f"Expected row_count {row_count}", "found 3 ids, 1 deleted: 2 live rows", "backup"],
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused_with_their_ids(directory: Milvus1xDirectory, bad: float) -> None:
    vectors = FLOATS.copy()
    vectors[3, 0] = vectors[8, 3] = bad
    news = directory.collection("news", dimension=4)
    directory.segment(news, range(100, 110), vectors, segment_id="7")
    assert_in_order(
        refused(directory.write(), as_a=RefusedRowsError),
        [
            "2 vectors of collection 'news'",
            "'_default', segment news/7",
            "Expected finite",
            "found ids 103, 108.",
            "Delete",
        ],
    )


def test_a_deleted_vector_may_be_anything(directory: Milvus1xDirectory) -> None:
    vectors = FLOATS.copy()
    vectors[3] = np.nan
    directory.segment(directory.collection("news", dimension=4), range(10), vectors, deleted=[3])
    [group] = resolve(directory.write())
    assert group.partitions[0].live_rows == 9


def test_binary_vectors_are_not_checked_for_nan(directory: Milvus1xDirectory) -> None:
    faces = directory.collection("faces", dimension=32, metric=HAMMING)
    directory.segment(faces, [1], np.frombuffer(np.float32(np.nan).tobytes(), "u1"))
    assert resolve(directory.write())[0].partitions[0].live_rows == 1


def test_bad_vectors_are_found_in_every_part_of_a_large_segment(directory: Milvus1xDirectory) -> None:
    vectors = np.full((100, 32768), np.nan, np.float32)  # more than one batch
    vectors[::2] = 0
    directory.segment(directory.collection("news", dimension=32768), range(100), vectors)
    text = refused(directory.write(), as_a=RefusedRowsError)
    assert_in_order(text, ["50 vectors", "found ids 1, 3, 5,", "39 and 30 more"])


def test_an_id_on_several_rows_of_a_partition_is_refused(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [5, 1, 5, 5], FLOATS[:4], segment_id="7")
    directory.segment(news, [2, 5, 1], FLOATS[:3], segment_id="8")
    directory.segment(news, [3], FLOATS[:1], segment_id="9")
    assert_in_order(
        refused(directory.write(), as_a=RefusedRowsError),
        [
            "2 ids are on rows with different vectors in partition '_default' of collection 'news'",
            "id 1 in segments news/7, news/8.",
            "Expected one row per id",
            "found ids 1, 5.",
            "Choose duplicate_ids: keep_first or keep_last",
        ],
    )


def test_an_id_twice_in_one_segment_names_that_segment(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [5, 4, 5], FLOATS[:3], segment_id="7")
    assert "id 5 in segments news/7 (2 times)" in refused(directory.write(), as_a=RefusedRowsError)


def test_many_duplicates_are_counted_and_the_first_are_named(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    for number in range(2):
        directory.segment(news, range(30), np.full((30, 4), number))
    assert_in_order(refused(directory.write()), ["30 ids", "found ids 0, 1, 2,", "19 and 10 more"])


def test_an_id_can_be_used_again_after_its_row_is_deleted(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [5, 6], FLOATS[:2], deleted=[0])
    directory.segment(news, [5], FLOATS[2:3])
    [group] = resolve(directory.write())
    assert read_rows(group.units)[("news", "_default")] == directory.live_rows("news")


def test_the_same_id_in_two_partitions_is_no_duplicate(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    for table in (news, directory.partition(news, "x"), directory.partition(news, "y")):
        directory.segment(table, [5], FLOATS[:1])
    for unit_bytes in (1, 1 << 30):  # in three groups, and in one
        groups = resolve(directory.write(), unit_bytes=unit_bytes)
        assert sum(part.live_rows for group in groups for part in group.partitions) == 3


def test_the_id_that_milvus_never_returns_is_refused(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [LARGEST, LARGEST - 1], FLOATS[:2], segment_id="7")
    assert_in_order(
        refused(directory.write(), as_a=RefusedRowsError),
        [
            "partition '_default' of collection 'news'",
            "news/7",
            "Expected ids up to 2^63 - 2",
            f"found id {LARGEST}",
            "Give",
        ],
    )


def test_all_faults_of_a_group_are_in_one_message(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    directory.segment(news, [1], FLOATS[:1], row_count=9, segment_id="1")
    directory.segment(news, [2], FLOATS[:1], write_folder=False, segment_id="2")
    directory.segment(news, [3], [[np.nan] * 4], segment_id="3")
    directory.segment(directory.partition(news, "x"), [4, 4], FLOATS[:2], segment_id="4")
    directory.segment(directory.partition(news, "y"), [LARGEST, LARGEST], FLOATS[:2], segment_id="5")
    [group] = inspect(directory.write(), max_tasks=2)
    with pytest.raises(SourceError) as fault:
        resolve_group(group)
    text = str(fault.value)
    assert_in_order(text, ["6 faults in collection 'news'", "news/1", "news/2", "news/3", "'x'", "'y'", "'y'"])
    assert len(text.splitlines()) == 7


def test_many_faults_are_counted_and_the_first_are_named(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    for number in range(50):
        directory.segment(news, [number], FLOATS[:1], write_folder=False)
    text = refused(directory.write())
    assert_in_order(text, ["50 faults", "and 30 more"])
    assert text.count("folder is gone") == 20


def test_a_segment_that_may_not_be_read_is_refused(directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("news", dimension=4), [1], FLOATS[:1])
    [group] = inspect(directory.write())
    with without_permissions(directory.tables_folder), pytest.raises(SourceError) as fault:
        resolve_group(group)
    assert_in_order(
        str(fault.value), ["No permission to read the source", str(directory.tables_folder), "Give read permission"]
    )


def test_a_collection_refused_by_inspect_is_refused_with_its_error(directory: Milvus1xDirectory) -> None:
    directory.collection("news", dimension=4, version="0.6.0")
    assert "'0.6.0'" in refused(directory.write())


def fingerprint(path: Path, *segments: dict[str, Any], tag: str = "x") -> str:
    """The fingerprint of a partition with these segments; by default ids 1, 2, 3 with the second deleted."""
    directory = Milvus1xDirectory(path)
    partition = directory.partition(directory.collection("news", dimension=4), tag)
    for segment in segments:
        segment = {"ids": [1, 2, 3], "deleted": [1]} | segment
        directory.segment(partition, vectors=FLOATS[: len(segment["ids"])], **segment)
    [group] = resolve(directory.write(), {"news": [tag]})
    return group.partitions[0].fingerprint


@pytest.mark.parametrize(
    ("segments", "tag"),
    [
        ([{"ids": [1, 2, 4]}], "x"),
        ([{"ids": [2, 1, 3]}], "x"),
        ([{"ids": [1, 2, 3, 4]}], "x"),
        ([{"deleted": []}], "x"),
        ([{"deleted": [0]}], "x"),
        ([{"deleted": [0, 1]}], "x"),
        ([{}, {"ids": [9], "deleted": []}], "x"),
        ([{"ids": [1, 2]}, {"ids": [3], "deleted": []}], "x"),
        ([], "x"),
        ([{}], "y"),
    ],
)
def test_other_rows_have_another_fingerprint(tmp_path: Path, segments: list[dict[str, Any]], tag: str) -> None:
    assert fingerprint(tmp_path / "a", *segments, tag=tag) != fingerprint(tmp_path / "b", {})


@pytest.mark.parametrize(
    "segment",
    [
        {},
        {"deleted": [1, 1]},
        {"damage": Damage(tail=b"left over")},
        {"segment_id": "77"},
        {"file_types": [INDEX, BACKUP]},
    ],
)
def test_the_same_rows_have_the_same_fingerprint(tmp_path: Path, segment: dict[str, Any]) -> None:
    assert fingerprint(tmp_path / "a", segment) == fingerprint(tmp_path / "b", {})


def test_the_fingerprint_does_not_depend_on_the_order_of_deletions(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "a", {"deleted": [0, 2]}) == fingerprint(tmp_path / "b", {"deleted": [2, 0]})
