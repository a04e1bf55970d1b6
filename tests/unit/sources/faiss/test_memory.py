"""Memory to read a large Faiss index is bounded by the batch, including the pages of the mapped file."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.support.faiss_inputs import inspect, write_index
from tests.support.reading_memory import read_elsewhere

ROWS, DIMENSION = 300_000, 128
"""150 MB of vectors."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Flat", "IDMap2,Flat", "IVF256,Flat"])
def test_an_index_is_read_with_bounded_memory(tmp_path: Path, kind: str) -> None:
    vectors = np.random.default_rng(1).random((ROWS, DIMENSION), np.float32)
    index = faiss.index_factory(DIMENSION, kind)
    if isinstance(index, faiss.IndexIVF):
        index.quantizer.add(vectors[:256])
        index.is_trained = True
    index.add_with_ids(vectors, np.arange(ROWS)) if kind != "Flat" else index.add(vectors)
    path = write_index(tmp_path / "a.index", index)
    del index, vectors
    rows, peak = read_elsewhere(inspect(path))
    assert rows == ROWS
    assert peak < 100 << 20
