"""Whatever the bytes of an HDF5 file are, reading it ends well or with an error of this package."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.sources.resolve import resolve_group
from tests.tree_checksum import tree_checksum
from tests.unit.hdf5_inputs import inspect, write_hdf5
from tests.unit.reading import read_rows

FLOATS = np.random.default_rng(1).random((60, 8), np.float32)
BITS = np.arange(240, dtype=np.uint8).reshape(60, 4)
FILES = {
    "plain": (FLOATS, {}),
    "packed": (FLOATS, {"chunks": (10, 3), "compression": "gzip"}),
    "checked": (BITS, {"chunks": (10, 3), "compression": "lzf", "fletcher32": True}),
    "strings": (BITS.view("S4").ravel(), {}),
}


@cache
def whole(name: str) -> bytes:
    data, storage = FILES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = write_hdf5(Path(folder) / "a.h5", {"embeddings": data, "ids": np.arange(60)}, **storage)
        return path.read_bytes()


@st.composite
def damages(draw: st.DrawFn) -> bytes:
    content = bytearray(whole(draw(st.sampled_from(sorted(FILES)))))
    used = [position for position, byte in enumerate(content) if byte]
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.sampled_from(used))
        new = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8)]))
        content[position : position + len(new)] = new[: len(content) - position]
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damages())
def test_damaged_bytes_give_an_error_of_this_package_or_none(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(content)
        before = tree_checksum(Path(folder))
        with suppress(MilvusdmError):
            read_rows(resolve_group(inspect(path)).units)
        assert tree_checksum(Path(folder)) == before
