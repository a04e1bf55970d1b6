"""Memory to read Milvus 1.x is bounded by the batch, however the rows are spread over segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import inspect
from tests.support.reading_memory import read_elsewhere

ROWS, DIMENSION = 400_000, 128
"""200 MB of vectors."""


@pytest.mark.slow
@pytest.mark.parametrize("segments", [1, 400])
def test_a_directory_is_read_with_bounded_memory(tmp_path: Path, segments: int) -> None:
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=DIMENSION)
    vectors = np.random.default_rng(1).random((ROWS // segments, DIMENSION), np.float32)
    for number in range(segments):
        start = number * len(vectors)
        directory.segment(news, range(start, start + len(vectors)), vectors, deleted=[0], segment_id=str(number))
    [group] = inspect(directory.write())
    rows, peak = read_elsewhere(group)
    assert rows == ROWS - segments
    assert peak < 100 << 20
