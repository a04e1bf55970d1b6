"""Replies to queries of Milvus's gRPC API, decoded into columns: the reverse of :mod:`.encoding`.

A column of vectors is the reply's own bytes, and a row never becomes a Python object. Source of the encoding:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
VARINT_BYTES = 10
"""Bytes of the longest varint: that of a negative number."""
Column: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.float32] | npt.NDArray[np.uint8]


def decode_query(reply: bytes) -> tuple[Any, dict[str, Column]]:
    """The status of a ``QueryResults`` message, and its columns by field name.

    INT64 fields become int64 of shape (n,), float vectors float32 of shape (n, dimension), binary vectors uint8 of
    shape (n, dimension / 8). Raises ValueError where the message is not encoded as protobuf's own encoders do it.
    """
    results, columns = milvus_pb2.QueryResults(), {}
    status, data = (_number(results, name) for name in ("status", "fields_data"))
    for number, value in _read_fields(memoryview(reply)):
        if number == status:
            results.status.ParseFromString(bytes(value))
        elif number == data:
            name, column = _decode_field(value)
            columns[name] = column
    return results.status, columns


def decode_varints(encoded: memoryview | bytes) -> npt.NDArray[np.int64]:
    """Varints of 1 to 10 bytes each as int64 of shape (n,)."""
    data = np.frombuffer(encoded, np.uint8)
    ends = np.flatnonzero(data < 0x80) + 1
    if len(data) and (not len(ends) or ends[-1] != len(data)):
        raise ValueError("a varint is cut off")
    lengths = np.diff(ends, prepend=0)
    if len(lengths) and lengths.max() > VARINT_BYTES:
        raise ValueError("a varint is longer than 10 bytes")
    values, starts = np.zeros(len(ends), np.uint64), ends - lengths
    for place in range(int(lengths.max(initial=0))):
        longer = lengths > place
        group = (data[np.where(longer, starts + place, 0)] & 0x7F).astype(np.uint64)
        values |= np.where(longer, group << np.uint64(7 * place), np.uint64(0))
    return values.view(np.int64)


def _decode_field(field: memoryview) -> tuple[str, Column]:
    """Name and values of a ``FieldData``."""
    message, name, column = schema_pb2.FieldData(), "", np.empty(0, np.int64)
    name_number, scalars, vectors = (_number(message, one) for one in ("field_name", "scalars", "vectors"))
    for number, value in _read_fields(field):
        if number == name_number:
            name = bytes(value).decode()
        elif number == scalars:
            column = _decode_scalars(value)
        elif number == vectors:
            column = _decode_vectors(value)
    return name, column
