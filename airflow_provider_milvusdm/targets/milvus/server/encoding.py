"""Write requests of Milvus's gRPC API, encoded from columns.

The messages are those of ``milvus.proto`` and ``schema.proto`` as pymilvus ships them. A packed ``repeated float``
is the floats' little-endian bytes, a packed ``repeated int64`` one varint a number. So a column is framed as it is in
memory, and no row becomes a Python object. Source of the encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pymilvus.grpc_gen import schema_pb2

if TYPE_CHECKING:
    from airflow_provider_milvusdm.model.collections import TargetCollection
    from airflow_provider_milvusdm.model.rows import VectorBatch

LENGTH_DELIMITED = 2
VARINT_SHIFTS = np.arange(0, 64, 7, dtype=np.uint64)
Chunk: TypeAlias = bytes | memoryview


def encode_write(header: Any, target: TargetCollection, batch: VectorBatch) -> bytes:
    """An ``InsertRequest`` or ``UpsertRequest`` with these rows, serialised.

    ``header``: the message without ``fields_data``. Columns beside ids and vectors become INT64 fields, or VARCHAR
    where they are one text for all rows.
    """
    chunks: list[Chunk] = [bytes(header.SerializeToString())]
    for field in _fields(target, batch):
        chunks += _framed(header, "fields_data", field)
    return b"".join(chunks)


def varints(values: npt.NDArray[np.int64]) -> bytes:
    """int64 values of shape (n,) as varints of 1 to 10 bytes each."""
    groups = values.view(np.uint64)[:, None] >> VARINT_SHIFTS
    needed = groups != 0
    needed[:, 0] = True
    encoded: npt.NDArray[np.uint8] = (groups & 0x7F).astype(np.uint8)
    encoded[:, :-1] |= needed[:, 1:].astype(np.uint8) << 7
    return bytes(encoded[needed].tobytes())


def _fields(target: TargetCollection, batch: VectorBatch) -> Iterator[list[Chunk]]:
    """The ``FieldData`` of each column."""
    if not target.ids_by_target:
        yield _int64_field(target.id_field, batch.ids)
    yield _vector_field(target.vector_field, batch.vectors)
    for name, values in batch.columns.items():
        yield _varchar_field(name, values, len(batch)) if isinstance(values, str) else _int64_field(name, values)


def _int64_field(name: str, values: npt.NDArray[np.int64]) -> list[Chunk]:
    data = _framed(schema_pb2.LongArray, "data", [varints(values)])
    return _scalar_field(name, schema_pb2.Int64, "long_data", data)


def _varchar_field(name: str, value: str, rows: int) -> list[Chunk]:
    data = b"".join(_framed(schema_pb2.StringArray, "data", [value.encode()])) * rows
    return _scalar_field(name, schema_pb2.VarChar, "string_data", [data])


def _scalar_field(name: str, data_type: int, kind: str, data: list[Chunk]) -> list[Chunk]:
    field = schema_pb2.FieldData(type=data_type, field_name=name)
    scalars = _framed(schema_pb2.ScalarField, kind, data)
    return [field.SerializeToString(), *_framed(field, "scalars", scalars)]


def _vector_field(name: str, vectors: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> list[Chunk]:
    if vectors.dtype == np.uint8:
        data_type, dimension, kind = schema_pb2.BinaryVector, vectors.shape[1] * 8, "binary_vector"
        data: list[Chunk] = [np.ascontiguousarray(vectors).data]
    else:
        data_type, dimension, kind = schema_pb2.FloatVector, vectors.shape[1], "float_vector"
        data = _framed(schema_pb2.FloatArray, "data", [np.ascontiguousarray(vectors, "<f4").data])
    field = schema_pb2.FieldData(type=data_type, field_name=name)
    vector = schema_pb2.VectorField(dim=dimension)
    payload = [vector.SerializeToString(), *_framed(vector, kind, data)]
    return [field.SerializeToString(), *_framed(field, "vectors", payload)]


def _framed(message: Any, field: str, payload: list[Chunk]) -> list[Chunk]:
    """``payload`` as the value of a length-delimited field of ``message``."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    length = sum(memoryview(chunk).nbytes for chunk in payload)
    return [varints(np.array([number << 3 | LENGTH_DELIMITED, length])), *payload]
