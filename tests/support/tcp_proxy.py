"""A TCP proxy that cuts connections, and delays their data or holds them back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

CHUNK = 1 << 16
UNHEARD_SECONDS = 0.5


class CuttingProxy:
    """Forwards to `target`, which may be another later.

    Cuts all connections each time that the next of `cuts` bytes went to it in all.
    With `unheard`, what was sent until half a second later still arrives, and answers don't. After the last cut
    it goes on, unless it is to stay `away`. Each 64 KiB are held back for `delay` seconds, in both directions.
    """

    def __init__(
        self,
        target: str,
        cuts: Sequence[int] = (),
        *,
        unheard: bool = False,
        away: bool = False,
        delay: float = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.target = target
        self._cuts, self._unheard, self._away, self._delay = list(cuts), unheard, away, delay
        self._sent = 0
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._passes = threading.Event()
        self._passes.set()
        self._listener = socket.create_server((host, 0))
        self.uri = f"http://{host}:{self._listener.getsockname()[1]}"

    @property
    def cuts_left(self) -> int:
        return len(self._cuts)

    def serve(self) -> None:
        """Until it is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = self._connect()
                except ConnectionRefusedError:
                    client.close()
                    continue
                with self._lock:
                    self._open += [client, server]
                threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _connect(self) -> socket.socket:
        address = urlsplit(self.target)
        return socket.create_connection((address.hostname, address.port))

    def close(self) -> None:
        self.release()
        self._stop_listening()
        self._listener.close()
        self._cut(self._take_open())

    def cut(self, *, unheard: bool) -> None:
        """Cut the connections that are open now."""
        threading.Timer(UNHEARD_SECONDS if unheard else 0, self._cut, [self._take_open()]).start()

    def hold(self) -> None:
        """Keep what is sent to the target, and send it on when it is released."""
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()

    def _forward(self, source: socket.socket, sink: socket.socket, to_target: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                time.sleep(self._delay)
                if to_target:
                    self._passes.wait()
                if to_target or source in self._open:
                    sink.sendall(data)
                if to_target:
                    self._count(len(data))
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _count(self, sent: int) -> None:
        with self._lock:
            self._sent += sent
            if not self._cuts or self._sent < self._cuts[0]:
                return
            del self._cuts[0]
        if self._away and not self._cuts:
            self._stop_listening()
        self.cut(unheard=self._unheard)

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def _take_open(self) -> list[socket.socket]:
        """The connections that are open: none of them is answered any more."""
        with self._lock:
            taken, self._open = self._open, []
            return taken

    def _cut(self, connections: list[socket.socket]) -> None:
        for one in connections:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def cutting_proxy(target: str, cuts: Sequence[int] = (), **options: Any) -> Iterator[CuttingProxy]:
    """The proxy, while the block runs."""
    proxy = CuttingProxy(target, cuts, **options)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
