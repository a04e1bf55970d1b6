"""HDF5 files that are refused before the target is touched, with the file, what is expected and what is found."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import (
    DamagedSourceError,
    RefusedRowsError,
    SourceError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.hdf5 import probe
from airflow_provider_milvusdm.sources.hdf5.file import refuse_damage
from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options, Hdf5Segment
from tests.support.hdf5_inputs import inspect, write_hdf5
from tests.support.reading import assert_in_order, read_rows

FLOATS = np.arange(24, dtype=np.float32).reshape(6, 4)
BITS = np.arange(24, dtype=np.uint8).reshape(6, 4)
IDS = np.arange(6) + 100
BLOSC = 32001
TEXT = h5py.string_dtype("utf-8")


def refused(path: Path, as_a: type[SourceError], **arguments: Any) -> str:
    """The message of inspecting, which names the file."""
    with pytest.raises(as_a) as fault:
        inspect(path, **arguments)
    assert str(path) in str(fault.value)
    return str(fault.value)


def refused_rows(path: Path, as_a: type[SourceError]) -> str:
    """The message of resolving, for a file that inspecting accepts."""
    group = inspect(path)
    with pytest.raises(as_a) as fault:
        resolve_group(group)
    return str(fault.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "No HDF5 file" in refused(tmp_path / "gone.h5", SourceNotFoundError)
    assert "No HDF5 file" in refused(tmp_path, SourceNotFoundError)


@pytest.mark.parametrize("content", [b"", b"\x89HDF", b"id,vector\n1,0.5\n" * 1000])
def test_a_file_that_is_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    text = refused(path, UnsupportedSourceError)
    assert_in_order(text, ["Not an HDF5 file", "the signature of HDF5", f"a file of {len(content)} bytes without it"])


def write_unwritten(path: Path, name: str, case: str) -> None:
    """A file whose writer was killed, or did not write all rows of this dataset."""
    data = {"embeddings": FLOATS, "ids": IDS}
    with h5py.File(path, "w") as file:
        for other in set(data) - {name}:
            file[other] = data[other]
        rows, chunks = data[name], (2, *data[name].shape[1:])
        if case == "virtual":
            file["half"] = rows[:3]
            layout = h5py.VirtualLayout(rows.shape, rows.dtype)
            layout[:3] = h5py.VirtualSource(".", "half", shape=rows[:3].shape)
            file.create_virtual_dataset(name, layout)
            return
        options = {"contiguous": {}, "packed": {"chunks": chunks, "compression": "gzip"}, "chunked": {"chunks": chunks}}
        dataset = file.create_dataset(name, rows.shape, rows.dtype, **options[case])
        if case != "contiguous":
            dataset[:3] = rows[:3]


@pytest.mark.parametrize("name", ["embeddings", "ids"])
@pytest.mark.parametrize(
    ("case", "found"),
    [("contiguous", "all"), ("chunked", "1 of 3 chunks"), ("packed", "1 of 3 chunks"), ("virtual", "")],
)
def test_rows_that_were_never_written(tmp_path: Path, name: str, case: str, found: str) -> None:
    path = tmp_path / "a.h5"
    write_unwritten(path, name, case)
    text = refused(path, DamagedSourceError)
    assert_in_order(text, [f"ows of dataset '/{name}' were never written", f"found {found}", "dataset[...]"])
    if case == "virtual":
        return
    with h5py.File(path, "a") as file:
        file[name][...] = file[name][...]
    if name == "embeddings":
        [rows] = read_rows(resolve_group(inspect(path)).units).values()
        assert len(rows) == len(IDS)


def virtual_twice(file: h5py.File) -> None:
    """Rows 2 and 3 are mapped twice, and the last one is not."""
    file["x"] = FLOATS
    layout, rows = h5py.VirtualLayout(FLOATS.shape, "f4"), h5py.VirtualSource(".", "x", FLOATS.shape)
    layout[:4], layout[2:5] = rows[:4], rows[2:5]
    file.create_virtual_dataset("embeddings", layout)


def virtual_over_unwritten(file: h5py.File) -> None:
    file.create_dataset("x", FLOATS.shape, "f4", chunks=(2, FLOATS.shape[1]))[:3] = FLOATS[:3]
    layout = h5py.VirtualLayout(FLOATS.shape, "f4")
    layout[:] = h5py.VirtualSource(".", "x", FLOATS.shape)
    file.create_virtual_dataset("embeddings", layout)


@pytest.mark.parametrize("make", [virtual_twice, virtual_over_unwritten])
def test_rows_of_a_virtual_dataset_that_were_never_written(tmp_path: Path, make: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    assert "were never written" in refused(tmp_path / "a.h5", DamagedSourceError)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS.repeat(100, axis=0)})
    os.truncate(path, int(path.stat().st_size * share))
    assert_in_order(refused(path, DamagedSourceError), ["A damaged HDF5 file", "truncated file", "Restore the file"])


def test_the_message_lists_the_datasets_if_embeddings_are_missing(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"train": FLOATS, "deep/vectors": FLOATS})
    text = refused(path, SourceNotFoundError)
    assert_in_order(text, ["No dataset 'embeddings'", "found 'deep/vectors', 'train'", "Name the right dataset"])
    assert "No dataset 'deep'" in refused(path, SourceNotFoundError, options=Hdf5Options(embeddings="deep"))
    assert "'train/x'" in refused(path, SourceNotFoundError, options=Hdf5Options(embeddings="train/x"))


@pytest.mark.parametrize("rows", [0, 5, 7])
def test_ids_and_vectors_that_do_not_match(tmp_path: Path, rows: int) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": np.arange(rows)})
    assert_in_order(refused(path, DamagedSourceError), ["dataset /ids", "6 ids, one for each vector", f"found {rows}"])


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (FLOATS[0], "shape (4,) of float32"),
        (FLOATS.reshape(2, 3, 4), "shape (2, 3, 4) of float32"),
        (np.float32(1), "shape () of float32"),
        (BITS[0], "shape (4,) of uint8"),
        (np.empty((0,), np.float32), "shape (0,) of float32"),
        (h5py.Empty("f4"), "shape None of float32"),
        (BITS.view("S4"), "shape (6, 1) of bytes of 4 length"),
        (np.array(["ab", "cd"], TEXT), "shape (2,) of text of any length"),
        (np.array(["ab", "cd"], h5py.string_dtype("utf-8", 4)), "shape (2,) of text of 4 length"),
        (np.array([b"ab", b"c"], h5py.string_dtype("ascii")), "shape (2,) of bytes of any length"),
        (np.zeros((6, 4), np.int64), "shape (6, 4) of int64"),
        (np.zeros((6, 4), np.int8), "shape (6, 4) of int8"),
        (np.zeros((6, 4), np.complex64), "shape (6, 4) of complex64"),
        (np.zeros((6, 4), np.longdouble), f"shape (6, 4) of {np.dtype(np.longdouble)}"),
        (np.zeros((6, 4), [("x", "f4"), ("y", "f4")]), "shape (6, 4) of [('x', '<f4'), ('y', '<f4')]"),
        (np.zeros((6, 4), h5py.enum_dtype({"NO": 0, "YES": 1}, "u1")), "shape (6, 4) of uint8"),
        (np.zeros((6, 2), "V4"), "shape (6, 2) of |V4"),
    ],
)
def test_a_dataset_that_does_not_hold_vectors(tmp_path: Path, data: Any, found: str) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": data})
    text = refused(path, UnsupportedSourceError)
    assert_in_order(text, ["doesn't hold vectors", "dataset /embeddings", "rows of float16, float32", found])


def test_objects_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("embeddings", (2,), h5py.vlen_dtype(np.float32))[:] = [FLOATS[0], FLOATS[1]]
    assert "shape (2,) of object" in refused(path, UnsupportedSourceError)


def test_a_type_that_numpy_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"embeddings", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((6, 4)))
    assert "has a type that can't be read" in refused(path, UnsupportedSourceError)


def test_vectors_without_dimensions(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": np.zeros((6, 0), np.float32)})
    assert_in_order(refused(path, DamagedSourceError), ["without dimensions", "at least one column", "shape (6, 0)"])


def test_bools_that_do_not_fill_bytes(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": np.zeros((6, 12), np.bool_)})
    assert_in_order(refused(path, UnsupportedSourceError), ["a multiple of 8 columns", "found 12 columns"])


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (IDS.astype(np.float64), "shape (6,) of float64"),
        (IDS.astype("S4"), "shape (6,) of |S4"),
        (IDS.reshape(6, 1), "shape (6, 1) of int64"),
        (IDS > 103, "shape (6,) of bool"),
        (h5py.Empty("i8"), "shape None of int64"),
    ],
)
def test_ids_that_are_not_one_integer_per_row(tmp_path: Path, ids: Any, found: str) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": ids})
    assert_in_order(refused(path, UnsupportedSourceError), ["doesn't hold ids", "dataset /ids", found])


def test_unsigned_ids_that_are_too_large_for_milvus(tmp_path: Path) -> None:
    ids = IDS.astype(np.uint64)
    ids[4:] = 2**63, 2**64 - 1
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS, "ids": ids})
    text = refused_rows(path, RefusedRowsError)
    assert_in_order(text, ["2 ids are too large", str(path), str(2**63 - 1), f"id {2**63}"])


def test_unsigned_ids_that_fit_are_read(tmp_path: Path) -> None:
    ids = np.array([0, 2**63 - 2], np.uint64)
    group = inspect(write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS[:2], "ids": ids}))
    assert [row_id for row_id, _ in read_rows(resolve_group(group).units)["news", "_default"]] == ids.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(tmp_path: Path, bad: float) -> None:
    vectors = FLOATS.copy()
    vectors[3, 2] = bad
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": vectors, "ids": IDS})
    assert_in_order(refused_rows(path, RefusedRowsError), ["1 vectors", "hold NaN or infinity", "a.h5", "ids 103"])


def test_numbers_that_do_not_fit_into_float32(tmp_path: Path) -> None:
    vectors = FLOATS.astype(np.float64)
    vectors[5, 0], vectors[0, 0] = -1e39, 1e-60
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": vectors, "ids": IDS})
    assert "numbers above 3.4e38 become infinity and are refused" in inspect(path).notes[1]
    text = refused_rows(path, RefusedRowsError)
    assert_in_order(text, ["1 vectors", "hold NaN or infinity", "ids 105"])


def test_duplicate_ids_over_several_files(tmp_path: Path) -> None:
    rows = {"a.h5": FLOATS, "b.h5": FLOATS + 1}
    paths = [write_hdf5(tmp_path / name, {"embeddings": vectors, "ids": IDS}) for name, vectors in rows.items()]
    with pytest.raises(RefusedRowsError, match="6 ids are on rows with different vectors"):
        resolve_group(inspect(paths))


@pytest.mark.parametrize("data", [np.random.default_rng(1).random((400, 16), np.float32), BITS.repeat(100, axis=0)])
def test_a_damaged_chunk(tmp_path: Path, data: np.ndarray) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": data}, chunks=(100, data.shape[1]), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["embeddings"].id.get_chunk_info(2)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(20))
    assert_in_order(refused_rows(path, DamagedSourceError), ["A damaged HDF5 file", str(path), "Can't", "Restore"])


def test_a_filter_that_is_not_installed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((6, 4))
        plan.set_filter(BLOSC, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((6, 4))
        h5py.h5d.create(file.id, b"embeddings", h5py.h5t.NATIVE_FLOAT, space, plan)
    assert_in_order(
        refused(path, UnsupportedSourceError), ["filter that is not installed", f"filter {BLOSC}", "h5repack"]
    )


Outside = Callable[[h5py.File, Path], None]


def external_link(file: h5py.File, other: Path) -> None:
    file["embeddings"] = h5py.ExternalLink(str(other), "/embeddings")


def soft_link_to_external(file: h5py.File, other: Path) -> None:
    file["away"] = h5py.ExternalLink(str(other), "/")
    file["embeddings"] = h5py.SoftLink("away/embeddings")


def endless_links(file: h5py.File, other: Path) -> None:
    file["embeddings"] = h5py.SoftLink("/again")
    file["again"] = h5py.SoftLink("/embeddings")


def raw_file(file: h5py.File, other: Path) -> None:
    file.create_dataset("embeddings", (6, 4), "f4", external=[(str(other), 0, 96)])


def virtual(source: str, name: str = "embeddings") -> Outside:
    def make(file: h5py.File, other: Path) -> None:
        layout = h5py.VirtualLayout((6, 4), "f4")
        layout[:] = h5py.VirtualSource(source or str(other), name, (6, 4))
        file.create_virtual_dataset("embeddings", layout)

    return make


def virtual_blocks(source: str) -> Outside:
    """A virtual dataset with a pattern, for which HDF5 searches files until one is missing."""

    def make(file: h5py.File, other: Path) -> None:
        unlimited = h5py.h5s.UNLIMITED
        space = h5py.h5s.create_simple((6, 4), (unlimited, 4))
        space.select_hyperslab((0, 0), (unlimited, 1), (6, 1), (6, 4))
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_virtual(space, source.encode(), b"block%b", h5py.h5s.create_simple((6, 4)))
        h5py.h5d.create(file.id, b"embeddings", h5py.h5t.NATIVE_FLOAT, space, plan)

    return make


def virtual_over_link(file: h5py.File, other: Path) -> None:
    file["away"] = h5py.ExternalLink(str(other), "/embeddings")
    virtual(".", "away")(file, other)


def virtual_over_raw_file(file: h5py.File, other: Path) -> None:
    file.create_dataset("raw", (6, 4), "f4", external=[(str(other), 0, 96)])
    virtual(".", "raw")(file, other)


@pytest.mark.parametrize(
    "make",
    [
        external_link,
        soft_link_to_external,
        endless_links,
        raw_file,
        virtual(""),
        virtual_blocks("%b.h5"),
        virtual_blocks("."),
        virtual(".", "gone"),
        virtual(".", "embeddings"),
        virtual_over_link,
        virtual_over_raw_file,
    ],
)
def test_rows_outside_the_file_are_not_followed(tmp_path: Path, make: Outside) -> None:
    other = write_hdf5(tmp_path / "other.h5", {"embeddings": FLOATS})
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        make(file, other)
    text = refused(path, UnsupportedSourceError)
    assert_in_order(text, ["leads out of its file", "rows inside the file", "other files are never opened"])


def test_ids_outside_the_file_are_not_followed(tmp_path: Path) -> None:
    other = write_hdf5(tmp_path / "other.h5", {"ids": IDS})
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    with h5py.File(path, "a") as file:
        file["ids"] = h5py.ExternalLink(str(other), "/ids")
    assert "Dataset 'ids' leads out of its file" in refused(path, UnsupportedSourceError)


def test_links_and_virtual_datasets_inside_the_file_are_followed(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"deep/er/vectors": FLOATS, "deep/keys": IDS})
    with h5py.File(path, "a") as file:
        file["deep/here"] = h5py.SoftLink("er")
        file["away"] = h5py.SoftLink("/deep/./here/vectors")
        file["ids"] = h5py.SoftLink("deep/keys")
        virtual(".", "away")(file, path)
    [rows] = read_rows(resolve_group(inspect(path)).units).values()
    assert rows == list(zip(IDS.tolist(), (vector.tobytes() for vector in FLOATS), strict=True))


def zero_free_space(content: bytearray) -> None:
    """Set the size of object 0, the free space of the global heap, to zero.

    A collection's objects begin 16 bytes behind its signature: index u16, reference count u16, 4 bytes, size u64,
    the data in multiples of 8. Source: HDF5 File Format Specification, III.E.
    """
    place = content.index(b"GCOL") + 16
    while int.from_bytes(content[place : place + 2], "little"):
        place += 16 + -(-int.from_bytes(content[place + 8 : place + 16], "little") // 8) * 8
    content[place + 8 : place + 16] = bytes(8)


def test_a_file_over_which_hdf5_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 1)
    path = write_hdf5(tmp_path / "a.h5", {"here": FLOATS})
    with h5py.File(path, "a") as file:
        virtual(".", "here")(file, path)
    content = bytearray(path.read_bytes())
    zero_free_space(content)
    path.write_bytes(content)
    text = refused(path, DamagedSourceError)
    assert_in_order(text, ["A damaged HDF5 file", "what HDF5 can read", "still reading after 1 s", "Restore"])


def test_a_file_over_which_hdf5_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    monkeypatch.setattr(Hdf5Segment, "has_ids", property(lambda _: os.kill(os.getpid(), signal.SIGKILL)))
    text = refused(path, DamagedSourceError)
    assert_in_order(text, ["A damaged HDF5 file", "what HDF5 can read", "crashed (SIGKILL)", "Restore"])


def test_a_locked_file_is_read(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert resolve_group(inspect(path)).partitions[0].live_rows == 6


def test_a_file_that_changed_since_it_was_inspected(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": FLOATS})
    group = inspect(path)
    write_hdf5(path, {"embeddings": FLOATS[:, :2]})
    with pytest.raises(DamagedSourceError, match=r"L2 vectors of dimension 4, found float vectors of dimension 2"):
        resolve_group(group)


def test_errors_of_the_system_are_left_to_a_retry(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), refuse_damage(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
