"""Damaged Faiss indexes: each gives a message with the file's name, and none crashes the process."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import (
    DamagedSourceError,
    RefusedRowsError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.faiss.segment import FaissOptions
from tests.support.faiss_inputs import inspect, make_index, write_index, write_on_disk
from tests.support.fuzzing import CASES, damaged_files, fuzz
from tests.support.reading import assert_in_order, read_rows

ROWS = 120
FLOATS = np.random.default_rng(1).standard_normal((ROWS, 16)).astype(np.float32)
BITS = np.random.default_rng(2).integers(0, 256, (ROWS, 4), np.uint8)
IDS = np.arange(ROWS) * 3
LOSSY = FaissOptions(allow_lossy=True)
KINDS = ("Flat", "IVF4,Flat", "HNSW8,Flat", "RR16,Flat", "IVF4,SQ8,RFlat", "SQ8", "PQ8x4", "IVF4,PQ8x4", "RQ4x4")
BINARY_KINDS = ("BFlat", "BIVF4", "BHNSW8")
NAME = "a.index"
MAPS = ("IDMap,Flat", "IDMap2,IVF4,Flat")


@cache
def whole(kind: str) -> bytes:
    vectors = BITS if kind in BINARY_KINDS else FLOATS
    with tempfile.TemporaryDirectory() as folder:
        index = make_index(kind, vectors, IDS if kind in MAPS else None)
        return write_index(Path(folder) / "a.index", index).read_bytes()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(DamagedSourceError) as fault:
        inspect(path, options=LOSSY)
    assert str(path) in str(fault.value)
    return str(fault.value)


@pytest.mark.parametrize("kind", [*KINDS, *BINARY_KINDS, *MAPS])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.999])
def test_a_truncated_index(tmp_path: Path, kind: str, share: float) -> None:
    content = whole(kind)
    path = written(tmp_path / "a.index", content[: int(len(content) * share)])
    assert "A damaged Faiss index" in refused(path)


@pytest.mark.parametrize("kind", [*KINDS, *BINARY_KINDS, *MAPS])
def test_an_index_without_its_last_bytes(tmp_path: Path, kind: str) -> None:
    for cut in range(1, 20):
        refused(written(tmp_path / "a.index", whole(kind)[:-cut]))


def test_an_index_that_lost_bytes_at_the_end_of_a_page(tmp_path: Path) -> None:
    """faiss would read the rest of an id from the next page, which doesn't exist."""
    path = tmp_path / "a.index"
    size = len(write_index(path, make_index("IVF1,Flat", np.zeros((60, 16), np.float32))).read_bytes())
    more = next(more for more in range(1000) if (size + more * 72) % mmap.PAGESIZE in range(1, 8))
    write_index(path, make_index("IVF1,Flat", np.zeros((60 + more, 16), np.float32)))
    os.truncate(path, path.stat().st_size // mmap.PAGESIZE * mmap.PAGESIZE)
    refused(path)


@pytest.mark.parametrize("content", [b"", b"Ix", b"IB"])
def test_a_file_of_few_bytes(tmp_path: Path, content: bytes) -> None:
    text = refused(written(tmp_path / "a.index", content))
    assert_in_order(text, ["at least a fourcc of 4 bytes", f"found {len(content)} bytes"])


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n", b"id,vector\n", b"IBnothing"])
def test_a_file_that_is_not_an_index(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "a.index", content * 100)
    with pytest.raises(UnsupportedSourceError) as fault:
        inspect(path)
    assert_in_order(str(fault.value), ["Not a Faiss index", str(path), "not recognized"])


def test_the_fourcc_of_a_missing_index(tmp_path: Path) -> None:
    path = written(tmp_path / "a.index", b"null")
    with pytest.raises(UnsupportedSourceError, match="No index in the file"):
        inspect(path)


@pytest.mark.parametrize("rows", [2**60, 2**40, -1])
def test_an_impossible_number_of_rows(tmp_path: Path, rows: int) -> None:
    content = whole("Flat")
    refused(written(tmp_path / "a.index", content[:8] + struct.pack("<q", rows) + content[16:]))


@pytest.mark.parametrize("dimension", [0, -4, 15, 2**31 - 1])
@pytest.mark.parametrize("kind", ["Flat", "PQ8x4", "IVF4,Flat"])
def test_an_impossible_dimension(tmp_path: Path, dimension: int, kind: str) -> None:
    content = whole(kind)
    path = written(tmp_path / "a.index", content[:4] + struct.pack("<i", dimension) + content[8:])
    with pytest.raises(DamagedSourceError):
        inspect(path, options=LOSSY)


def test_an_id_map_with_fewer_ids_than_rows(tmp_path: Path) -> None:
    index = make_index("IDMap,IVF4,Flat", FLOATS, IDS)
    inner = make_index("IVF4,Flat", FLOATS, IDS)
    index.index = inner
    inner.this.disown()
    group = inspect(write_index(tmp_path / "a.index", index))
    with pytest.raises(DamagedSourceError, match=r"labels from 0, below 120, found 80 others, the first"):
        resolve_group(group)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap,HNSW8,Flat"])
def test_nan_and_infinity(tmp_path: Path, kind: str, bad: float) -> None:
    vectors = FLOATS.copy()
    vectors[7, 3] = bad
    group = inspect(write_index(tmp_path / "a.index", make_index(kind, vectors, IDS)))
    with pytest.raises(RefusedRowsError, match=r"1 vectors .* hold NaN or infinity: .*a\.index.* ids 21\."):
        resolve_group(group)


def test_duplicate_ids(tmp_path: Path) -> None:
    ids = IDS.copy()
    ids[5] = ids[9]
    with pytest.raises(RefusedRowsError, match=r"id 27 in segments a\.index"):
        resolve_group(inspect(write_index(tmp_path / "a.index", make_index("IVF4,Flat", FLOATS, ids))))


def test_missing_lists_on_disk(tmp_path: Path) -> None:
    path = write_on_disk(tmp_path / "a.index", FLOATS, IDS)
    path.with_suffix(".ivfdata").unlink()
    with pytest.raises(SourceNotFoundError) as fault:
        inspect(path)
    assert_in_order(str(fault.value), ["inverted lists is gone", str(tmp_path / "a.ivfdata"), "Copy it there"])


def test_truncated_lists_on_disk(tmp_path: Path) -> None:
    path = write_on_disk(tmp_path / "a.index", FLOATS, IDS)
    lists = path.with_suffix(".ivfdata")
    os.truncate(lists, lists.stat().st_size - 1)
    with pytest.raises(DamagedSourceError) as fault:
        inspect(path)
    size = ROWS * (64 + 8)
    assert_in_order(str(fault.value), ["inverted lists does not match its index", str(lists), f"up to byte {size}"])
    os.truncate(lists, size)
    group = inspect(path)
    os.truncate(lists, 100)
    with pytest.raises(DamagedSourceError, match="found 100 bytes"):
        resolve_group(group)


def test_lists_on_disk_of_another_version_of_the_index(tmp_path: Path) -> None:
    """For example, a shard was created again with more rows, and only its lists were copied."""
    path = write_on_disk(tmp_path / "a.index", FLOATS[20:], IDS[20:])
    before = path.read_bytes()
    path.with_suffix(".ivfdata").unlink()
    [rows] = read_rows(resolve_group(inspect(write_on_disk(path, FLOATS, IDS))).units).values()
    assert len(rows) == ROWS
    path.write_bytes(before)
    with pytest.raises(DamagedSourceError) as fault:
        inspect(path)
    assert_in_order(
        str(fault.value), ["inverted lists does not match its index", "another index, or to another version"]
    )


def test_lists_on_disk_of_codes_are_read(tmp_path: Path) -> None:
    path = write_on_disk(tmp_path / "a.index", FLOATS, IDS, "IVF4,SQ8")
    [rows] = read_rows(resolve_group(inspect(path, options=LOSSY)).units).values()
    expected = dict(zip(IDS.tolist(), FLOATS, strict=True))
    assert max(np.abs(np.frombuffer(vector, np.float32) - expected[row_id]).max() for row_id, vector in rows) < 0.03


def test_the_file_of_lists_is_only_searched_beside_the_index(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = write_on_disk(tmp_path / "other" / "a.index", FLOATS, IDS)
    content = elsewhere.read_bytes()
    name = b"/where/it/was/made/a.ivfdata"
    assert content.count(name) == 1
    target = str(elsewhere.with_suffix(".ivfdata")).encode()
    position = content.index(name) - 8
    renamed = struct.pack("<Q", len(target)) + target
    path = written(tmp_path / "a.index", content[:position] + renamed + content[position + 8 + len(name) :])
    with pytest.raises(SourceNotFoundError, match=str(tmp_path / "a.ivfdata")):
        inspect(path)


def read(source: Path) -> None:
    read_rows(resolve_group(inspect(source / NAME, options=LOSSY)).units)


@pytest.mark.parametrize("cases", CASES)
def test_damaged_bytes_give_an_error_of_this_package_or_none(cases: int) -> None:
    indexes = [{NAME: whole(kind)} for kind in (*KINDS, *BINARY_KINDS, *MAPS)]
    fuzz(cases, damaged_files(indexes), indexes[0], read)
