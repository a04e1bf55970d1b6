"""Requests encoded from columns, sent to real targets: rows are stored as sent, and visible at once."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from airflow_provider_milvusdm.exceptions import LateError
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.targets.milvus.fence import Fence
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_since_boot
from airflow_provider_milvusdm.targets.milvus.server.requests import WriteRequests
from tests.support.collections_2x import create_index, stored
from tests.support.directories import random_vectors

ROWS = 500
IDS = np.concatenate([[0, 1, -1, 2**63 - 2, -(2**63) + 1], np.arange(1000, 1000 + ROWS - 5)]).astype(np.int64)
"""A 2.3.5 server never returns id 2^63 - 1."""
TARGET = TargetCollection("news")


def make(client: MilvusClient, vectors: np.ndarray, **other_field: Any) -> WriteRequests:
    """An empty, loaded collection for rows like these."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    binary = vectors.dtype == np.uint8
    kind, dimension = (DataType.BINARY_VECTOR, 8) if binary else (DataType.FLOAT_VECTOR, 1)
    schema.add_field("embedding", kind, dim=vectors.shape[1] * dimension)
    if other_field:
        schema.add_field("other", **other_field)
    client.create_collection("news", schema=schema)
    if not binary:
        create_index(client, "news", "L2")
    return WriteRequests(client, TARGET, Fence(lambda: None).check)


def rows(ids: np.ndarray, vectors: np.ndarray) -> dict[int, bytes]:
    return dict(zip(ids.tolist(), map(bytes, vectors), strict=True))


def test_inserts_and_upserts_are_stored_bit_for_bit(client):
    first, second = random_vectors(ROWS, 1), random_vectors(ROWS, 2)
    requests = make(client, first)
    assert requests.insert("_default", VectorBatch(IDS, first)) == ROWS
    assert requests.upsert("_default", VectorBatch(IDS[:200], second[:200])) == 200
    client.load_collection("news")
    assert stored(client, "news") == {"_default": rows(IDS, np.concatenate([second[:200], first[200:]]))}


def test_binary_vectors_are_stored_bit_for_bit(server_client):
    vectors = np.random.default_rng(1).integers(0, 256, (ROWS, 16), np.uint8)
    requests = make(server_client, vectors)
    assert requests.insert("_default", VectorBatch(IDS, vectors)) == ROWS
    params = server_client.prepare_index_params()
    params.add_index("embedding", index_type="BIN_FLAT", metric_type="HAMMING")
    server_client.create_index("news", params)
    server_client.load_collection("news")
    assert stored(server_client, "news") == {"_default": rows(IDS, vectors)}


def test_a_session_sees_what_it_wrote(server_client):
    vectors = random_vectors(ROWS, 1)
    requests = make(server_client, vectors)
    server_client.load_collection("news")
    for start in range(0, ROWS, 100):
        requests.insert("_default", VectorBatch(IDS[start : start + 100], vectors[start : start + 100]))
        found = server_client.query("news", output_fields=["count(*)"], consistency_level="Session")
        assert found[0]["count(*)"] == start + 100


def test_a_late_request_is_not_sent(client):
    """With no time left gRPC gives up a request, and may have sent it by then."""
    vectors = random_vectors(40, 1)
    requests = make(client, vectors)
    requests.fence = lambda: seconds_since_boot() - 1
    for place in range(len(vectors)):
        batch = VectorBatch(IDS[place : place + 1], vectors[place : place + 1])
        with pytest.raises(LateError, match="was not sent"):
            (requests.insert if place % 2 else requests.upsert)("_default", batch)
    client.load_collection("news")
    assert stored(client, "news") == {"_default": {}}


def test_a_field_with_a_default_is_filled(client):
    """A 2.3.5 server crashes on a request without it."""
    vectors = random_vectors(ROWS, 1)
    requests = make(client, vectors, datatype=DataType.INT64, default_value=5)
    requests.insert("_default", VectorBatch(IDS, vectors))
    requests.upsert("_default", VectorBatch(IDS[:9], vectors[:9]))
    client.load_collection("news")
    found = client.query("news", filter="other == 5", output_fields=["other"], consistency_level="Strong", limit=ROWS)
    assert len(found) == ROWS
    assert stored(client, "news") == {"_default": rows(IDS, vectors)}


class Unknown(grpc.StreamUnaryClientInterceptor):
    """Calls a method that no server has, once."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def intercept_stream_unary(self, continuation: Any, details: Any, parts: Any) -> Any:
        self.calls.append(details.method)
        method = details.method if len(self.calls) > 1 else "/milvus.proto.milvus.MilvusService/InsertColumns"
        return continuation(details._replace(method=method), parts)


def test_where_columns_are_refused_rows_are_sent(client):
    vectors = random_vectors(ROWS, 1)
    requests = make(client, vectors)
    unknown = Unknown()
    requests.handler._final_channel = grpc.intercept_channel(requests.handler._final_channel, unknown)
    for half in (slice(0, 250), slice(250, ROWS)):
        assert requests.insert("_default", VectorBatch(IDS[half], vectors[half])) == 250
    assert len(unknown.calls) == 3
    client.load_collection("news")
    assert stored(client, "news") == {"_default": rows(IDS, vectors)}
