"""The steps in front of an index (IndexPreTransform), turned back.

A step is turned back here and not by faiss: it takes every matrix that it read for orthonormal, and a normalised vector
for the original, and gives wrong rows without a word. Source: ``faiss/VectorTransform.cpp``,
``faiss/impl/index_read.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import DamagedSourceError, UnsupportedSourceError
from airflow_provider_milvusdm.sources.faiss.file import CURE, CURE_NOT_READ

Rows = npt.NDArray[np.float64]
MAX_AMPLIFIED = 1000
"""By how much turning back may enlarge the rounding of float32; a rotation does by 1."""


@dataclass(frozen=True)
class Reversal:
    """``turn_back(rows)``: float64, from shape (n, d_out) to (n, d_in)."""

    turn_back: Callable[[Rows], Rows]
    note: str
    loss: str = ""
    """What is not restored."""


def reverse(path: Path, step: Any) -> Reversal:
    """How to turn a step back; refused when that can't be."""
    kind = type(step).__name__
    if isinstance(step, faiss.LinearTransform):
        return _reverse_linear(path, step, kind)
    if isinstance(step, faiss.RemapDimensionsTransform):
        return _reverse_remap(path, step, kind)
    if isinstance(step, faiss.CenteringTransform):
        mean = _array(path, step.mean, step.d_in)
        return Reversal(lambda rows: rows + mean, f"{kind} was turned back, up to rounding")
    if isinstance(step, faiss.NormalizationTransform):
        return Reversal(lambda rows: rows, "", f"{kind}: vectors have length 1, their own lengths are not in the index")
    raise UnsupportedSourceError(
        "a Faiss index behind a step that can't be turned back",
        where=path,
        expected="a rotation, an invertible matrix, a shift, or an order of dimensions",
        found=kind,
        cure=CURE_NOT_READ,
    )


def _reverse_linear(path: Path, step: Any, kind: str) -> Reversal:
    """y = x A' + b, with A of shape (d_out, d_in)."""
    matrix = _array(path, step.A, step.d_out * step.d_in).reshape(step.d_out, step.d_in)
    shift = _array(path, step.b, step.d_out) if step.have_bias else np.zeros(step.d_out)
    inverse = _inverse(path, matrix, kind)
    fewer = step.d_in - step.d_out
    loss = f"{kind}: {step.d_in} dimensions became {step.d_out}, {fewer} are not in the index" if fewer > 0 else ""
    return Reversal(lambda rows: (rows - shift) @ inverse.T, f"{kind} was turned back, up to rounding", loss)


def _inverse(path: Path, matrix: Rows, kind: str) -> Rows:
    """The inverse, or where the matrix isn't square the nearest thing to it."""
    square = matrix.T @ matrix if len(matrix) >= matrix.shape[1] else matrix @ matrix.T
    scales = np.linalg.eigvalsh(square) if np.isfinite(square).all() else np.zeros(1)
    if scales[0] * MAX_AMPLIFIED**2 < scales[-1] or scales[0] <= 0:
        raise UnsupportedSourceError(
            f"a Faiss index behind a {kind} that can't be turned back",
            where=path,
            expected=f"a matrix that can be inverted, enlarging rounding by {MAX_AMPLIFIED} at most",
            found=f"squares of its scales from {scales[0]:.3g} to {scales[-1]:.3g}",
            cure=CURE_NOT_READ,
        )
    tall = len(matrix) >= matrix.shape[1]
    inverse = np.linalg.solve(square, matrix.T) if tall else np.linalg.solve(square, matrix).T
    return inverse.astype(np.float64, copy=False)


def _reverse_remap(path: Path, step: Any, kind: str) -> Reversal:
    """Output dimension j is input dimension map[j], or zero where that is -1."""
    places = np.full(step.d_in, -1)
    sources = faiss.vector_to_array(step.map)
    if len(sources) != step.d_out or (sources >= step.d_in).any():
        raise _damaged(path, f"{step.d_out} dimensions below {step.d_in}", f"{len(sources)}, up to {sources.max()}")
    outputs = np.flatnonzero(sources >= 0)
    places[sources[outputs]] = outputs
    gone = int((places < 0).sum())

    def turn_back(rows: Rows) -> Rows:
        return np.where(places >= 0, rows[:, places], 0)

    return Reversal(turn_back, "", f"{kind}: {gone} of {step.d_in} dimensions are not in the index" if gone else "")


def _array(path: Path, vector: Any, size: int) -> Rows:
    if vector.size() < size:
        raise _damaged(path, f"{size} numbers in a step", f"{vector.size()}")
    with np.errstate(invalid="ignore"):  # NaN is found by what the numbers are for
        return faiss.vector_to_array(vector)[:size].astype(np.float64)


def _damaged(path: Path, expected: str, found: str) -> DamagedSourceError:
    return DamagedSourceError("a damaged Faiss index", where=path, expected=expected, found=found, cure=CURE)
