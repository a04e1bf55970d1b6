"""The inverted lists of an IVF index, which hold codes and ids, in the index's file or in another one beside it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceNotFoundError, UnsupportedSourceError
from airflow_provider_milvusdm.sources.faiss.file import CURE

Codes = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int64]
ID_BYTES = 8


class Lists(Protocol):
    """The lists of an index, by their number."""

    sizes: npt.NDArray[np.int64]
    """Number of rows in each list: int64 of shape (lists,)."""

    def codes(self, number: int, start: int, stop: int) -> Codes:
        """Codes of rows ``start`` to ``stop`` of a list: uint8 of shape (stop - start, bytes of a code)."""
        ...

    def ids(self, number: int, start: int, stop: int) -> Ids:
        """Ids of rows ``start`` to ``stop`` of a list: int64 of shape (stop - start,)."""
        ...


def open_lists(path: Path, index: Any) -> Lists:
    """The lists of an IVF index that was read from ``path``.

    Raises UnsupportedSourceError, SourceNotFoundError or DamagedSourceError.
    """
    lists = faiss.downcast_InvertedLists(index.invlists)
    if type(lists) is faiss.ArrayInvertedLists:
        return ArrayLists(lists)
    if type(lists) is faiss.OnDiskInvertedLists:
        return OnDiskLists(path.parent, lists)
    raise UnsupportedSourceError(
        "an IVF index with inverted lists of a type that can't be read",
        where=path,
        expected="ArrayInvertedLists or OnDiskInvertedLists",
        found=type(lists).__name__ if lists is not None else "none",
        cure="Write it with one of these, or as a flat index.",
    )


def split_rows(sizes: npt.NDArray[np.int64], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Rows ``start`` to ``stop``, counted over all lists in order, as (list, start in the list, stop in the list)."""
    ends = np.cumsum(sizes)
    number = int(np.searchsorted(ends, start, side="right"))
    while start < stop:
        first = int(ends[number] - sizes[number])
        end = min(stop, int(ends[number]))
        if end > start:
            yield number, start - first, end - first
            start = end
        number += 1


class ArrayLists:
    """Lists in the index's file."""

    def __init__(self, lists: Any) -> None:
        self._lists = lists
        self.sizes = np.array([lists.list_size(number) for number in range(lists.nlist)], np.int64)

    def codes(self, number: int, start: int, stop: int) -> Codes:
        width = self._lists.code_size
        codes = np.empty((stop - start, width), np.uint8)
        _copy(self._lists.get_codes(number), start * width, codes)
        return codes

    def ids(self, number: int, start: int, stop: int) -> Ids:
        ids = np.empty(stop - start, np.int64)
        _copy(self._lists.get_ids(number), start * ID_BYTES, ids)
        return ids


def _copy(pointer: Any, offset: int, into: npt.NDArray[Any]) -> None:
    ctypes.memmove(into.ctypes.data, int(pointer) + offset, into.nbytes)


class OnDiskLists:
    """Lists in another file: each has room for ``capacity`` codes, followed by room for as many ids.

    The index names the file by the path at which it was written; here only the file's name counts, and the file must be
    beside the index. faiss would map the file without any checks, so it is read here.
    """

    def __init__(self, folder: Path, lists: Any) -> None:
        self.path = folder / Path(lists.filename).name
        self._width = lists.code_size
        entries = [lists.lists.at(number) for number in range(lists.lists.size())]
        self.sizes = np.array([entry.size for entry in entries], np.uint64).astype(np.int64)
        self._capacities = [entry.capacity for entry in entries]
        self._offsets = [entry.offset for entry in entries]
        self._check(lists.totsize)

    def codes(self, number: int, start: int, stop: int) -> Codes:
        codes = self._read(np.uint8, self._offsets[number] + start * self._width, (stop - start) * self._width)
        return codes.reshape(-1, self._width)

    def ids(self, number: int, start: int, stop: int) -> Ids:
        first = self._offsets[number] + self._capacities[number] * self._width
        return self._read(np.int64, first + start * ID_BYTES, stop - start)

    def _read(self, dtype: type[Any], offset: int, items: int) -> npt.NDArray[Any]:
        found = np.fromfile(self.path, dtype, items, offset=offset)
        if len(found) < items:
            raise self._mismatch(f"{items} items from byte {offset}", f"{len(found)}")
        return found

    def _check(self, stated: int) -> None:
        """Check that every list is inside the file, and that the file has the size that the index states.

        faiss resizes the file with each change. If it was written again, an older index points to other bytes.
        """
        if not self.path.is_file():
            raise SourceNotFoundError(
                "the file of an index's inverted lists is gone",
                where=self.path,
                expected="the file beside the index",
                found="none",
                cure="Copy it there: an index with lists on disk is two files.",
            )
        present = self.path.stat().st_size
        for size, capacity, offset in zip(self.sizes.tolist(), self._capacities, self._offsets, strict=True):
            end = offset + capacity * (self._width + ID_BYTES)
            if size and not (0 < size <= capacity and end <= present):
                expected = f"a list of {size} rows with room for {capacity}, up to byte {end}"
                raise self._mismatch(expected, f"{present} bytes")
        if present != stated:
            raise self._mismatch(f"{stated} bytes", f"{present}: it belongs to another index, or to another version")

    def _mismatch(self, expected: str, found: str) -> DamagedSourceError:
        return DamagedSourceError(
            "the file of inverted lists does not match its index",
            where=self.path,
            expected=expected,
            found=found,
            cure=CURE,
        )
