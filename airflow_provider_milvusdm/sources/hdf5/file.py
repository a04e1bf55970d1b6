"""Open an HDF5 file and find its datasets; nothing that leads out of the file is followed.

A hard link points to an object of the same file, a soft link to a path, an external link to another file. The values of
a dataset can be elsewhere, too: in raw files (external storage), or in other datasets (a virtual dataset). Source: "The
HDF5 library and file format", the chapters on groups and on datasets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py

from airflow_provider_milvusdm.exceptions import (
    DamagedSourceError,
    MilvusdmError,
    SourceNotFoundError,
    UnsupportedSourceError,
)
from airflow_provider_milvusdm.storage.paths import AnyPath

NO_SIGNATURE = "file signature not found"
"""What HDF5 says of a file that is not an HDF5 file."""
CHUNK_CACHE_BYTES = 32 << 20
"""Unpacked chunks are kept for the next batch; with the chunk sizes that h5py chooses, a batch needs less than 10 MiB.
"""
CHUNK_CACHE_SLOTS = 10_007
MAX_LINKS = 16
EXAMPLES = 20
CURE = "Restore the file from a backup or write it again."
CURE_OUTSIDE = "Copy the rows into a dataset of this file (with h5copy or h5repack); other files are never opened."


def open_hdf5(path: AnyPath) -> h5py.File:
    """Open a file without a lock: read-only mounts have no locks, and nobody else has to wait.

    Raises SourceNotFoundError, UnsupportedSourceError or DamagedSourceError.
    """
    if not path.is_file():
        found = "something else" if isinstance(path, Path) and path.exists() else "none"
        raise SourceNotFoundError("no HDF5 file", where=path, expected="a file", found=found)
    with refuse_damage(path):
        try:
            return h5py.File(
                _openable(path), "r", locking=False, rdcc_nbytes=CHUNK_CACHE_BYTES, rdcc_nslots=CHUNK_CACHE_SLOTS
            )
        except OSError as error:
            if NO_SIGNATURE not in str(error):
                raise
            raise UnsupportedSourceError(
                "not an HDF5 file",
                where=path,
                expected="the signature of HDF5",
                found=f"a file of {path.stat().st_size} bytes without it",
                cure="Name only HDF5 files.",
            ) from None


def _openable(path: AnyPath) -> Path | BinaryIO:
    """What h5py can open. A local file is opened here first, because h5py doesn't raise a PermissionError."""
    if isinstance(path, Path):
        with path.open("rb"):
            return path
    return path.open("rb")


@contextmanager
def refuse_damage(path: AnyPath) -> Iterator[None]:
    """Raise DamagedSourceError for errors of HDF5; errors of the system (with an errno) are raised as they are."""
    try:
        yield
    except MilvusdmError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, OSError) and (error.errno or "errno = " in str(error)):
            raise
        raise DamagedSourceError(
            "a damaged HDF5 file", where=path, expected="what HDF5 can read", found=error, cure=CURE
        ) from error


def has_name(file: h5py.File, name: str) -> bool:
    """Whether there is a link with this name, even if it points to nothing."""
    folder, _, last = name.rstrip("/").rpartition("/")
    return _link_kind(_walk(file, folder), last) is not None


def require_dataset(file: h5py.File, name: str, cure: str = "Name the right dataset.") -> h5py.Dataset:
    """The dataset with this name, ``a`` or ``/group/a``.

    Raises SourceNotFoundError; UnsupportedSourceError if its values are outside the file, or of a type or behind a
    filter that can't be read; DamagedSourceError if values are missing.
    """
    node = _walk(file, name)
    if not isinstance(node, h5py.Dataset):
        raise SourceNotFoundError(
            f"no dataset {name!r}",
            where=file.filename,
            expected=f"a dataset {name!r}",
            found=_describe_other(file, name, node) + (", ".join(_list_datasets(file)) or "no dataset at all"),
            cure=cure,
        )
    _refuse_outside(file, node)
    _refuse_unknown_filters(file, node)
    _refuse_unknown_type(file, node)
    _refuse_unwritten(file, node)
    return node


def _describe_other(file: h5py.File, name: str, node: h5py.HLObject | None) -> str:
    """What has the name of the missing dataset; the message goes on with the datasets that exist."""
    if node is None:
        return "a link to nothing, and " if has_name(file, name) else ""
    return f"{'a group' if isinstance(node, h5py.Group) else 'a type'} of this name, and "


def _walk(file: h5py.File, name: str) -> h5py.HLObject | None:
    """Follow hard links, and soft links inside the file, one step at a time; None if the path doesn't exist."""
    node, steps, links = file, name.split("/")[::-1], 0
    while steps:
        step = steps.pop()
        if step in ("", "."):
            continue
        kind = _link_kind(node, step)
        if kind == h5py.h5l.TYPE_HARD:
            node = node[step]
        elif kind == h5py.h5l.TYPE_SOFT and links < MAX_LINKS:
            links += 1
            target = node.id.links.get_val(step.encode()).decode()
            steps += target.split("/")[::-1]
            node = file if target.startswith("/") else node
        elif kind is None:
            return None
        else:
            raise _outside(file, name, f"{step!r}, which is an external link or a circle of links")
    return node


