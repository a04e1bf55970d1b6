"""Row numbers: the names of numbered segments."""

from __future__ import annotations

import pytest

from airflow_provider_milvusdm.sources.row_numbers import numbered_segment, parse_numbered_segment


@pytest.mark.parametrize(("file", "first_id"), [("a.h5", 0), ("x/b@2.h5", -7), ("@", 2**62)])
def test_a_numbered_segment_is_the_same_after_text(file: str, first_id: int) -> None:
    assert parse_numbered_segment(numbered_segment(file, first_id)) == (file, first_id)
