"""Replies to queries of Milvus's gRPC API, decoded into columns: the reverse of :mod:`.encoding`.

A column of vectors is the reply's own bytes, and a row never becomes a Python object. Source of the encoding:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
VARINT_BYTES = 10
"""Bytes of the longest varint: that of a negative number."""
Column: TypeAlias = npt.NDArray[Any]


def decode_query(reply: bytes) -> tuple[Any, dict[str, Column]]:
    """The status of a ``QueryResults`` message, and its columns by field name.

    INT64 fields become int64 of shape (n,), float vectors float32 of shape (n, dimension), binary vectors uint8 of
    shape (n, dimension / 8). Raises ValueError where the message is not encoded as protobuf's own encoders do it.
    """
    results, columns = milvus_pb2.QueryResults(), {}
    status, data = (_number(results, name) for name in ("status", "fields_data"))
    for number, _, value in _read_fields(memoryview(reply)):
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


def _decode_field(data: memoryview) -> tuple[str, Column]:
    """Name and values of a ``FieldData``."""
    message, name = schema_pb2.FieldData(), ""
    column: Column = np.empty(0, np.int64)
    name_number, scalars, vectors = (_number(message, field) for field in ("field_name", "scalars", "vectors"))
    for number, _, value in _read_fields(data):
        if number == name_number:
            name = bytes(value).decode()
        elif number == scalars:
            column = _decode_scalars(value)
        elif number == vectors:
            column = _decode_vectors(value)
    return name, column


def _decode_scalars(scalars: memoryview) -> Column:
    """Values of a ``ScalarField`` of INT64."""
    array, data = _number(schema_pb2.ScalarField(), "long_data"), _number(schema_pb2.LongArray(), "data")
    arrays = [value for number, _, value in _read_fields(scalars) if number == array]
    return decode_varints(_packed(arrays[-1], data) if arrays else b"")


def _decode_vectors(vectors: memoryview) -> Column:
    """Values of a ``VectorField`` of float or binary vectors."""
    message, floats = schema_pb2.VectorField(), _number(schema_pb2.FloatArray(), "data")
    float_vector, binary_vector = (_number(message, name) for name in ("float_vector", "binary_vector"))
    dimension_number, dimension, binary = _number(message, "dim"), 0, False
    data: memoryview | bytes = b""
    for number, _, value in _read_fields(vectors):
        if number == dimension_number:
            dimension = int(decode_varints(value)[0])
        elif number == float_vector:
            data = _packed(value, floats)
        elif number == binary_vector:
            data, binary = value, True
    width = dimension // 8 if binary else dimension
    return np.frombuffer(data, np.uint8 if binary else "<f4").reshape(-1, max(width, 1))


def _packed(message: memoryview, data: int) -> memoryview | bytes:
    """The value of the only field of a message, which is packed."""
    found = list(_read_fields(message))
    if len(found) > 1 or any((number, wire_type) != (data, LENGTH_DELIMITED) for number, wire_type, _ in found):
        raise ValueError("a column is not packed")
    return found[0][2] if found else b""


def _read_fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and value of each field of a message; that of a varint is encoded still."""
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            start, (_, position) = position, _read_varint(message, position)
        elif wire_type == LENGTH_DELIMITED:
            length, start = _read_varint(message, position)
            position = start + length
        elif wire_type in FIXED_BYTES:
            start, position = position, position + FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"a field of wire type {wire_type}")
        if position > len(message):
            raise ValueError("a field is cut off")
        yield number, wire_type, message[start:position]


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """A varint, and the position behind it."""
    value = 0
    for place in range(VARINT_BYTES):
        if position + place >= len(message):
            break
        byte = message[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise ValueError("a varint is cut off")


def _number(message: Any, field: str) -> int:
    """Number of a message's field."""
    return int(message.DESCRIPTOR.fields_by_name[field].number)
