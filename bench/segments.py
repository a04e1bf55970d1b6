"""Many small segments against one of the same rows, from inspecting the source to the last row written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from pymilvus import MilvusClient

from bench.figures import Figure
from bench.inputs import write_directory
from bench.stage import Stage, timed, turned
from tests.support.chain import Chain


def measure(stage: Stage) -> Iterator[Figure]:
    shape, many = stage.scale.divided, stage.scale.segments
    taken: dict[int, list[float]] = {1: [], many: []}
    with stage.folder() as folder, stage.server() as server:
        directories = {count: write_directory(folder / str(count), shape, count) for count in taken}
        for number in range(stage.scale.rounds):
            for count, directory in turned(list(directories.items()), number):
                taken[count].append(timed(load_all, server.client, directory).seconds)
    for count, seconds in taken.items():
        each = shape.vector_bytes / count / 1e6
        yield Figure("segments", f"{count} of {each:,.1f} MB each", median(seconds), "s")
    ratio = median(some / one for some, one in zip(taken[many], taken[1], strict=True))
    yield Figure("segments", "time of many of that of one", ratio, "×", stage.scale.limits.many_of_one)


def load_all(client: MilvusClient, directory: Path) -> None:
    chain = Chain(directory, client)
    plans = chain.plan()
    created, _ = chain.create(plans, "overwrite")
    chain.load(plans, created)
