"""How the rows of an HDF5 dataset become vectors, depending on its rank and type.

MilvusDM writes a matrix, of uint8 for binary vectors. In its example, a binary vector is a string of fixed length
(``S64`` for 512 bits); trailing zero bytes are part of the vector. Source: MilvusDM's ``core/save_data.py``,
``core/read_data.py`` and ``examples/``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, UnsupportedSourceError

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
SUPPORTED = (
    "rows of float16, float32 or float64; of uint8 (8 bits each) or bool; or strings of fixed length, one per vector"
)
CURE = "Write the vectors in one of these forms, or name another dataset."
NOTES = {
    2: "float16 was converted to float32, exactly",
    4: "",
    8: "float64 was rounded to float32, which Milvus holds; numbers above 3.4e38 become infinity and are refused",
}
"""What reading floats changes, by the bytes of a number."""


@dataclass(frozen=True)
class VectorLayout:
    """How the vectors of a dataset are read."""

    dimension: int
    is_binary: bool
    read: Callable[[h5py.Dataset, int, int], Vectors]
    """``read(dataset, start, stop)``: float32 of shape (rows, dimension), or uint8 of shape (rows, dimension / 8)."""
    note: str = ""
    """What reading changes."""


def vector_layout(dataset: h5py.Dataset) -> VectorLayout:
    """The layout of a dataset. Raises UnsupportedSourceError or DamagedSourceError if it holds no vectors."""
    kind, shape = dataset.dtype.kind, dataset.shape
    if kind == "S" and _rank(shape) == 1 and _is_bytes(dataset):
        return VectorLayout(dataset.dtype.itemsize * 8, True, _read_strings)
    if _rank(shape) != 2 or not _is_numeric(dataset.dtype):
        raise _unsupported(dataset)
    if not shape[1]:
        raise DamagedSourceError(
            "vectors without dimensions",
            where=describe_dataset(dataset),
            expected="at least one column",
            found=f"shape {shape}",
        )
    if kind == "f":
        return VectorLayout(shape[1], False, _read_floats, NOTES[dataset.dtype.itemsize])
    if kind == "u":
        note = f"uint8 was read as bits: {shape[1]} columns are {shape[1] * 8} dimensions"
        return VectorLayout(shape[1] * 8, True, _read_bytes, note)
    if shape[1] % 8:
        raise UnsupportedSourceError(
            "bool vectors that don't fill whole bytes",
            where=describe_dataset(dataset),
            expected="a multiple of 8 columns: Milvus has no other binary vectors",
            found=f"{shape[1]} columns",
            cure="Pad the vectors with false.",
        )
    return VectorLayout(shape[1], True, _read_bools, "bool was packed into bits, the first column is the highest bit")


def describe_layout(layout: VectorLayout) -> str:
    """What kind of vectors these are, for a message."""
    return f"{'binary' if layout.is_binary else 'float'} vectors of dimension {layout.dimension}"


def describe_dataset(dataset: h5py.Dataset) -> str:
    """File and name of a dataset, for a message."""
    return f"{dataset.file.filename}, dataset {dataset.name}"


def _rank(shape: tuple[int, ...] | None) -> int:
    return -1 if shape is None else len(shape)


def _is_bytes(dataset: h5py.Dataset) -> bool:
    """Whether strings are bytes and not text: NumPy's ``S``, which MilvusDM uses, is stored as ASCII."""
    return bool(dataset.id.get_type().get_cset() == h5py.h5t.CSET_ASCII)


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    if h5py.check_enum_dtype(dtype):
        return False
    return (dtype.kind == "f" and dtype.itemsize in NOTES) or dtype == np.uint8 or dtype == np.bool_


def _unsupported(dataset: h5py.Dataset) -> UnsupportedSourceError:
    return UnsupportedSourceError(
        "a dataset that doesn't hold vectors",
        where=describe_dataset(dataset),
        expected=SUPPORTED,
        found=f"shape {dataset.shape} of {_type_name(dataset)}",
        cure=CURE,
    )


def _type_name(dataset: h5py.Dataset) -> str:
    text = h5py.check_string_dtype(dataset.dtype)
    if text is not None:
        return f"{'text' if text.encoding == 'utf-8' else 'bytes'} of {text.length or 'any'} length"
    return str(dataset.dtype)


def _read_floats(dataset: h5py.Dataset, start: int, stop: int) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinity is found when vectors are checked
        return np.ascontiguousarray(dataset[start:stop], np.float32)


def _read_bytes(dataset: h5py.Dataset, start: int, stop: int) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(dataset[start:stop], np.uint8)


def _read_bools(dataset: h5py.Dataset, start: int, stop: int) -> npt.NDArray[np.uint8]:
    return np.packbits(dataset[start:stop], axis=1)


def _read_strings(dataset: h5py.Dataset, start: int, stop: int) -> npt.NDArray[np.uint8]:
    """Read the bytes of strings as they are in the file: NumPy would drop what follows the first zero byte."""
    rows = np.empty((stop - start, dataset.dtype.itemsize), np.uint8)
    if len(rows):
        stored = dataset.id.get_space()
        stored.select_hyperslab((start,), (stop - start,))
        dataset.id.read(h5py.h5s.create_simple((stop - start,)), stored, rows, mtype=dataset.id.get_type())
    return rows
