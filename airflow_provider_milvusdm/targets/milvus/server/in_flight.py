"""Calls that run concurrently, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore


class InFlight:
    """Runs up to ``limit`` calls at once, each in a thread; their follow-ups run in the order of the calls.

    No call is still running after ``close``.
    """

    def __init__(self, limit: int) -> None:
        self._threads = ThreadPoolExecutor(limit)
        self._free = Semaphore(limit)
        self._calls: deque[tuple[Future[object], Callable[[], None]]] = deque()

    def start(self, call: Callable[[], object], then: Callable[[], None]) -> None:
        """Start ``call`` once a thread is free; ``then`` is called later, in this thread.

        Raises what earlier calls raised.
        """
        self._free.acquire()
        while self._calls and self._calls[0][0].done():
            self._follow_first()
        future = self._threads.submit(call)
        future.add_done_callback(lambda _: self._free.release())
        self._calls.append((future, then))

    def settle(self) -> None:
        """Wait for all calls. Raises what the first failed one raised."""
        while self._calls:
            self._follow_first()

    def close(self) -> None:
        """Wait for the calls that are still running; their errors are ignored."""
        self._threads.shutdown()

    def _follow_first(self) -> None:
        call, then = self._calls.popleft()
        call.result()
        then()
