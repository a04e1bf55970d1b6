"""Sources of every kind that can be read but not written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.rows.resolve import resolve_group
from tests.support import faiss_inputs, hdf5_inputs, reading
from tests.support.faiss_inputs import make_index, write_index, write_on_disk
from tests.support.hdf5_inputs import write_hdf5
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_log import Log
from tests.support.reading import not_root, read_rows
from tests.support.tree_checksum import tree_checksum

VECTORS = np.random.default_rng(1).random((121, 8), np.float32)
IDS = np.arange(121) + 5


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def milvus1x(folder: Path, leave_in_wal: bool) -> Path:
    directory, log = Milvus1xDirectory(folder / "milvus"), Log(folder / "milvus" / "wal")
    directory.segment(directory.collection("news", dimension=8), IDS[:100].tolist(), VECTORS[:100], deleted=[2])
    log.insert("news", "", IDS[100:].tolist(), VECTORS[100:])
    log.write()
    return directory.write(leave_in_wal=leave_in_wal)


def inspect_milvus1x(path: Path) -> PartitionGroup:
    [group] = reading.inspect(path)
    return group


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Inside the block, everything below the folder can be read and nothing can be written."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with not_root():
            yield
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    ("write", "inspect"),
    [
        (lambda folder: milvus1x(folder, leave_in_wal=False), inspect_milvus1x),
        (lambda folder: milvus1x(folder, leave_in_wal=True), inspect_milvus1x),
        (lambda folder: write_hdf5(folder / "a.h5", {"embeddings": VECTORS, "ids": IDS}), hdf5_inputs.inspect),
        (lambda folder: write_index(folder / "a.index", make_index("IVF4,Flat", VECTORS, IDS)), faiss_inputs.inspect),
        (lambda folder: write_on_disk(folder / "a.index", VECTORS, IDS), faiss_inputs.inspect),
    ],
    ids=["Milvus 1.x", "Milvus 1.x, catalog not closed", "HDF5", "Faiss", "Faiss, lists of their own"],
)
def test_a_read_only_source_can_be_read(
    folder: Path, write: Callable[[Path], Path], inspect: Callable[[Path], PartitionGroup]
) -> None:
    path = write(folder)

    def read() -> Any:
        return read_rows(resolve_group(inspect(path)).units)

    rows, before = read(), tree_checksum(folder)
    with read_only(folder):
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        assert read() == rows
    assert tree_checksum(folder) == before
    assert sum(map(len, rows.values())) >= 120
