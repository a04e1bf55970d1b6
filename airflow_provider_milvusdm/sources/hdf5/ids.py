"""Ids of the rows of an HDF5 file: a dataset of integers, or row numbers."""

from __future__ import annotations

import h5py
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, UnsupportedSourceError
from airflow_provider_milvusdm.sources.hdf5.vectors import describe_dataset

Ids = npt.NDArray[np.int64]
NUMBER_ROWS = "or number the rows: ids_dataset: null."
HIGHEST = np.iinfo(np.int64).max


def check_ids(dataset: h5py.Dataset, rows: int) -> None:
    """Check that the dataset has an integer for each of ``rows`` vectors.

    Raises UnsupportedSourceError or DamagedSourceError.
    """
    if dataset.dtype.kind not in "iu" or dataset.shape is None or len(dataset.shape) != 1:
        raise UnsupportedSourceError(
            "a dataset that doesn't hold ids",
            where=describe_dataset(dataset),
            expected="one integer per row",
            found=f"shape {dataset.shape} of {dataset.dtype}",
            cure=f"Name another ids dataset, {NUMBER_ROWS}",
        )
    if len(dataset) != rows:
        raise DamagedSourceError(
            "ids and vectors of a file don't match",
            where=describe_dataset(dataset),
            expected=f"{rows} ids, one for each vector",
            found=f"{len(dataset)}",
            cure="Write the file again, or name the ids dataset that belongs to the vectors.",
        )


def read_ids(dataset: h5py.Dataset, start: int, stop: int) -> Ids:
    """Ids of rows ``start`` to ``stop``: int64 of shape (stop - start,). Raises RefusedRowsError."""
    ids: npt.NDArray[np.integer] = dataset[start:stop]
    if ids.dtype == np.uint64 and ids.size and ids.max() > HIGHEST:
        large = ids[ids > HIGHEST]
        raise RefusedRowsError(
            f"{large.size} ids are too large",
            where=describe_dataset(dataset),
            expected=f"ids up to {HIGHEST}: Milvus has signed 64-bit ids",
            found=f"uint64, for example id {large[0]}",
            cure="Give these rows other ids.",
        )
    return ids.astype(np.int64)


def number_rows(first: int, start: int, stop: int) -> Ids:
    """Row numbers ``start`` to ``stop`` as ids that start at ``first``: int64 of shape (stop - start,)."""
    return np.arange(first + start, first + stop, dtype=np.int64)
