"""An HDF5 file, opened to be read, and the datasets in it; nothing that leads out of the file is followed.

Links: a hard link names an object of the same file, a soft link a path, an external link another file. A dataset's
values may stand elsewhere too: in raw files (external storage) or in other datasets (a virtual dataset). Source: "The
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
"""HDF5's words for a file that is none of its own."""
CHUNK_CACHE_BYTES = 32 << 20
"""Unpacked chunks kept for the next batch; h5py makes them so that a batch's are below 10 MiB."""
CHUNK_CACHE_SLOTS = 10_007
MAX_LINKS = 16
EXAMPLES = 20
CURE = "Restore the file from a backup or write it again."
CURE_OUTSIDE = "Copy the rows into a dataset of this file (h5copy and h5repack do); other files are never opened."


def open_hdf5(path: AnyPath) -> h5py.File:
    """Open a file without locking it: a read-only mount has no locks to give, and nobody is kept from it."""
    if not path.is_file():
        raise SourceNotFoundError("no HDF5 file", where=path, expected="a file", found="none")
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
                cure="Name HDF5 files alone.",
            ) from None


def _openable(path: AnyPath) -> Path | BinaryIO:
    """What h5py opens; the system says when a file may not be read, as h5py does not."""
    if isinstance(path, Path):
        with path.open("rb"):
            return path
    return path.open("rb")


@contextmanager
def refuse_damage(path: AnyPath) -> Iterator[None]:
    """What HDF5 can't make sense of is damage; what the system refused it (errno) a retry may mend."""
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
    """Whether anything is called so, be it no more than a link to nothing."""
    folder, _, last = name.rstrip("/").rpartition("/")
    return _link_kind(_walk(file, folder), last) is not None


def require_dataset(file: h5py.File, name: str, cure: str = "Name the dataset that is meant.") -> h5py.Dataset:
    """The dataset of this name, ``a`` or ``/group/a``, which must be there; refused where it leaves the file."""
    found = _walk(file, name)
    if not isinstance(found, h5py.Dataset):
        raise SourceNotFoundError(
            f"no dataset {name!r}",
            where=file.filename,
            expected=f"a dataset {name!r}",
            found=_kind_of_other(file, name, found) + (", ".join(_dataset_names(file)) or "no dataset at all"),
            cure=cure,
        )
    _refuse_outside(file, found)
    _refuse_unknown_filters(file, found)
    _refuse_unknown_type(file, found)
    _refuse_unwritten(file, found)
    return found


def _kind_of_other(file: h5py.File, name: str, found: h5py.HLObject | None) -> str:
    """What is called so, in front of the names of the datasets that there are."""
    if found is None:
        return "a link to nothing, and " if has_name(file, name) else ""
    return f"{'a group' if isinstance(found, h5py.Group) else 'a type'} of this name, and "


def _walk(file: h5py.File, name: str) -> h5py.HLObject | None:
    """Follow hard links, and soft links inside the file, one step at a time."""
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
            raise _outside(file, name, f"{step!r} leads elsewhere: an external link, or links without end")
    return node


def _link_kind(node: h5py.HLObject | None, step: str) -> int | None:
    links = node.id.links if isinstance(node, h5py.Group) else None
    return links.get_info(step.encode()).type if links and links.exists(step.encode()) else None


def _refuse_outside(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Values in raw files, or in datasets of other files. Neither is opened by looking at what the dataset says."""
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
        f"dataset {name!r} leaves its file",
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
                f"dataset {dataset.name!r} is packed by a filter that is not here",
                where=file.filename,
                expected="gzip, lzf, or no compression",
                found=f"filter {code} ({name.decode(errors='replace')})",
                cure="Install its HDF5 plugin (hdf5plugin), or write the file anew: h5repack -f GZIP=1 FILE NEW.",
            )


def _refuse_unknown_type(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Bit fields, times: what NumPy has no type for."""
    try:
        _ = dataset.dtype
    except TypeError as error:
        raise UnsupportedSourceError(
            f"dataset {dataset.name!r} is of a type that is not read",
            where=file.filename,
            expected="numbers, or bytes of a fixed length",
            found=error,
            cure="Name another dataset, or write the file anew.",
        ) from None


def _refuse_unwritten(file: h5py.File, dataset: h5py.Dataset) -> None:
    """Rows that nobody wrote are read as the fill value, zeros mostly: a writer that was killed leaves such."""
    unwritten = _unwritten(file, dataset)
    if unwritten:
        raise DamagedSourceError(
            f"rows of dataset {dataset.name!r} were never written",
            where=file.filename,
            expected="a value for every row",
            found=f"{unwritten} without any: HDF5 reads them as {dataset.fillvalue}",
            cure="Write the file again. If that value is meant, write it: dataset[...] = dataset[...] in h5py.",
        )


def _unwritten(file: h5py.File, dataset: h5py.Dataset) -> str:
    """What of the dataset has no place in its file; all of a compact one has."""
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
    there = dataset.id.get_num_chunks()
    return f"{expected - there} of {expected} chunks" if there < expected else ""


def _mapped(dataset: h5py.Dataset) -> int:
    """How many values of a virtual dataset stand elsewhere; what is mapped twice counts once."""
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
    """What is selected, as (start, stride, count, block): one where it is regular, however many blocks it has."""
    if space.is_regular_hyperslab():
        yield space.get_regular_hyperslab()
        return
    for first, last in space.get_select_hyper_blocklist():
        once = (1,) * len(first)
        yield tuple(first), once, once, tuple(last - first + 1)


def _dataset_names(file: h5py.File) -> list[str]:
    names: list[str] = []

    def note(name: str, node: h5py.HLObject) -> bool | None:
        if isinstance(node, h5py.Dataset):
            names.append(repr(name))
        return len(names) >= EXAMPLES or None

    file.visititems(note)  # hard links alone
    return names
