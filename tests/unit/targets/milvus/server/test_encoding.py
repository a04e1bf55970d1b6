"""Requests encoded from columns are the messages that pymilvus builds from rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pymilvus import DataType
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.targets.milvus.server.encoding import encode_write, varints
from airflow_provider_milvusdm.targets.milvus.server.requests import to_rows

EDGES = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**49, 2**63 - 2, 2**63 - 1, -1, -(2**63)]
RNG = np.random.default_rng(1)
FLOATS = RNG.standard_normal((len(EDGES), 12), np.float32)
BITS = RNG.integers(0, 256, (len(EDGES), 3), np.uint8)
PREPARED = {milvus_pb2.InsertRequest: Prepare.row_insert_param, milvus_pb2.UpsertRequest: Prepare.row_upsert_param}


def batch(vectors: np.ndarray, ids: Any = EDGES, **columns: Any) -> VectorBatch:
    return VectorBatch(np.array(ids, np.int64), vectors, columns)


def encoded(kind: Any, target: TargetCollection, rows: VectorBatch) -> Any:
    header = kind(collection_name=target.name, partition_name="p", num_rows=len(rows), schema_timestamp=7)
    return kind.FromString(encode_write(header, target, rows))


def built_by_pymilvus(kind: Any, target: TargetCollection, rows: VectorBatch) -> Any:
    binary = rows.vectors.dtype == np.uint8
    fields: list[dict[str, Any]] = [
        {"name": target.id_field, "type": DataType.INT64, "is_primary": True, "auto_id": target.ids_by_target},
        {
            "name": target.vector_field,
            "type": DataType.BINARY_VECTOR if binary else DataType.FLOAT_VECTOR,
            "params": {"dim": rows.vectors.shape[1] * (8 if binary else 1)},
        },
    ]
    entities = to_rows(target, rows)
    for name, values in rows.columns.items():
        varchar = isinstance(values, str)
        fields.append(
            {"name": name, "type": DataType.VARCHAR if varchar else DataType.INT64, "params": {"max_length": 64}}
        )
    return PREPARED[kind](target.name, entities, "p", fields, schema_timestamp=7)


def by_field(request: Any) -> dict[str, Any]:
    return {field.field_name: field for field in request.fields_data}


@pytest.mark.parametrize("kind", PREPARED)
@pytest.mark.parametrize(
    "rows",
    [
        batch(FLOATS),
        batch(BITS),
        batch(FLOATS[::2], EDGES[::2]),
        batch(np.asfortranarray(BITS)),
        batch(FLOATS[:1], [5]),
    ],
)
@pytest.mark.parametrize("auto_id", [False, True])
@pytest.mark.parametrize("columns", [{}, {"source_id": np.array(EDGES), "tag": "öffentlich", "none": ""}])
def test_a_request_is_what_pymilvus_builds_from_rows(kind, rows, auto_id, columns):
    target = TargetCollection("news", "key", "vector", auto_id and kind is milvus_pb2.InsertRequest)
    columns = {name: values if isinstance(values, str) else values[: len(rows)] for name, values in columns.items()}
    rows = replace(rows, columns=columns)
    ours = encoded(kind, target, rows)
    theirs = built_by_pymilvus(kind, target, rows)
    assert by_field(ours) == by_field(theirs)
    ours.ClearField("fields_data")
    theirs.ClearField("fields_data")
    assert ours == theirs


def test_floats_stay_as_they_are_bit_for_bit():
    bits = np.array([[0, 0x80000000, 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 0x7F7FFFFF]], "<u4")
    request = encoded(milvus_pb2.InsertRequest, TargetCollection("c"), batch(bits.view("<f4"), [1]))
    data = by_field(request)["embedding"].vectors.float_vector.SerializeToString()
    assert data.endswith(bits.tobytes())


def test_an_empty_batch_has_the_fields_and_no_rows():
    request = encoded(milvus_pb2.InsertRequest, TargetCollection("c"), batch(FLOATS[:0], [], tag="t"))
    fields = by_field(request)
    assert (request.num_rows, list(fields)) == (0, ["id", "embedding", "tag"])
    assert fields["embedding"].vectors.dim == FLOATS.shape[1]
    assert not fields["id"].scalars.long_data.data


@given(arrays.arrays(np.int64, st.integers(0, 50)))
def test_varints_are_those_of_protobuf(values):
    assert schema_pb2.LongArray(data=values.tolist()).SerializeToString().endswith(varints(values))
    assert len(varints(values)) == sum(len(varints(values[[number]])) for number in range(len(values)))
