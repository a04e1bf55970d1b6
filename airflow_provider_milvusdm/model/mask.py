"""Row masks as text for a manifest: one bit per row, compressed, so that few excluded rows take few bytes."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def to_text(mask: Mask) -> str:
    """A bool mask of shape (rows,) as text; empty if no row is set."""
    return b64encode(zlib.compress(np.packbits(mask).tobytes())).decode() if mask.any() else ""


def from_text(text: str, rows: int) -> Mask:
    """The mask that ``to_text`` wrote, bool of shape (rows,)."""
    if not text:
        return np.zeros(rows, np.bool_)
    packed = np.frombuffer(zlib.decompress(b64decode(text)), np.uint8)
    return np.unpackbits(packed, count=rows).astype(np.bool_)
