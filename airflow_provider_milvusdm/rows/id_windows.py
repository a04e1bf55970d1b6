"""The ids of many rows in order, with bounded memory: one window of ids after another is read and sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.model.mask import Mask

Ids = npt.NDArray[np.int64]


def read_windows(read: Callable[[int, int], Iterable[Ids]], first: int, last: int, held_ids: int) -> Iterator[Ids]:
    """The ids from ``first`` to ``last``, sorted, in windows that follow each other: int64 of shape (ids,).

    An id that is on more than two rows may be left out after the second time. A window is overwritten by the next one.

    :param read: the ids in a range, first and last included, in batches. It is called for each window.
    :param held_ids: ids in memory at a time: all of them, or at least four, and twice as many as a batch has.
    """
    held = np.empty(held_ids, np.int64)
    while first <= last:
        filled, end = 0, last
        for ids in read(first, last):
            if end < last:
                ids = ids[ids <= end]
            if filled + len(ids) > len(held):
                filled, end = _keep_lowest(held, filled, end)
                ids = ids[ids <= end]
            held[filled : filled + len(ids)] = ids
            filled += len(ids)
        held[:filled].sort()
        yield held[:filled]
        first = end + 1


def _keep_lowest(held: Ids, filled: int, end: int) -> tuple[int, int]:
    """Move the lowest half, or less, of the ids up to ``filled`` to the front; their number, and their last id."""
    ids = held[:filled]
    ids.sort()
    first_two = np.append(np.ones(2, np.bool_), ids[2:] != ids[:-2])[:filled]
    kept = ids[first_two]
    if len(kept) > len(held) // 2:
        end = int(kept[len(held) // 2]) - 1
        kept = kept[: np.searchsorted(kept, end, "right")]
    held[: len(kept)] = kept
    return len(kept), end


def find_repeated(ids: Ids) -> Ids:
    """Which of the sorted ids, shape (rows,), are there more than once: int64 of shape (n,), each once, sorted."""
    again: Ids = ids[1:][ids[1:] == ids[:-1]]
    first: Mask = np.append(True, again[1:] != again[:-1])[: len(again)]
    return again[first]
