"""Names of segments: written and parsed, and told apart whatever a catalog says."""

from __future__ import annotations

import pytest

from airflow_provider_milvusdm.sources.milvus1x.segment_name import LogSegmentName, SegmentFolder, parse_segment_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("news/1614924431171826000", SegmentFolder("news", "1614924431171826000")),
        ("wal/7", SegmentFolder("wal", "7")),
        ("wal/0/_default", LogSegmentName(0, "_default")),
        ("wal/12/2021/03\nnews", LogSegmentName(12, "2021/03\nnews")),
    ],
)
def test_a_name_is_the_same_after_text(text: str, name: SegmentFolder | LogSegmentName) -> None:
    assert parse_segment_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize("text", ["", "news", "news/", "/7", "news/7/x", "news/../x", "wal/x/7", "ne ws/7", "新闻/7"])
def test_a_name_that_no_server_makes_is_not_valid(text: str) -> None:
    name = parse_segment_name(text)
    assert isinstance(name, SegmentFolder)
    assert not name.is_valid


@pytest.mark.parametrize(("segment_id", "begun"), [("30", 30), ("0", 0), ("1" * 20, None), ("1_0", None), ("x", None)])
def test_a_folder_tells_when_its_segment_was_begun(segment_id: str, begun: int | None) -> None:
    assert SegmentFolder("news", segment_id).begun == begun
