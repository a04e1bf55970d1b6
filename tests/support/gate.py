"""A gate that load tasks on any host pass before each request: a test sees who waits there, and lets them through."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

RECONNECT_SECONDS = 0.2


class Gate:
    """Each process passes freely a few times; then it waits until the gate, or the process, is let through."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.url = ""
        self.passed: Counter[int] = Counter()
        """How often, by process."""
        self.waiting: set[int] = set()
        """Processes; those that were killed meanwhile, too."""
        self._released: set[int] = set()
        self._open = False
        self._changed = threading.Condition()

    def open(self) -> None:
        """Let everybody through from now on."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._open = False

    def release(self, process: int) -> None:
        """Let one process through from now on."""
        with self._changed:
            self._released.add(process)
            self._changed.notify_all()

    def ask(self, process: int) -> None:
        """Returns once the process may pass."""
        with self._changed:
            self.waiting.add(process)
            self._changed.wait_for(lambda: self._may_pass(process))
            self.waiting.discard(process)
            self.passed[process] += 1

    def _may_pass(self, process: int) -> bool:
        return self._open or process in self._released or self.passed[process] < self.free


@contextmanager
def running_gate(host: str, *, free: int) -> Iterator[Gate]:
    """A closed gate, while the block runs."""
    gate = Gate(free)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gate.ask(int(self.path.strip("/")))
            with suppress(OSError):  # whoever asked was killed
                self.send_response(204)
                self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        gate.url = f"http://{host}:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield gate
        finally:
            gate.open()
            server.shutdown()


def gated(function: Callable[..., Any], url: str) -> Callable[..., Any]:
    """The function of a load task, which passes the gate at `url` before each call."""
    opener = build_opener(ProxyHandler({}))

    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        while not _pass(opener, f"{url}/{os.getpid()}"):
            time.sleep(RECONNECT_SECONDS)  # the host has lost its network
        return function(*arguments, **keywords)

    return call


def _pass(opener: Any, url: str) -> bool:
    try:
        with opener.open(url):
            return True
    except (URLError, ConnectionError):
        return False
