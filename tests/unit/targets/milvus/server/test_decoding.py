"""Replies to queries become columns, bit for bit as protobuf's own parser reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from airflow_provider_milvusdm.targets.milvus.server.decoding import decode_query, decode_varints
from airflow_provider_milvusdm.targets.milvus.server.encoding import varints

IDS = [0, 1, 127, 128, 300, -1, -(2**63), 2**63 - 1, 2**63 - 2, 1_600_000_000_000_000_000]


def reply(vectors: np.ndarray, source_ids: bool = False) -> Any:
    found = milvus_pb2.QueryResults(collection_name="news", output_fields=["id", "embedding"], session_ts=2**60)
    ids = found.fields_data.add(type=5, field_name="id", field_id=100)
    ids.scalars.long_data.data.extend(IDS)
    field = found.fields_data.add(type=101, field_name="embedding", field_id=101)
    if vectors.dtype == np.uint8:
        field.vectors.dim, field.vectors.binary_vector = vectors.shape[1] * 8, vectors.tobytes()
    else:
        field.vectors.dim = vectors.shape[1]
        field.vectors.float_vector.data.extend(vectors.ravel().tolist())
    if source_ids:
        found.fields_data.add(type=5, field_name="source_id").scalars.long_data.data.extend(reversed(IDS))
    return found


def test_ids_of_any_length_and_float_vectors_are_decoded() -> None:
    vectors = np.random.default_rng(1).standard_normal((len(IDS), 3)).astype("<f4")
    vectors[0] = -0.0
    status, columns = decode_query(reply(vectors, source_ids=True).SerializeToString())
    assert status.code == 0
    assert columns["id"].tolist() == IDS
    assert columns["source_id"].tolist() == IDS[::-1]
    assert columns["embedding"].shape == vectors.shape
    assert columns["embedding"].tobytes() == vectors.tobytes()


def test_binary_vectors_are_decoded() -> None:
    vectors = np.random.default_rng(2).integers(0, 256, (len(IDS), 5), np.uint8)
    _, columns = decode_query(reply(vectors).SerializeToString())
    assert columns["embedding"].dtype == np.uint8
    assert np.array_equal(columns["embedding"], vectors)


def test_a_refusal_is_read() -> None:
    status = common_pb2.Status(code=1100, reason="no such partition", error_code=1)
    found, columns = decode_query(milvus_pb2.QueryResults(status=status).SerializeToString())
    assert (found.code, found.reason, columns) == (1100, "no such partition", {})


def test_a_reply_without_rows_has_empty_columns() -> None:
    found = milvus_pb2.QueryResults()
    found.fields_data.add(type=5, field_name="id").scalars.long_data.SetInParent()
    vectors = found.fields_data.add(type=101, field_name="embedding").vectors
    vectors.dim = 8
    vectors.float_vector.SetInParent()
    _, columns = decode_query(found.SerializeToString())
    assert {name: len(column) for name, column in columns.items()} == {"id": 0, "embedding": 0}


def test_values_that_are_not_packed_are_refused() -> None:
    column = b"".join(bytes([1 << 3, value]) for value in (1, 2))
    field = bytes([3 << 3 | 2, len(column) + 2, 3 << 3 | 2, len(column)]) + column
    raw = bytes([2 << 3 | 2, len(field)]) + field
    assert milvus_pb2.QueryResults.FromString(raw).fields_data[0].scalars.long_data.data == [1, 2]
    with pytest.raises(ValueError, match="not packed"):
        decode_query(raw)


def test_varints_make_the_round_trip() -> None:
    random = np.random.default_rng(3)
    values = (random.integers(-(2**63), 2**63, 10_000) >> random.integers(0, 64, 10_000)).astype(np.int64)
    assert np.array_equal(decode_varints(varints(values)), values)
    assert decode_varints(b"").tolist() == []


@pytest.mark.parametrize("encoded", [b"\x80", b"\x01\xff", b"\xff" * 10 + b"\x01"])
def test_varints_that_are_cut_or_too_long_are_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="varint"):
        decode_varints(encoded)


def test_a_reply_that_is_cut_anywhere_is_refused_or_lacks_a_column() -> None:
    found = reply(np.zeros((len(IDS), 2), np.float32))
    for name in ("collection_name", "output_fields", "session_ts"):
        found.ClearField(name)
    whole = found.SerializeToString()
    for length in range(len(whole)):
        try:
            _, columns = decode_query(whole[:length])
        except ValueError:
            continue
        assert len(columns) < 2
