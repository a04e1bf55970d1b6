"""Masks of rows; as text for a manifest: one bit per row, compressed, so that few excluded rows take few bytes."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
COUNTED_ROWS = 1 << 20


def to_text(mask: Mask) -> str:
    """A bool mask of shape (rows,) as text; empty if no row is set."""
    return b64encode(zlib.compress(np.packbits(mask).tobytes())).decode() if mask.any() else ""


def from_text(text: str, rows: int) -> Mask:
    """The mask that ``to_text`` wrote, bool of shape (rows,)."""
    if not text:
        return np.zeros(rows, np.bool_)
    packed = np.frombuffer(zlib.decompress(b64decode(text)), np.uint8)
    return np.unpackbits(packed, count=rows).astype(np.bool_)


def is_among(ids: npt.NDArray[np.int64], sorted_ids: npt.NDArray[np.int64]) -> Mask:
    """Which of ``ids`` are in ``sorted_ids``: bool of the shape of ``ids``."""
    if not len(sorted_ids):
        return np.zeros(len(ids), np.bool_)
    places = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    found: Mask = sorted_ids[places] == ids
    return found


class RowMask:
    """Which of the stored rows of a segment are set: one bit for each row."""

    def __init__(self, rows: int, bits: npt.NDArray[np.uint8] | None = None) -> None:
        self.rows = rows
        self._bits = np.zeros(-(-rows // 8), np.uint8) if bits is None else bits

    def copy(self) -> RowMask:
        return RowMask(self.rows, self._bits.copy())

    def set(self, offsets: npt.NDArray[np.int64]) -> None:
        """Set the rows with these numbers, shape (n,)."""
        np.bitwise_or.at(self._bits, offsets >> 3, (128 >> (offsets & 7)).astype(np.uint8))

    def join(self, other: RowMask) -> None:
        """Set all rows that are set in a mask of the same segment."""
        self._bits |= other._bits

    def at(self, offsets: npt.NDArray[np.int64]) -> Mask:
        """Which of the rows with these numbers are set: shape (n,)."""
        found: Mask = (self._bits[offsets >> 3] & (128 >> (offsets & 7)).astype(np.uint8)) != 0
        return found

    def part(self, start: int, stop: int) -> Mask:
        """Which of the rows ``start`` to ``stop`` are set: shape (stop - start,)."""
        first = start // 8
        bits = np.unpackbits(self._bits[first : -(-stop // 8)])
        return bits[start - 8 * first : stop - 8 * first].view(np.bool_)

    def count(self) -> int:
        """Number of rows that are set."""
        parts = range(0, self.rows, COUNTED_ROWS)
        return sum(int(np.count_nonzero(self.part(start, min(start + COUNTED_ROWS, self.rows)))) for start in parts)

    def to_text(self) -> str:
        """The mask as text, as :func:`to_text` makes it."""
        return b64encode(zlib.compress(self._bits.tobytes())).decode() if self._bits.any() else ""

    @classmethod
    def from_text(cls, text: str, rows: int) -> RowMask:
        """The mask that became ``text``."""
        return cls(rows, np.frombuffer(zlib.decompress(b64decode(text)), np.uint8).copy() if text else None)
