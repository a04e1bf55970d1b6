"""The position of a Milvus 1.x collection: which segments are finished, and which are younger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from airflow_provider_milvusdm.model.collections import SourcePosition
from airflow_provider_milvusdm.sources.milvus1x.position import find_position, is_seen, with_log
from airflow_provider_milvusdm.sources.milvus1x.read_catalog import read_sqlite_catalog
from tests.support.directories import DIMENSION, random_vectors
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import CLOCK, INDEX, NEW, NEW_MERGE, RAW, TO_DELETE


def position_of(path: Path, segments: Sequence[tuple[str, str, int]]) -> SourcePosition:
    """The position of a collection with these segments: tag, name and file type."""
    directory = Milvus1xDirectory(path)
    news = directory.collection("news", dimension=DIMENSION, flush_lsn=7)
    tables = {"_default": news, "a": directory.partition(news, "a", flush_lsn=9)}
    for number, (tag, name, file_type) in enumerate(segments):
        vectors = random_vectors(1, number)
        directory.segment(tables[tag], [number], vectors, segment_id=name, file_types=[file_type])
    directory.write()
    return find_position(read_sqlite_catalog(directory.catalog_path), "news")


@pytest.mark.parametrize(
    ("segments", "seen"),
    [
        ([], 0),
        ([("_default", "20", RAW), ("a", "30", INDEX)], 30),
        ([("_default", "20", RAW), ("_default", "40", TO_DELETE), ("a", "50", NEW_MERGE)], 20),
        ([("_default", "20", RAW), ("a", "25", NEW), ("a", "30", INDEX)], 24),
        ([("_default", "20", RAW), ("a", "35", NEW)], 20),
        ([("_default", "20", RAW), ("a", "of-hand", RAW), ("a", "9" * 250, RAW)], 20),
    ],
    ids=["empty", "finished", "dead", "one-that-is-still-written-to", "begun-after", "no-times"],
)
def test_the_position_is_the_youngest_segment_before_any_unfinished_one(
    tmp_path: Path, segments: Sequence[tuple[str, str, int]], seen: int
) -> None:
    position = position_of(tmp_path, segments)
    assert position == SourcePosition(f"news {CLOCK}", seen, 9)
    assert (with_log(position, 8).lsn, with_log(position, 11).lsn) == (9, 11)


def test_younger_segments_and_those_in_the_log_are_not_seen() -> None:
    position = SourcePosition("h", 30, 9)
    names = ["news/30", "p/1", "news/31", "wal/3/7", "wal/0/2021/7", "news/x", "news/1_0", "news/" + "1" * 250]
    assert [is_seen(name, position) for name in names] == [True, True, *[False] * 6]


@pytest.mark.parametrize(
    ("later", "follows"),
    [(("h", 30, 9), True), (("h", 31, 9), True), (("h", 31, 8), False), (("h", 29, 10), False), (("g", 31, 10), False)],
)
def test_an_older_copy_or_another_source_does_not_follow(later: tuple[str, int, int], follows: bool) -> None:
    position = SourcePosition("h", 30, 9)
    assert SourcePosition(*later).follows(position) == follows
    assert SourcePosition.parse(str(position)) == position
    assert SourcePosition.parse("4f2a") is SourcePosition.parse("") is None