def _link_kind(node: h5py.HLObject | None, step: str) -> int | None:
    links = node.id.links if isinstance(node, h5py.Group) else None
    return links.get_info(step.encode()).type if links and links.exists(step.encode()) else None


def _refuse_outside(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Refuse values in raw files and in datasets of other files; looking at the dataset's properties opens no file."""
    created = dataset.id.get_create_plist()
    if created.get_external_count():
        raise _outside(file, dataset.name, "external storage in raw files")
    if created.get_layout() != h5py.h5d.VIRTUAL:
        return
    for number in range(created.get_virtual_count()):
        other, name = created.get_virtual_filename(number), created.get_virtual_dsetname(number)
        inner = _walk(file, name) if other == "." and "%" not in name else None
        if not isinstance(inner, h5py.Dataset) or inner.is_virtual:
            raise _outside(file, dataset.name, f"a virtual dataset of {other}:{name}")
        _refuse_outside(file, inner)


def _outside(file: h5py.File, name: str, found: str) -> UnsupportedSourceError:
    return UnsupportedSourceError(
        f"dataset {name!r} leads out of its file",
        where=file.filename,
        expected="rows inside the file",
        found=found,
        cure=CURE_OUTSIDE,
    )


def _refuse_unknown_filters(file: h5py.File, dataset: h5py.Dataset) -> None:
    created = dataset.id.get_create_plist()
    for number in range(created.get_nfilters()):
        code, _, _, name = created.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise UnsupportedSourceError(
                f"dataset {dataset.name!r} is compressed with a filter that is not installed",
                where=file.filename,
                expected="gzip, lzf, or no compression",
                found=f"filter {code} ({name.decode(errors='replace')})",
                cure="Install its HDF5 plugin (hdf5plugin), or rewrite the file: h5repack -f GZIP=1 FILE NEW.",
            )


def _refuse_unknown_type(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Refuse types that NumPy doesn't have, such as bit fields and times."""
    try:
        _ = dataset.dtype
    except TypeError as error:
        raise UnsupportedSourceError(
            f"dataset {dataset.name!r} has a type that can't be read",
            where=file.filename,
            expected="numbers, or bytes of a fixed length",
            found=error,
            cure="Name another dataset, or rewrite the file.",
        ) from None


def _refuse_unwritten(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Refuse rows that were never written, as a killed writer leaves them: HDF5 reads the fill value, mostly zeros."""
    unwritten = _unwritten(file, dataset)
    if unwritten:
        raise DamagedSourceError(
            f"rows of dataset {dataset.name!r} were never written",
            where=file.filename,
            expected="a value for every row",
            found=f"{unwritten} without a value: HDF5 reads them as {dataset.fillvalue}",
            cure="Write the file again. If that value is right, write it: dataset[...] = dataset[...] in h5py.",
        )


def _unwritten(file: h5py.File, dataset: h5py.Dataset) -> str:
    """Which part of the dataset has no storage in the file; a compact dataset always has."""
    created = dataset.id.get_create_plist()
    if not dataset.size or created.get_layout() == h5py.h5d.COMPACT:
        return ""
    if dataset.is_virtual:
        unmapped = dataset.size - _mapped(dataset)
        inner = {created.get_virtual_dsetname(number) for number in range(created.get_virtual_count())}
        parts = (_unwritten(file, _walk(file, name)) for name in sorted(inner))
        return f"{unmapped} values of {dataset.size}" if unmapped else next(filter(None, parts), "")
    if dataset.chunks is None:
        return "all" if dataset.id.get_offset() is None else ""
    expected = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    found = dataset.id.get_num_chunks()
    return f"{expected - found} of {expected} chunks" if found < expected else ""


def _mapped(dataset: h5py.Dataset) -> int:
    """Number of values of a virtual dataset that are mapped to other datasets; values mapped twice count once."""
    created, mapped = dataset.id.get_create_plist(), dataset.id.get_space()
    mapped.select_none()
    for number in range(created.get_virtual_count()):
        space = created.get_virtual_vspace(number)
        if space.get_select_type() == h5py.h5s.SEL_ALL:
            return int(dataset.size)
        for start, stride, count, block in _slabs(space):
            mapped.select_hyperslab(start, count, stride, block, op=h5py.h5s.SELECT_OR)
    return int(mapped.get_select_npoints())


def _slabs(space: h5py.h5s.SpaceID) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The selection as hyperslabs (start, stride, count, block): a single one if it is regular."""
    if space.is_regular_hyperslab():
        yield space.get_regular_hyperslab()
        return
    for first, last in space.get_select_hyper_blocklist():
        once = (1,) * len(first)
        yield tuple(first), once, once, tuple(last - first + 1)


def _list_datasets(file: h5py.File) -> list[str]:
    names: list[str] = []

    def visit(name: str, node: h5py.HLObject) -> bool | None:
        if isinstance(node, h5py.Dataset):
            names.append(repr(name))
        return len(names) >= EXAMPLES or None

    file.visititems(visit)  # follows hard links only
    return names
