"""Whatever the bytes of an HDF5 file are, reading it succeeds or ends with an error of this package."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.hdf5 import probe
from tests.support.fuzzing import CASES, Files, damaged_files, fuzz, unread
from tests.support.hdf5_inputs import inspect, write_hdf5
from tests.support.reading import read_rows

NAME = "a.h5"
FLOATS = np.random.default_rng(1).random((60, 8), np.float32)
BITS = np.arange(240, dtype=np.uint8).reshape(60, 4)
STORED = {
    "plain": (FLOATS, {}),
    "packed": (FLOATS, {"chunks": (10, 3), "compression": "gzip"}),
    "checked": (BITS, {"chunks": (10, 3), "compression": "lzf", "fletcher32": True}),
    "strings": (BITS.view("S4").ravel(), {}),
}


@cache
def virtual(source: str) -> Files:
    """Vectors in another dataset, and text of any length: both use the global heap."""
    layout = h5py.VirtualLayout(FLOATS.shape, "f4")
    layout[:] = h5py.VirtualSource(source, "rows", FLOATS.shape)
    with h5py.File.in_memory() as file:
        file["rows"] = FLOATS
        file.create_virtual_dataset("embeddings", layout)
        file.attrs["distance"] = "euclidean"
        file.flush()
        return {NAME: file.id.get_file_image()}


@cache
def whole(name: str) -> Files:
    data, storage = STORED[name]
    with tempfile.TemporaryDirectory() as folder:
        path = write_hdf5(Path(folder) / NAME, {"embeddings": data, "ids": np.arange(60)}, **storage)
        return {NAME: path.read_bytes()}


def read(source: Path) -> None:
    read_rows(resolve_group(inspect(source / NAME)).units)


def leading_outside(other: Path) -> list[Files]:
    """Files whose rows are in another file, each in a different way."""
    ways: list[Callable[[h5py.File], object]] = [
        lambda file: file.__setitem__("embeddings", h5py.ExternalLink(str(other), "/embeddings")),
        lambda file: file.create_dataset("embeddings", FLOATS.shape, "f4", external=[(str(other), 0, FLOATS.nbytes)]),
    ]
    found = [virtual(str(other))]
    for leave in ways:
        with h5py.File.in_memory() as file:
            leave(file)
            file.flush()
            found.append({NAME: file.id.get_file_image()})
    return found


@pytest.mark.parametrize("cases", CASES)
def test_damaged_bytes_give_an_error_of_this_package_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: int
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 2)
    other = write_hdf5(tmp_path / "b.h5", {"embeddings": FLOATS, "rows": FLOATS})
    files = [*map(whole, STORED), virtual("."), *leading_outside(other)]
    with unread(tmp_path):
        fuzz(cases, damaged_files(files), files[0], read)
