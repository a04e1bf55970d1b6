"""What the parts are measured with: a scale, servers and folders that are gone afterwards, and a clock."""

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
from tests.support.milvus_servers import MilvusAddress, milvus_server
from tests.support.targets import milvus_client


@dataclass(frozen=True)
class Server:
    address: MilvusAddress
    client: MilvusClient


@dataclass(frozen=True)
class Stage:
    scale: Scale

    @contextmanager
    def folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="milvusdm-bench-") as folder:
            yield Path(folder) / "milvus"

    @contextmanager
    def server(self) -> Iterator[Server]:
        """A new one: one that was written to goes on working for minutes, and keeps what was dropped for hours."""
        with (
            tempfile.TemporaryDirectory(prefix="milvusdm-bench-") as folder,
            milvus_server(Path(folder)) as address,
            milvus_client(address.uri) as client,
        ):
            yield Server(address, client)


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
    """An even number of items in another order each round: what a server still does afterwards slows what comes next.

    Over as many rounds as there are items each is once in each place, and once behind each other one. Source: E. J.
    Williams, "Experimental designs balanced for the estimation of residual effects of treatments", 1949.
    """
    places = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(len(items))]
    return [items[(place + number) % len(items)] for place in places]
