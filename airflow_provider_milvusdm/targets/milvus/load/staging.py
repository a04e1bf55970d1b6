"""Column files of a bulk import: a folder for each partition, with a file ``<field>.npy`` for each field.

Source: https://milvus.io/docs/v2.3.x/bulk_insert.md and, for the format, ``numpy.lib.format``.
"""

from __future__ import annotations

import errno
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import ConfigurationError, ImportFailedError
from airflow_provider_milvusdm.model.collections import Slice, TargetCollection
from airflow_provider_milvusdm.model.rows import VectorBatch, rows_within
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.reader import empty_batch, read_keys, read_slices
from airflow_provider_milvusdm.targets.milvus.load.writer import addressed

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Columns: TypeAlias = dict[str, npt.NDArray[Any]]
FILE_BYTES = 16 << 30
"""Size of the largest file that a server accepts."""
BLOCK_BYTES = 8 << 20
"""Bytes sent to an object store at a time: a file in S3 has at most 10,000 such parts, and each is held in memory."""
FINAL_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL)
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""Errors of botocore and google.auth, which need not be installed."""


@dataclass(frozen=True)
class ImportStore:
    """Where the target reads files from: its object store, or its own disk.

    ``root``: a path on ``files``. ``bucket``: how many characters the server omits at the start of a path.
    """

    files: AbstractFileSystem
    root: str
    bucket: int = 0

    def remove(self, folder: str) -> None:
        """Remove a folder, if it exists."""
        with suppress(FileNotFoundError):
            self.files.rm(folder, recursive=True)

    def make(self, folder: str) -> None:
        """Create a folder; its root must exist, so that a mistake in its name does not create a bucket."""
        self.files.mkdir(folder, create_parents=False)

    def probe(self, folder: str) -> None:
        """Write a file as an import does, and remove it: ConfigurationError where none can be, now or later."""
        try:
            with suppress(PermissionError):  # to look at it may be forbidden, and to write into it allowed
                self.files.info(self.root.partition("/")[0] or self.root)  # else some servers make the bucket
            self.make(folder)
            self.files.pipe_file(f"{folder}/probe", b"milvusdm")
            self.files.rm(folder, recursive=True)
        except Exception as error:
            if not _is_final(error):
                raise
            raise ConfigurationError(
                "files for bulk imports can't be written and removed",
                where=folder,
                expected="a folder or bucket that is there, and the right to write and to delete in it",
                found=f"{type(error).__name__}: {error}",
                cure="Correct import_url in the connection, or the rights; or set load_method to insert.",
            ) from None

    def server_name(self, path: str) -> str:
        """The path as the server names it: relative to its bucket, or unchanged."""
        return path[self.bucket :]


def _is_final(error: Exception) -> bool:
    """Whether a retry would fail in the same way; not where a disk is full, or a store is away."""
    final = (FileNotFoundError, PermissionError)
    by_number = isinstance(error, OSError) and error.errno in FINAL_ERRORS
    return by_number or isinstance(error, final) or type(error).__name__ in NO_CREDENTIALS


@contextmanager
def _writing(folder: str) -> Iterator[None]:
    """Raise ImportFailedError for an OSError in the block: it is the store's, not the source's."""
    try:
        yield
    except OSError as error:
        raise ImportFailedError(
            "the files for a bulk import could not be written",
            where=folder,
            found=error,
            cure="A retry writes them again.",
        ) from error


@dataclass(frozen=True)
class StagedPartition:
    """Files of the rows that go to one partition.

    ``asked``: the job was requested. ``job``: its number; 0 as long as it is not known.
    """

    partition: str
    """Empty where the target has a partition key."""
    files: tuple[str, ...]
    """Paths as the server names them."""
    asked: bool = False
    job: int = 0


@dataclass(frozen=True)
class StagedUnit:
    partitions: tuple[StagedPartition, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    """Live rows by target partition, or by tag where that is the partition key."""


def stage_unit(
    unit: LoadUnit, target: TargetCollection, store: ImportStore, folder: str, progress: Callable[[int, int], None]
) -> StagedUnit:
    """Write the live rows of ``unit`` below ``folder``.

    ``progress`` is called with the stored rows done so far, and the live rows of the last batch. Raises
    ImportFailedError, or ConfigurationError where a file would be too large.
    """
    rows, layouts = _survey(unit, target)
    with _writing(folder):
        store.make(folder)
    staged, done = [], 0
    for number, (partition, layout) in enumerate(layouts.items()):
        with _ColumnFiles(store, f"{folder}/{number}", layout) as files:
            batches = read_slices(unit.source, unit.collection, layout.slices, rows_within(unit.collection))
            for end, tag, batch in batches:
                files.write(_addressed_columns(target, tag, batch)[1])
                progress(done + end, len(batch))
        staged.append(StagedPartition(partition, tuple(map(store.server_name, files.paths))))
        done += sum(row_slice.stored_rows for row_slice in layout.slices)
    return StagedUnit(tuple(staged), rows)


def _survey(unit: LoadUnit, target: TargetCollection) -> tuple[dict[str, int], dict[str, _Layout]]:
    """Live rows by tag, and the layout of each partition's files; reads no vectors."""
    rows, layouts = Counter[str](), defaultdict[str, _Layout](_Layout)
    for row_slice in unit.slices:
        live = sum(len(keys) for _, keys in read_keys(unit.source, unit.collection, row_slice))
        if live:
            partition, columns = _addressed_columns(
                target, row_slice.partition, empty_batch(unit.collection, row_slice)
            )
            rows[row_slice.partition] += live
            layouts[partition].add(row_slice, live, columns)
    return dict(rows), layouts


