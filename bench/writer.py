"""How fast rows go into a server beside the client, in each way of writing them.

Each round writes the same rows in each way, into a collection made anew. Ratios are medians of those of the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from statistics import median

from pymilvus import MilvusClient

from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.targets.milvus.fence import Fence
from airflow_provider_milvusdm.targets.milvus.load.writer import IN_FLIGHT, Writer, batch_rows, load_unit
from airflow_provider_milvusdm.targets.milvus.server.requests import WriteRequests, send_insert, to_rows
from bench.figures import Figure
from bench.inputs import Shape, make_target, whole_unit, write_directory
from bench.scales import Limits
from bench.stage import Stage, Taken, timed, turned
from tests.support.peak_memory import Store

WIRE, WRITER, LOAD, INSERT = "wire limit", "writer", "load task", "MilvusClient.insert"

UNFENCED = Fence(lambda: None).check
"""Nobody else writes into the collections of a measurement."""


class Ways:
    """Ways to write the rows of a unit; all but the load task find them in memory."""

    def __init__(self, client: MilvusClient, unit: LoadUnit) -> None:
        self.client, self.unit, self.target = client, unit, unit.target
        read = read_slices(unit.source, unit.collection, unit.slices, batch_rows(unit))
        self.batches = [batch for _, _, batch in read]
        self.requests = WriteRequests(client, self.target, UNFENCED)
        self.encoded = [self.requests.encode_columns("Insert", "_default", batch) for batch in self.batches]

    @property
    def rows(self) -> int:
        return sum(map(len, self.batches))

    def all(self) -> dict[str, Callable[[], object]]:
        return {WIRE: self.send_encoded, WRITER: self.write, LOAD: self.load, INSERT: self.insert_rows}

    def send_encoded(self) -> None:
        """Requests that are ready, by as many threads as the writer has: nothing can be faster."""
        handler, context = self.requests.handler, self.requests.context
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            sent = [
                threads.submit(send_insert, handler, one, self.target.name, context, UNFENCED) for one in self.encoded
            ]
        for one in sent:
            one.result()

    def write(self) -> None:
        with closing(Writer(self.client, self.target, UNFENCED)) as writer:
            for batch in self.batches:
                writer.write("_default", batch, False, lambda: None)
            writer.finish()

    def load(self) -> None:
        load_unit(self.client, self.unit, Store())

    def insert_rows(self) -> None:
        for batch in self.batches:
            self.client.insert(self.target.name, to_rows(self.target, batch), partition_name="_default")


def measure(stage: Stage) -> Iterator[Figure]:
    for shape in stage.scale.written:
        with stage.folder() as folder, stage.server() as server:
            unit = whole_unit(write_directory(folder, shape), shape)
            make_target(server.client, shape)
            ways = Ways(server.client, unit)
            yield from figures(shape, ways.rows, rounds(stage.scale.write_rounds, shape, ways), stage.scale.limits)


def rounds(most: int, shape: Shape, ways: Ways) -> dict[str, list[Taken]]:
    """What each way took, a round after the other."""
    taken: dict[str, list[Taken]] = {name: [] for name in ways.all()}
    for number in range(most):
        for name, write in turned(list(ways.all().items()), number):
            make_target(ways.client, shape)
            taken[name].append(timed(write))
    return taken


def figures(shape: Shape, rows: int, taken: dict[str, list[Taken]], limits: Limits) -> Iterator[Figure]:
    for way, rounds in taken.items():
        yield Figure("writer", f"{shape.label}: {way}", rows / median(one.seconds for one in rounds), "rows/s")
    for way, other, limit in (
        (WRITER, WIRE, limits.writer_of_wire),
        (LOAD, WIRE, limits.load_of_wire),
        (WRITER, INSERT, limits.writer_of_insert),
    ):
        pairs = zip(taken[way], taken[other], strict=True)
        speed = median(another.seconds / one.seconds for one, another in pairs)
        yield Figure("writer", f"{shape.label}: {way} of {other}", speed, "×", None if shape.binary else limit)
    processor = median(one.processor for one in taken[LOAD]) / rows * 1e6
    yield Figure("writer", f"{shape.label}: processor time of the load task", processor, "s/M rows")
    pairs = zip(taken[WRITER], taken[INSERT], strict=True)
    saved = median(insert.processor / writer.processor for writer, insert in pairs)
    yield Figure("writer", f"{shape.label}: processor time of insert, of writer's", saved, "×", limits.processor_time)
