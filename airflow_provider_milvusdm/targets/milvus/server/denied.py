"""A server that refuses writes: out of its quota of disk or memory, or told to refuse them by its administrator.

A rate limit is not that: pymilvus waits and sends again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymilvus import MilvusException


class DeniedError(RuntimeError):
    """The target takes nothing now; a retry goes on once it does."""


@contextmanager
def tell_denial(uri: str) -> Iterator[None]:
    """Say so where the server at ``uri`` refuses requests in the block: DeniedError."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        if not is_denial(error):
            raise
        raise DeniedError(
            f"Milvus refuses requests: {uri}. Expected a server that has room and takes them, found: {error.message}. "
            "Make room, or raise the limit (quotaAndLimits of its configuration): a retry or a new run with the same "
            "params then goes on where this one ended."
        ) from None


def is_denial(error: MilvusException) -> bool:
    """Whether the server took nothing of a request, for it takes none now.

    Servers of 2.3 and later say it in ``code``, whatever the reason, and all of them in ``error_code``.
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
