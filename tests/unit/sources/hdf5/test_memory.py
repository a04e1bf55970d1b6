"""Memory to read a large HDF5 file is bounded by the batch."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.support.hdf5_inputs import inspect
from tests.support.reading_memory import read_elsewhere

ROWS, DIMENSION = 600_000, 128
"""300 MB of vectors."""


@pytest.mark.slow
def test_a_compressed_file_is_read_with_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    part = np.random.default_rng(1).integers(0, 2, (ROWS // 20, DIMENSION)).astype(np.float32)
    with h5py.File(path, "w") as file:
        storage = {"compression": "gzip", "compression_opts": 1}
        dataset = file.create_dataset("embeddings", (ROWS, DIMENSION), np.float32, **storage)
        for start in range(0, ROWS, len(part)):
            dataset[start : start + len(part)] = part
    rows, peak = read_elsewhere(inspect(path))
    assert rows == ROWS
    assert peak < 200 << 20
