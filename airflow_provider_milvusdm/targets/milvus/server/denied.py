"""A server that refuses writes: its quota of disk or memory is used up, or its administrator switched writes off.

A rate limit is a different case: there pymilvus waits and sends the request again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import DeniedError

if TYPE_CHECKING:
    from pymilvus import MilvusException


@contextmanager
def tell_denial(uri: str) -> Iterator[None]:
    """Raise DeniedError where the server at ``uri`` refuses a request of the block."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        if not is_denial(error):
            raise
        raise DeniedError(
            "Milvus refuses requests",
            where=uri,
            expected="a server with free space that accepts writes",
            found=error.message,
            cure="Free some space, or raise the limit (quotaAndLimits in the server's configuration). A retry, or a "
            "new run with the same params, then continues where this one ended.",
        ) from None


def is_denial(error: MilvusException) -> bool:
    """Whether the server rejected the whole request because it accepts no writes now.

    Servers of 2.3 and later set ``code`` for every such reason; all versions set ``error_code``.
    """
    from pymilvus.exceptions import ErrorCode
    from pymilvus.grpc_gen import common_pb2

    older = (
        common_pb2.ForceDeny,
        common_pb2.MemoryQuotaExhausted,
        common_pb2.DiskQuotaExhausted,
        common_pb2.TimeTickLongDelay,
    )
    return error.code == ErrorCode.FORCE_DENY or error.compatible_code in older
