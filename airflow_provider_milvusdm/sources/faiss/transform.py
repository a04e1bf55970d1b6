"""The transforms in front of an index (IndexPreTransform), inverted.

faiss would do it without an error and with wrong rows: it assumes that every matrix it read is orthonormal, and returns
normalised vectors as the original ones. Source: ``faiss/VectorTransform.cpp``, ``faiss/impl/index_read.cpp``.
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
"""How much an inverse may amplify the rounding errors of float32; for a rotation it is 1."""


@dataclass(frozen=True)
class Inverse:
    """The inverse of a transform."""

    apply: Callable[[Rows], Rows]
    """``apply(rows)``: float64, from shape (rows, d_out) to shape (rows, d_in)."""
    note: str
    loss: str = ""
    """What can't be restored."""


def invert_transform(path: Path, transform: Any) -> Inverse:
    """The inverse of a ``faiss.VectorTransform``. Raises UnsupportedSourceError if there is none."""
    kind = type(transform).__name__
    if isinstance(transform, faiss.LinearTransform):
        return _invert_linear(path, transform, kind)
    if isinstance(transform, faiss.RemapDimensionsTransform):
        return _invert_remap(path, transform, kind)
    if isinstance(transform, faiss.CenteringTransform):
        mean = _to_array(path, transform.mean, transform.d_in)
        return Inverse(lambda rows: rows + mean, f"{kind} was inverted, up to rounding")
    if isinstance(transform, faiss.NormalizationTransform):
        return Inverse(lambda rows: rows, "", f"{kind}: vectors have length 1, their original lengths are not stored")
    raise UnsupportedSourceError(
        "a Faiss index with a transform that can't be inverted",
        where=path,
        expected="a rotation, an invertible matrix, a shift, or an order of dimensions",
        found=kind,
        cure=CURE_NOT_READ,
    )


def _invert_linear(path: Path, transform: Any, kind: str) -> Inverse:
    """y = x A' + b, with A of shape (d_out, d_in)."""
    d_in, d_out = transform.d_in, transform.d_out
    matrix = _to_array(path, transform.A, d_out * d_in).reshape(d_out, d_in)
    shift = _to_array(path, transform.b, d_out) if transform.have_bias else np.zeros(d_out)
    inverse = _invert_matrix(path, matrix, kind)
    loss = f"{kind}: {d_in} dimensions became {d_out}, {d_in - d_out} are not stored" if d_in > d_out else ""
    return Inverse(lambda rows: (rows - shift) @ inverse.T, f"{kind} was inverted, up to rounding", loss)


def _invert_matrix(path: Path, matrix: Rows, kind: str) -> Rows:
    """The inverse of a matrix of shape (d_out, d_in), or its pseudoinverse if it isn't square: shape (d_in, d_out)."""
    is_tall = len(matrix) >= matrix.shape[1]
    square = matrix.T @ matrix if is_tall else matrix @ matrix.T
    scales = np.linalg.eigvalsh(square) if np.isfinite(square).all() else np.zeros(1)
    if scales[0] * MAX_AMPLIFIED**2 < scales[-1] or scales[0] <= 0:
        raise UnsupportedSourceError(
            f"a Faiss index with a {kind} that can't be inverted",
            where=path,
            expected=f"an invertible matrix whose inverse amplifies rounding errors by at most {MAX_AMPLIFIED}",
            found=f"squared scales from {scales[0]:.3g} to {scales[-1]:.3g}",
            cure=CURE_NOT_READ,
        )
    inverse = np.linalg.solve(square, matrix.T) if is_tall else np.linalg.solve(square, matrix).T
    return inverse.astype(np.float64, copy=False)


def _invert_remap(path: Path, transform: Any, kind: str) -> Inverse:
    """Output dimension j is input dimension map[j], or zero if that is -1."""
    places = np.full(transform.d_in, -1)
    inputs = faiss.vector_to_array(transform.map)
    if len(inputs) != transform.d_out or (inputs >= transform.d_in).any():
        expected = f"{transform.d_out} dimensions below {transform.d_in}"
        raise _damaged(path, expected, f"{len(inputs)}, up to {inputs.max()}")
    outputs = np.flatnonzero(inputs >= 0)
    places[inputs[outputs]] = outputs
    lost = int((places < 0).sum())

    def apply(rows: Rows) -> Rows:
        return np.where(places >= 0, rows[:, places], 0)

    return Inverse(apply, "", f"{kind}: {lost} of {transform.d_in} dimensions are not stored" if lost else "")


def _to_array(path: Path, vector: Any, size: int) -> Rows:
    """The numbers in a vector of faiss: float64 of shape (size,). Raises DamagedSourceError if there are fewer."""
    if vector.size() < size:
        raise _damaged(path, f"{size} numbers in a transform", f"{vector.size()}")
    with np.errstate(invalid="ignore"):  # NaN is found where the numbers are used
        return faiss.vector_to_array(vector)[:size].astype(np.float64)


def _damaged(path: Path, expected: str, found: str) -> DamagedSourceError:
    return DamagedSourceError("a damaged Faiss index", where=path, expected=expected, found=found, cure=CURE)
