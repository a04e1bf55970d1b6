"""Read rows of a target by their ids, as batches of columns: no row becomes a Python object.

The connection is pymilvus's, as in :mod:`.requests`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import numpy.typing as npt
from pymilvus import MilvusException
from pymilvus.client.types import Status
from pymilvus.client.utils import check_status
from pymilvus.decorators import retry_on_rpc_failure
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.model.collections import SOURCE_ID
from airflow_provider_milvusdm.model.rows import VectorBatch
from airflow_provider_milvusdm.rows.reader import join_batches
from airflow_provider_milvusdm.targets.milvus.server.decoding import Column, decode_query
from airflow_provider_milvusdm.targets.milvus.server.queries import filter_ids, filter_range, stream_ids, within

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.collections import TargetCollection

NO_ROWS = VectorBatch(np.empty(0, np.int64), np.empty((0, 1), np.float32), {})
QUERY = f"/{milvus_pb2.DESCRIPTOR.services_by_name['MilvusService'].full_name}/Query"
TOO_LARGE = ("larger than max", "maxOutputSize", "exceed the limit size")
"""Parts of the messages by which a server refuses a large reply: gRPC's limit (64 MiB), its own, and a segment's."""


class RowQueries:
    """Queries for the rows of a target by their ids; several threads may use it at once."""

    def __init__(self, client: MilvusClient, target: TargetCollection) -> None:
        self.client, self.target = client, target
        self.columns = [SOURCE_ID] if target.own_keys else []
        self.handler, self.context = client._get_connection(), client._generate_call_context()

    def read(self, partition: str, first: int, last: int) -> Iterator[VectorBatch]:
        """The rows with the ids ``first`` to ``last``, unsorted, a batch for each reply of the server.

        If an id is on several rows, a server returns one of them.
        """
        try:
            batch = self._query(partition, filter_range(self.target.id_field, first, last))
        except (grpc.RpcError, MilvusException) as error:
            if first == last or not any(text in str(error) for text in TOO_LARGE):
                raise
        else:
            yield batch
            return
        for ids in stream_ids(self.client, self.target, partition, first, last):
            for half in np.array_split(ids, 2):  # halves of the rows: halves of a range may hold all rows and none
                if len(half):
                    yield from self.read(partition, int(half[0]), int(half[-1]))

    def read_ids(self, partition: str, ids: npt.NDArray[np.int64]) -> VectorBatch:
        """The rows with these ids, shape (n,), unsorted, that the partition holds, one for each id.

        If ids are on several rows, a 2.3 server omits as many other rows: ids that weren't found are asked for again.
        """
        found = NO_ROWS
        while len(ids) and len(batch := self._query(partition, filter_ids(self.target.id_field, ids.tolist()))):
            found = join_batches([found, batch]) if len(found) else batch
            ids = np.setdiff1d(ids, batch.ids)
        return found

    def _query(self, partition: str, matching: str) -> VectorBatch:
        asked = within(self.target, partition, matching)
        request = milvus_pb2.QueryRequest(
            collection_name=self.target.name,
            expr=asked["filter"],
            partition_names=asked.get("partition_names", ()),
            output_fields=[self.target.id_field, self.target.vector_field, *self.columns],
            consistency_level=common_pb2.Strong,
        )
        return self._batch(_send(self.handler, request.SerializeToString(), self.context))

    def _batch(self, columns: dict[str, Column]) -> VectorBatch:
        names = self.target.id_field, self.target.vector_field, *self.columns
        if not any(map(len, columns.values())):
            return NO_ROWS
        lengths = {name: len(columns.get(name, ())) for name in names}
        if len(set(lengths.values())) > 1:
            raise TargetError(
                f"a reply to a query of collection {self.target.name!r} can't be read",
                expected="as many values of each field",
                found=", ".join(f"{length} of {name}" for name, length in lengths.items()),
                cure="The target may be of a version that this package does not know: report it.",
            )
        ids, vectors, *others = (columns[name] for name in names)
        return VectorBatch(ids, vectors, dict(zip(self.columns, others, strict=True)))


@retry_on_rpc_failure()  # type: ignore[untyped-decorator]
def _send(handler: Any, request: bytes, context: Any) -> dict[str, Column]:
    """Send a serialised request; returns the columns of the reply."""
    call = handler._final_channel.unary_unary(QUERY)
    status, columns = decode_query(call(request, metadata=context.to_grpc_metadata()))
    if Status.EMPTY_COLLECTION in {status.code, status.error_code}:
        return {}
    check_status(status)
    return columns
