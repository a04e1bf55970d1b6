"""Whatever the bytes of a 1.x directory are, reading it succeeds or ends with an error of this package."""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import MilvusdmError, SourceError
from airflow_provider_milvusdm.manifests import to_json
from airflow_provider_milvusdm.rows.resolve import resolve_group
from tests.support.fuzzing import CASES, Files, damaged_files, fuzz, write
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import BACKUP, HAMMING, INDEX
from tests.support.reading import inspect, read_rows


@cache
def whole(*, leave_in_wal: bool) -> Files:
    """The files of a small, undamaged directory."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Milvus1xDirectory(Path(folder) / "milvus")
        news = directory.collection("news", dimension=4, engine=2, index_params='{"nlist":16}')
        faces = directory.collection("faces", dimension=16, metric=HAMMING)
        vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
        directory.segment(news, [1, -2, 2**62], vectors, deleted=[2, 0], segment_id="7", file_types=[INDEX, BACKUP])
        directory.segment(directory.partition(news, "新闻"), [5], vectors[:1], segment_id="8")
        directory.segment(faces, [1, 2], [[1, 0], [0, 0]], segment_id="9")
        directory.write(leave_in_wal=leave_in_wal)
        (directory.path / "wal" / "0.wal").write_bytes(struct.pack("<QBHHII4s", 25, 5, 4, 0, 0, 0, b"news"))
        (directory.path / "wal" / "mxlog.meta").write_bytes(struct.pack("<3Q", 0, 25, 25))
        paths = [path for path in sorted(directory.path.rglob("*")) if path.is_file() and path.name != "bloom_filter"]
        return {str(path.relative_to(directory.path)): path.read_bytes() for path in paths}


def read(source: Path) -> None:
    """Read what can be read of each collection; then raise the first fault."""
    faults = []
    for group in inspect(source):
        try:
            to_json(group)
            read_rows(resolve_group(group).units)
        except MilvusdmError as fault:
            faults.append(str(fault))
    if faults:
        raise SourceError("\n".join(faults))


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize("files", ["db/meta", "db/tables/", "wal/"], ids=["catalog", "segment", "log"])
def test_damaged_bytes_give_an_error_of_this_package_or_none(cases: int, files: str) -> None:
    directories = [whole(leave_in_wal=leave_in_wal) for leave_in_wal in (False, True)]
    fuzz(cases, damaged_files(directories, files), directories[0], read)


@pytest.mark.parametrize("leave_in_wal", [True, False])
def test_the_undamaged_directory_is_read(tmp_path: Path, leave_in_wal: bool) -> None:
    write(tmp_path, whole(leave_in_wal=leave_in_wal))
    rows = read_rows(unit for group in inspect(tmp_path) for unit in resolve_group(group).units)
    assert {where: [row_id for row_id, _ in found] for where, found in rows.items()} == {
        ("news", "_default"): [-2],
        ("news", "新闻"): [5],
        ("faces", "_default"): [1, 2],
    }
