"""Send requests that a server accepts before a deadline or never, even if their bytes, or this process, are held up.

gRPC gives a server the seconds that are left, and the server counts them from when it receives the request's headers.
Headers and message usually leave together. If this process is suspended just before, or a network holds them back, the
server accepts them minutes later. Here the headers are sent first, and the message once the server has answered
another request, which it received after the headers on the same connection: from then on the server itself refuses a
message that is late. Source: gRPC over HTTP/2 (Timeout), and the order of the frames of a connection in HTTP/2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import LateError
from airflow_provider_milvusdm.targets.milvus.server.deadline import seconds_left

if TYPE_CHECKING:
    from pymilvus import MilvusClient

DEADLINE: ContextVar[float | None] = ContextVar("DEADLINE", default=None)


def start_before(deadline: float, handler: Any, method: str, message: bytes, metadata: Sequence[Any]) -> Any:
    """Send a serialised request; returns the future of its answer.

    Half of the time until ``deadline`` is for the headers, and half for the message and its answer. Raises LateError
    where the message was not sent in time, and grpc.RpcError where the server can't be reached.
    """
    from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]
    from pymilvus.grpc_gen import milvus_pb2

    service = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"]
    answer_class = GetMessageClass(service.methods_by_name[method].output_type)
    channel = handler._final_channel  # another thread may replace it
    call = channel.stream_unary(f"/{service.full_name}/{method}", response_deserializer=answer_class.FromString)
    get_version = channel.unary_unary(f"/{service.full_name}/GetVersion")
    if not is_connected(handler):  # gRPC sends the requests that wait for a connection in any order
        get_version(b"", timeout=seconds_left(deadline) / 2, metadata=metadata)
    seconds, parts = seconds_left(deadline) / 2, SimpleQueue[bytes | None]()
    answer = call.future(iter(parts.get, None), timeout=seconds, metadata=metadata)
    try:
        get_version(b"", timeout=seconds, metadata=metadata)
        seconds_left(deadline - seconds)
        parts.put(message)
    except BaseException:
        answer.cancel()
        raise
    finally:
        parts.put(None)
    return answer


def is_connected(handler: Any) -> bool:
    """Whether a request that is sent now needs no new connection; pymilvus finds it out in the same way."""
    import grpc

    return bool(handler._channel._channel.check_connectivity_state(False) == grpc.ChannelConnectivity.READY.value[0])


@contextmanager
def sent_before(client: MilvusClient, deadline: float | None) -> Iterator[float | None]:
    """Send what pymilvus sends in the block as :func:`start_before` does; yields the timeout for it.

    Without a deadline it is sent as usual. Raises LateError.
    """
    if deadline is None:
        yield None
        return
    from pymilvus import MilvusException

    handler = client._get_connection()
    if not isinstance(handler._stub, _Stub):
        _wrap_stub(handler)
    token = DEADLINE.set(deadline)
    try:
        yield seconds_left(deadline)
    except MilvusException as error:
        if isinstance(error.__cause__, LateError):  # wrapped by pymilvus
            raise error.__cause__ from None
        raise
    finally:
        DEADLINE.reset(token)


def _wrap_stub(handler: Any) -> None:
    """Wrap the stub of a connection, and the one that it gets when pymilvus connects again to repeat a request."""
    reconnect = handler.reconnect

    def reconnect_and_wrap(*arguments: Any, **options: Any) -> None:
        reconnect(*arguments, **options)
        handler._stub = _Stub(handler, handler._stub)

    handler._stub, handler.reconnect = _Stub(handler, handler._stub), reconnect_and_wrap


class _Stub:
    """Another stub, whose requests are sent before the deadline of the block that they are in, if there is one."""

    def __init__(self, handler: Any, stub: Any) -> None:
        self.handler, self.stub = handler, stub

    def __getattr__(self, method: str) -> Any:
        deadline = DEADLINE.get()
        return getattr(self.stub, method) if deadline is None else _Call(self.handler, method, deadline)


class _Call:
    """A request, called as pymilvus calls those of a stub."""

    def __init__(self, handler: Any, method: str, deadline: float) -> None:
        self.handler, self.method, self.deadline = handler, method, deadline

    def __call__(self, request: Any, **options: Any) -> Any:
        return self.future(request, **options).result()

    def future(self, request: Any, *, metadata: Sequence[Any] = (), **_: Any) -> Any:
        return start_before(self.deadline, self.handler, self.method, request.SerializeToString(), metadata)
