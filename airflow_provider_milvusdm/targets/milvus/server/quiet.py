"""Keep tracebacks of refused requests out of the log, where the error that follows says the same."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_this_thread = threading.local()


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_this_thread, "is_quiet", False)


_FILTER = _Filter()


@contextmanager
def quiet_refusals() -> Iterator[None]:
    """In the block, pymilvus logs nothing of the requests of this thread that are refused."""
    logging.getLogger("pymilvus.decorators").addFilter(_FILTER)
    _this_thread.is_quiet = True
    try:
        yield
    finally:
        _this_thread.is_quiet = False
