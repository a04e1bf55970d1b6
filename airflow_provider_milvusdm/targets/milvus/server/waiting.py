"""Waits that end: the pauses grow, and a wait without progress ends with an error."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import NoAnswerError, StalledError, UnreachableError
from airflow_provider_milvusdm.progress import Ticker

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST_SECONDS = 1800
"""Timeout of a request. A server answers within seconds, or minutes if it is busy."""
LONGEST_PAUSE = 60
STALLED_SECONDS = 6 * 3600
"""The index of a large segment takes an hour to build, and the progress changes only when it is complete."""


def pause_after(waited: float, shortest: float) -> float:
    """Seconds until the next look: a tenth of the seconds ``waited`` so far, at least ``shortest``."""
    return max(shortest, min(waited / 10, LONGEST_PAUSE))


def wait_until_done(look: Callable[[], str], what: str, *, shortest: float, seconds: float | None = None) -> None:
    """Return once ``look`` returns an empty text.

    Raises StalledError where ``look`` returns the same text for ``seconds`` (default: STALLED_SECONDS).

    :param look: returns the progress as text; empty where all is done.
    :param what: what is waited for, for the message.
    :param shortest: the shortest pause between two looks, in seconds.
    """
    began = moved = time.monotonic()
    limit, last, ticker = STALLED_SECONDS if seconds is None else seconds, "", Ticker()
    while found := look():
        now = time.monotonic()
        if found != last:
            last, moved = found, now
        if now - moved > limit:
            raise stalled(what, limit, found)
        ticker.tell(f"{what}: {found}")
        time.sleep(pause_after(now - began, shortest))


def stalled(what: str, seconds: float, found: str) -> StalledError:
    """The error for a wait without progress."""
    return StalledError(
        f"Milvus makes no progress with {what}",
        expected=f"progress within {seconds:.0f} s",
        found=f"{found} all the time",
        cure="The server's log may say why: restart the part that hangs. A retry, or a new run with the same params, "
        "continues.",
    )


@contextmanager
def tell_silence(uri: str) -> Iterator[None]:
    """Raise NoAnswerError where the server at ``uri`` does not answer a request of the block.

    Raises UnreachableError where pymilvus has given up to connect to it again: a server that is suspended does not
    answer gRPC's keepalive.
    """
    from grpc import RpcError, StatusCode
    from pymilvus import MilvusException
    from pymilvus.client.types import Status

    try:
        yield
    except MilvusException as error:
        if error.code not in (Status.CONNECT_FAILED, StatusCode.UNAVAILABLE):
            raise
        raise UnreachableError(
            "the connection to Milvus is lost",
            where=uri,
            found=error.message,
            cure="Start the server again, or the part of it that hangs. A retry, or a new run with the same params, "
            "then continues.",
        ) from None
    except RpcError as error:
        if error.code() != StatusCode.DEADLINE_EXCEEDED:
            raise
        raise NoAnswerError(
            "Milvus does not answer",
            where=uri,
            expected=f"an answer within {REQUEST_SECONDS} s",
            found=error.details(),
            cure="Restart the part that hangs. A retry, or a new run with the same params, then continues.",
        ) from None
