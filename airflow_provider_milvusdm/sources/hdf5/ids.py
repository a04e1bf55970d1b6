"""Ids of the rows of an HDF5 file: a dataset of integers, or numbers counted on from the file's first one."""

from __future__ import annotations

import h5py
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, RefusedRowsError, UnsupportedSourceError
from airflow_provider_milvusdm.sources.hdf5.vectors import place

Ids = npt.NDArray[np.int64]
NUMBER_ROWS = "or number the rows: ids_dataset: null."
HIGHEST = np.iinfo(np.int64).max


def check_ids(dataset: h5py.Dataset, rows: int) -> None:
    """An integer for each of ``rows`` vectors."""
    if dataset.dtype.kind not in "iu" or dataset.shape is None or len(dataset.shape) != 1:
        raise UnsupportedSourceError(
            "a dataset that doesn't hold ids",
            where=place(dataset),
            expected="one integer a row",
            found=f"shape {dataset.shape} of {dataset.dtype}",
            cure=f"Name another ids dataset, {NUMBER_ROWS}",
        )
    if len(dataset) != rows:
        raise DamagedSourceError(
            "ids and vectors of a file are at odds",
            where=place(dataset),
            expected=f"{rows} ids, one for each vector",
            found=f"{len(dataset)}",
            cure="Write the file again, or name the ids dataset that belongs to the vectors.",
        )


def read_ids(dataset: h5py.Dataset, start: int, stop: int) -> Ids:
    """Ids of rows ``start`` to ``stop``, int64."""
    ids: npt.NDArray[np.integer] = dataset[start:stop]
    if ids.dtype == np.uint64 and ids.size and ids.max() > HIGHEST:
        large = ids[ids > HIGHEST]
        raise RefusedRowsError(
            f"{large.size} ids are too large",
            where=place(dataset),
            expected=f"ids up to {HIGHEST}: Milvus has signed ones of 64 bits",
            found=f"uint64, id {large[0]} for one",
            cure="Give these rows other ids.",
        )
    return ids.astype(np.int64)


def number_rows(first: int, start: int, stop: int) -> Ids:
    """Ids of rows ``start`` to ``stop`` of a file whose first row has id ``first``."""
    return np.arange(first + start, first + stop, dtype=np.int64)
