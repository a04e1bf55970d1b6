"""What the parts are measured with: a scale, a server, folders that are gone afterwards, and a clock."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

from bench.scales import Scale
from tests.servers import MilvusAddress


@dataclass(frozen=True)
class Stage:
    scale: Scale
    address: MilvusAddress
    client: MilvusClient

    @contextmanager
    def folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="milvusdm-bench-") as folder:
            yield Path(folder) / "milvus"


@dataclass(frozen=True)
class Taken:
    """What a call took: seconds by the clock, and those that processors spent in this process alone."""

    seconds: float
    processor: float


def timed(call: Callable[..., object], *arguments: Any) -> Taken:
    started, processor = time.perf_counter(), time.process_time()
    call(*arguments)
    return Taken(time.perf_counter() - started, time.process_time() - processor)


def turned(items: list[Any], number: int) -> list[Any]:
    """Another order each round: what a server still does afterwards slows down what comes next."""
    number %= len(items)
    return items[number:] + items[:number]
