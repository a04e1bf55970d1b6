"""What the login of a client may do, found out without changing anything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc
from pymilvus.grpc_gen import common_pb2, milvus_pb2

if TYPE_CHECKING:
    from pymilvus import MilvusClient

SERVICE = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"]
ANSWER_SECONDS = 30
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAUTHENTICATED)
"""What a server answers that can't be asked; anything else is its own way to refuse a request without a name."""

log = logging.getLogger(__name__)


def may_create_collections(client: MilvusClient) -> bool:
    """Whether the login may create collections in its database.

    It asks for a collection without a name. A server looks at the login's rights first and then at the name, which it
    refuses, so that nothing is created. Only an answer that denies the right counts: a service may not implement the
    request, or refuse it in its own way. Raises grpc.RpcError if the server is away.
    """
    handler, context = client._get_connection(), client._generate_call_context()
    call = handler._final_channel.unary_unary(
        f"/{SERVICE.full_name}/CreateCollection", response_deserializer=common_pb2.Status.FromString
    )
    request = milvus_pb2.CreateCollectionRequest().SerializeToString()
    try:
        call(request, metadata=context.to_grpc_metadata(), timeout=ANSWER_SECONDS)
    except grpc.RpcError as error:
        if error.code() in AWAY:
            raise
        if error.code() == grpc.StatusCode.PERMISSION_DENIED:
            return False
        log.info("the right to create collections is unknown: the target answers %s", error.code().name)
    return True
