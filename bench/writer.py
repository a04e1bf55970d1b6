"""How fast rows go into a Milvus 2.3.5 server beside the client: `python -m bench.writer --rows 500000 --dim 128`.

Each round writes the same rows in each way, into a collection made anew; the order turns from round to round,
for what a server still does afterwards slows down what comes next. Only ratios of one run mean something.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pymilvus import MilvusClient

from airflow_provider_milvusdm.sources.read import read_slices
from airflow_provider_milvusdm.targets.milvus_requests import WriteRequests, send_insert, to_rows
from airflow_provider_milvusdm.targets.milvus_writer import IN_FLIGHT, Writer, batch_rows, load_unit
from airflow_provider_milvusdm.vectors import LoadUnit
from bench.inputs import Shape, make_target, write_segment
from tests.servers import milvus_server
from tests.targets import milvus_client

WIRE_LIMIT = "wire limit"


@dataclass(frozen=True)
class Measured:
    """One way of writing: medians of all rounds, and each round's rows a second."""

    shape: str
    way: str
    rows_per_second: float
    megabytes_per_second: float
    of_wire_limit: float
    client_seconds: float
    """Processor time that a million rows take this process, the server's and other processes' not counted."""
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Taken:
    """What one round took: time by the clock, and processor time of this process."""

    seconds: float
    processor: float


class Store(dict[str, Any]):
    """Checkpoints that end with the process."""

    set = dict.__setitem__


class Ways:
    """Ways to write the rows of a unit; all but the load task find them in memory."""

    def __init__(self, client: MilvusClient, unit: LoadUnit) -> None:
        self.client, self.unit, self.target = client, unit, unit.target
        read = read_slices(unit.source, unit.collection, unit.slices, batch_rows(unit))
        self.batches = [batch for _, _, batch in read]
        self.requests = WriteRequests(client, self.target)
        self.encoded = [self.requests.encode_columns("Insert", "_default", batch) for batch in self.batches]

    @property
    def rows(self) -> int:
        return sum(map(len, self.batches))

    def all(self) -> dict[str, Callable[[], object]]:
        return {
            WIRE_LIMIT: self.send_encoded,
            "writer": self.write,
            "load task": lambda: load_unit(self.client, self.unit, Store()),
            "MilvusClient.insert": self.insert_rows,
        }

    def send_encoded(self) -> None:
        handler, context = self.requests.handler, self.requests.context
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            sent = [threads.submit(send_insert, handler, one, self.target.name, context) for one in self.encoded]
        for one in sent:
            one.result()

    def write(self) -> None:
        with closing(Writer(self.client, self.target)) as writer:
            for batch in self.batches:
                writer.write("_default", batch, False, lambda: None)
            writer.finish()

    def insert_rows(self) -> None:
        for batch in self.batches:
            self.client.insert(self.target.name, to_rows(self.target, batch), partition_name="_default")


def measure(client: MilvusClient, shape: Shape, rounds: int) -> list[Measured]:
    """Each way, round after round."""
    with tempfile.TemporaryDirectory() as folder:
        unit = write_segment(Path(folder), shape)
        make_target(client, shape)
        ways = Ways(client, unit)
        taken: dict[str, list[Taken]] = {name: [] for name in ways.all()}
        for number in range(rounds):
            for name, write in turned(list(ways.all().items()), number):
                make_target(client, shape)
                started, processor = time.perf_counter(), time.process_time()
                write()
                taken[name].append(Taken(time.perf_counter() - started, time.process_time() - processor))
    limit = median(one.seconds for one in taken[WIRE_LIMIT])
    return [measured(shape, name, ways.rows, rounds, limit) for name, rounds in taken.items()]


def measured(shape: Shape, way: str, rows: int, rounds: Sequence[Taken], limit: float) -> Measured:
    seconds = median(one.seconds for one in rounds)
    return Measured(
        shape.label,
        way,
        rows / seconds,
        rows * shape.row_bytes / seconds / 1e6,
        limit / seconds,
        median(one.processor for one in rounds) / rows * 1e6,
        tuple(rows / one.seconds for one in rounds),
    )


def turned(items: list[Any], number: int) -> list[Any]:
    number %= len(items)
    return items[number:] + items[:number]


def table(results: Sequence[Measured]) -> str:
    lines = [f"{'rows of':12} {'way':20} {'rows/s':>10} {'MB/s':>7} {'of wire limit':>14} {'client s/1M rows':>17}"]
    lines += [
        f"{one.shape:12} {one.way:20} {one.rows_per_second:10,.0f} {one.megabytes_per_second:7.1f} "
        f"{one.of_wire_limit:14.2f} {one.client_seconds:17.2f}"
        for one in results
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results there, too")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        milvus_server(Path(folder)) as address,
        milvus_client(address.uri) as client,
    ):
        results = measure(client, Shape(asked.rows, asked.dim, asked.binary), asked.rounds)
    print(table(results))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in results], indent=1))


if __name__ == "__main__":
    main()
