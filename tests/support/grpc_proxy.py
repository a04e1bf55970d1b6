"""A proxy of gRPC requests that can hold some back: its connection stays alive, and no answer comes.

That is what a server looks like that hangs behind a load balancer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class HoldingProxy(grpc.GenericRpcHandler):
    """Passes on requests to `target` and their answers, but none to the methods in `held`.

    `refused`: codes by the methods that are answered with them, as by a service that lacks these methods.
    """

    def __init__(self, target: str) -> None:
        self.held: set[str] = set()
        self.refused: dict[str, grpc.StatusCode] = {}
        self.asked: list[str] = []
        self.released = threading.Event()
        self.channel = grpc.insecure_channel(urlsplit(target).netloc, options=UNLIMITED)
        self.uri = ""

    def release(self) -> None:
        """Let the held requests continue, and hold no others."""
        self.held = set()
        self.released.set()
        self.released = threading.Event()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._pass_on(details, request, context))

    def _pass_on(self, details: Any, request: bytes, context: grpc.ServicerContext) -> bytes:
        method = details.method.rpartition("/")[2]
        self.asked.append(method)
        if method in self.refused:
            context.abort(self.refused[method], "refused")
        if method in self.held:
            self.released.wait()
        if not context.is_active():  # whoever asked has given up
            context.abort(grpc.StatusCode.CANCELLED, "")
        try:
            answer: bytes = self.channel.unary_unary(details.method)(request, metadata=details.invocation_metadata)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        return answer


@contextmanager
def holding_proxy(target: str) -> Iterator[HoldingProxy]:
    """The proxy, while the block runs."""
    proxy = HoldingProxy(target)
    server = grpc.server(ThreadPoolExecutor(32), handlers=[proxy], options=UNLIMITED)
    proxy.uri = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        server.stop(grace=None).wait()
        proxy.channel.close()
