"""Vectors with NaN or infinity: Milvus 1.x accepted them, a Milvus 2.x server refuses the whole batch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.collections import CollectionSpec
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.rows.live_rows import NO_IDS, LiveRows, join_ranges, range_of

if TYPE_CHECKING:
    import h5py

    from airflow_provider_milvusdm.storage.hdf5_output import Output

NAME_BYTES = 200


def find_invalid(rows: LiveRows) -> Iterator[tuple[npt.NDArray[np.int64], VectorBatch]]:
    """Offsets (int64) and rows of a segment whose vectors are not all finite, in batches; bits always are.

    All rows are counted in their key ranges, and the lowest and the highest id of the others is noted.
    """
    found = NO_IDS
    for start, stop, batch in rows.vectors():
        if np.isfinite(batch.vectors).all():
            found = join_ranges([found, range_of(batch.ids)])
            continue
        invalid = np.logical_not(np.isfinite(batch.vectors).all(axis=1))
        found = join_ranges([found, range_of(batch.ids[~invalid])])
        yield rows.offsets(start, stop, invalid), batch.where(invalid)
    rows.id_range = found


class SkippedRows:
    """An HDF5 file of excluded rows.

    Datasets: ``ids``, int64 of shape (rows,); ``embeddings``, float32 of shape (rows, dimension); ``segment``, text of
    shape (rows,); ``offset``, int64 of shape (rows,): the number of the stored row in its segment.
    """

    def __init__(self, path: Path, file: h5py.File, output: Output, dimension: int) -> None:
        import h5py

        self.path, self.file, self.output, self.rows = path, file, output, 0
        for name, dtype in (("ids", "<i8"), ("segment", h5py.string_dtype()), ("offset", "<i8")):
            file.create_dataset(name, (0,), dtype, maxshape=(None,))
        file.create_dataset("embeddings", (0, dimension), "<f4", maxshape=(None, dimension))

    def add(self, segment: str, offsets: npt.NDArray[np.int64], batch: VectorBatch) -> None:
        """Append rows of a segment; ``offsets``: their numbers, int64 of shape (rows,)."""
        start, self.rows = self.rows, self.rows + len(batch)
        columns = {"ids": batch.ids, "embeddings": batch.vectors, "segment": segment, "offset": offsets}
        for name, values in columns.items():
            self.file[name].resize(self.rows, axis=0)
            self.file[name][start:] = values
        self.output.check()


class CountedRows:
    """Counts excluded rows in a dry run, without a file."""

    path = None

    def __init__(self) -> None:
        self.rows = 0

    def add(self, segment: str, offsets: npt.NDArray[np.int64], batch: VectorBatch) -> None:
        self.rows += len(batch)


@contextmanager
def skipped_rows(
    folder: str, collection: CollectionSpec, tag: str, share: int | None = None
) -> Iterator[SkippedRows | CountedRows]:
    """Write ``<folder>/<collection>/<partition>.h5``; the file gets this name when it is complete, if it has rows.

    Without a folder, the rows are only counted. The rows of a ``share`` of a partition are in a file of their own,
    ``<partition>.<share>.h5``. Raises TargetError if the disk is full.
    """
    if not folder:
        yield CountedRows()
        return
    from airflow_provider_milvusdm.storage.hdf5_output import begin_part, create_hdf5

    number = "" if share is None else f".{share}"
    path = Path(folder, _file_name(collection.name), f"{_file_name(tag)}{number}.h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = begin_part(path)
    try:
        with create_hdf5(part, f"the excluded rows of {collection.name}/{tag}") as (file, output):
            file.attrs.update({"collection": collection.name, "partition": tag.replace("\0", "%00")})
            rows = SkippedRows(path, file, output, collection.dimension)
            yield rows
        if rows.rows:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _file_name(name: str) -> str:
    """A name without characters that a file's name can't have, and not too long for one."""
    safe = re.sub(r"[^\w-]", lambda other: "".join(f"%{byte:02X}" for byte in other[0].encode()), name)
    if len(safe.encode()) <= NAME_BYTES:
        return safe
    return f"{safe[:40]}-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
