"""Calls that run beside each other, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore


class InFlight:
    """Makes up to ``most`` calls at once, each in a thread; what follows a call happens in the order they came.

    No call runs on once it's closed.
    """

    def __init__(self, most: int) -> None:
        self._threads = ThreadPoolExecutor(most)
        self._room = Semaphore(most)
        self._calls: deque[tuple[Future[object], Callable[[], None]]] = deque()

    def start(self, call: Callable[[], object], then: Callable[[], None]) -> None:
        """Start ``call`` once there is room; ``then`` follows, in this thread. Raises what earlier calls raised."""
        self._room.acquire()
        while self._calls and self._calls[0][0].done():
            self._follow_first()
        future = self._threads.submit(call)
        future.add_done_callback(lambda _: self._room.release())
        self._calls.append((future, then))

    def settle(self) -> None:
        """Wait for all calls; raises what the first to fail raised."""
        while self._calls:
            self._follow_first()

    def close(self) -> None:
        """Wait for the calls that run still, whatever becomes of them."""
        self._threads.shutdown()

    def _follow_first(self) -> None:
        call, then = self._calls.popleft()
        call.result()
        then()