@dataclass
class _Layout:
    """The files of one partition: their slices, the number of rows, and the dtype and row shape of each field."""

    slices: list[Slice] = field(default_factory=list)
    rows: int = 0
    fields: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = field(default_factory=dict)

    def add(self, row_slice: Slice, rows: int, columns: Columns) -> None:
        """Add a slice with ``rows`` live rows of the dtypes and shapes of ``columns``."""
        for name, values in columns.items():
            known = self.fields[name][0] if name in self.fields else values.dtype
            self.fields[name] = np.promote_types(known, values.dtype), values.shape[1:]
        self.slices.append(row_slice)
        self.rows += rows


def _addressed_columns(target: TargetCollection, tag: str, batch: VectorBatch) -> tuple[str, Columns]:
    """The partition of a batch, and its values by field: arrays of shape (rows, ...)."""
    partition, batch = addressed(target, tag, batch)
    ids = {} if target.ids_by_target else {target.id_field: batch.ids}
    others = {
        name: np.full(len(batch), values) if isinstance(values, str) else values
        for name, values in batch.columns.items()
    }
    return partition, ids | {target.vector_field: batch.vectors} | others


class _ColumnFiles:
    """The files of one partition while they are written."""

    def __init__(self, store: ImportStore, folder: str, layout: _Layout) -> None:
        self.store, self.layout = store, layout
        self.folder = folder
        self.opened = ExitStack()
        self.files: dict[str, Any] = {}

    def __enter__(self) -> _ColumnFiles:
        with _writing(self.folder):
            self.store.make(self.folder)
            for name, (dtype, shape) in self.layout.fields.items():
                self._open(name, np.empty((0, *shape), dtype))
        return self

    def __exit__(self, *error: object) -> None:
        with _writing(self.folder):
            self.opened.close()

    @property
    def paths(self) -> list[str]:
        return [self._path(name) for name in self.layout.fields]

    def write(self, columns: Columns) -> None:
        for name, values in columns.items():
            dtype, _ = self.layout.fields[name]
            with _writing(self.folder):
                self.files[name].write(np.ascontiguousarray(values, dtype).reshape(-1).view("u1"))

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}.npy"

    def _open(self, name: str, empty: npt.NDArray[Any]) -> None:
        """Begin a file for rows with the dtype and shape of ``empty``, of shape (0, ...)."""
        shape = (self.layout.rows, *empty.shape[1:])
        if (size := math.prod(shape) * empty.itemsize) > FILE_BYTES:
            raise ConfigurationError(
                f"a load unit is too large for a bulk import: field {name!r} of {self.layout.rows} rows",
                expected=f"at most {FILE_BYTES} bytes",
                found=size,
                cure="Set unit_mib to less, or load_method to insert.",
            )
        opened = self.store.files.open(self._path(name), "wb", block_size=BLOCK_BYTES)
        file = self.files[name] = self.opened.enter_context(opened)
        header = np.lib.format.header_data_from_array_1_0(empty) | {"shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
