"""Send rows to Milvus: requests encoded from columns, sent over pymilvus's own connection in the way it sends its own.

The connection (TLS, login, database, recovery) and the meaning of answers stay pymilvus's. One thing differs: pymilvus
repeats an insert whose answer it did not get, and then a server may store each row twice. Here an upsert follows such
an insert.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from pymilvus import MilvusException
from pymilvus.client.ts_utils import update_collection_ts
from pymilvus.client.utils import check_status
from pymilvus.decorators import IGNORE_RETRY_CODES, retry_on_rpc_failure
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from airflow_provider_milvusdm.exceptions import LateError, TargetError
from airflow_provider_milvusdm.targets.milvus.server.capabilities import upserts_in_place
from airflow_provider_milvusdm.targets.milvus.server.encoding import encode_write
from airflow_provider_milvusdm.targets.milvus.server.queries import delete_ids
from airflow_provider_milvusdm.targets.milvus.server.sending import start_before

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.collections import TargetCollection
    from airflow_provider_milvusdm.model.rows import VectorBatch

REQUESTS = {"Insert": milvus_pb2.InsertRequest, "Upsert": milvus_pb2.UpsertRequest}
REFUSED_CALLS = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT)
ILLEGAL_ARGUMENT = 1100
"""Milvus's error code since 2.3; earlier servers set only ``error_code``."""

log = logging.getLogger(__name__)


class UnansweredError(MilvusException):  # type: ignore[misc] # pymilvus has no annotations
    """The connection failed before the answer to an insert arrived: its rows may be in the target."""


class WriteRequests:
    """Inserts and upserts of batches into one collection; several threads may use it at once.

    :param fence: called before each request; returns the deadline of the request, and raises where nothing may be
        written any more.
    """

    def __init__(self, client: MilvusClient, target: TargetCollection, fence: Callable[[], float]) -> None:
        self.client, self.target, self.fence = client, target, fence
        self.upserts = upserts_in_place(client, target)
        self.handler, self.context = client._get_connection(), client._generate_call_context()
        described = client.describe_collection(target.name)
        self.schema_timestamp = described.get("update_timestamp", 0)
        self.others = {field["name"] for field in described["fields"]} - {target.id_field, target.vector_field}
        self.columns_refused = False

    def insert(self, partition: str, batch: VectorBatch) -> int:
        """Insert a batch; returns the number of rows that the target accepted.

        After an insert without an answer the batch is upserted. Raises UnansweredError where its rows have no ids.
        """
        try:
            return int(self._write(send_insert, "Insert", partition, batch).insert_cnt)
        except UnansweredError:
            if self.target.ids_by_target:
                raise
            return self.upsert(partition, batch)

    def upsert(self, partition: str, batch: VectorBatch) -> int:
        """Write a batch, replacing rows with the same ids; returns the number of rows that the target accepted."""
        if not self.upserts:
            delete_ids(self.client, self.target, partition, batch.ids.tolist(), self.fence)
            return self.insert(partition, batch)
        return int(self._write(send_upsert, "Upsert", partition, batch).upsert_cnt)

    def _write(self, send: Any, method: str, partition: str, batch: VectorBatch) -> Any:
        encode = self._encoder(batch)
        try:
            request = encode(method, partition, batch)
            return send(self.handler, request, self.target.name, self.context, self.fence)
        except (grpc.RpcError, MilvusException) as error:
            if isinstance(error.__cause__, TargetError | LateError):  # raised by the fence, and wrapped by pymilvus
                raise error.__cause__ from None
            if encode == self.encode_rows or not _is_refusal(error):
                raise
            log.warning(
                "collection %s does not accept these columns alone, so rows are sent: %s", self.target.name, error
            )
            self.columns_refused = True
            return self._write(send, method, partition, batch)

    def _encoder(self, batch: VectorBatch) -> Callable[[str, str, VectorBatch], bytes]:
        by_rows = self.columns_refused or self.others - batch.columns.keys()
        return self.encode_rows if by_rows else self.encode_columns

    def encode_columns(self, method: str, partition: str, batch: VectorBatch) -> bytes:
        header = REQUESTS[method](
            collection_name=self.target.name,
            partition_name=partition,
            num_rows=len(batch),
            schema_timestamp=self.schema_timestamp,
        )
        return encode_write(header, self.target, batch)

    def encode_rows(self, method: str, partition: str, batch: VectorBatch) -> bytes:
        """The request as pymilvus encodes rows: with nulls and defaults for other fields, which a server may need."""
        prepare = getattr(self.handler, f"_prepare_row_{method.lower()}_request")
        request = prepare(self.target.name, to_rows(self.target, batch), partition, context=self.context)
        return bytes(request.SerializeToString())


def to_rows(target: TargetCollection, batch: VectorBatch) -> list[dict[str, Any]]:
    """The rows in the form that ``MilvusClient.insert`` accepts."""
    vectors = [row.tobytes() for row in batch.vectors] if batch.vectors.dtype == np.uint8 else batch.vectors
    columns = {target.vector_field: vectors}
    if not target.ids_by_target:
        columns[target.id_field] = batch.ids.tolist()
    for name, values in batch.columns.items():
        columns[name] = [values] * len(batch) if isinstance(values, str) else values.tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@retry_on_rpc_failure()  # type: ignore[untyped-decorator]
def send_insert(handler: Any, request: bytes, collection: str, context: Any, fence: Callable[[], float]) -> Any:
    """Send an insert; repeated where the rate is limited, but never where the request may have arrived.

    Raises UnansweredError.
    """
    deadline = fence()
    try:
        return _call(handler, "Insert", request, collection, context, deadline)
    except grpc.RpcError as error:
        if error.code() in IGNORE_RETRY_CODES:
            raise
        raise UnansweredError(message=f"no answer to an insert: {error.code()} {error.details()}") from error


@retry_on_rpc_failure()  # type: ignore[untyped-decorator]
def send_upsert(handler: Any, request: bytes, collection: str, context: Any, fence: Callable[[], float]) -> Any:
    return _call(handler, "Upsert", request, collection, context, deadline=fence())


def _call(handler: Any, method: str, request: bytes, collection: str, context: Any, deadline: float) -> Any:
    """Send a serialised request."""
    response = start_before(deadline, handler, method, request, context.to_grpc_metadata()).result()
    check_status(response.status)
    update_collection_ts(collection, response.timestamp, handler.server_address, context.get_db_name())
    return response


def _is_refusal(error: grpc.RpcError | MilvusException) -> bool:
    """Whether the server rejected the request as invalid, and so wrote no row of it."""
    if isinstance(error, grpc.RpcError):
        return error.code() in REFUSED_CALLS
    return bool(error.code == ILLEGAL_ARGUMENT or error.compatible_code == common_pb2.IllegalArgument)
