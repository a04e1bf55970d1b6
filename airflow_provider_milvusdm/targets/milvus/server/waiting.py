"""Waits that end: pauses that grow, and an error once what is waited for has stood still for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST_SECONDS = 1800
"""After which a request gets no answer any more: a server takes seconds, to delete all rows of a partition minutes."""
LONGEST_PAUSE = 60
STALLED_SECONDS = 6 * 3600
"""The index of a large segment takes an hour, and counts as soon as it's whole."""


class StalledError(RuntimeError):
    """The target does not get on with what was asked of it; a retry waits anew."""


class NoAnswerError(RuntimeError):
    """The target took a request and never answered; a retry goes on where this ended."""


def pause_after(waited: float, shortest: float) -> float:
    """Seconds to the next look: a tenth of those waited so far."""
    return max(shortest, min(waited / 10, LONGEST_PAUSE))


def wait_until_done(look: Callable[[], str], what: str, *, shortest: float, seconds: float | None = None) -> None:
    """Return once ``look`` finds nothing left to do; StalledError where it finds the same for ``seconds``.

    :param look: says how far it is; empty: done.
    :param what: is waited for.
    :param shortest: pause, in seconds.
    """
    began = moved = time.monotonic()
    limit, last = STALLED_SECONDS if seconds is None else seconds, ""
    while found := look():
        now = time.monotonic()
        if found != last:
            last, moved = found, now
        if now - moved > limit:
            raise stalled(what, limit, found)
        time.sleep(pause_after(now - began, shortest))


def stalled(what: str, seconds: float, found: str) -> StalledError:
    return StalledError(
        f"Milvus does not get on with {what}. Expected it to move within {seconds:.0f} s, found {found} all the time. "
        "Its log may say why: restart what hangs. A retry, or a new run with the same params, goes on."
    )


@contextmanager
def tell_silence(uri: str) -> Iterator[None]:
    """Say so where the server at ``uri`` does not answer a request of the block: NoAnswerError."""
    from grpc import RpcError, StatusCode

    try:
        yield
    except RpcError as error:
        if error.code() != StatusCode.DEADLINE_EXCEEDED:
            raise
        raise NoAnswerError(
            f"Milvus does not answer: {uri}. Expected an answer within {REQUEST_SECONDS} s at most, found: "
            f"{error.details()}. Restart what hangs: a retry or a new run with the same params then goes on."
        ) from None
