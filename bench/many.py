"""Many small collections: hundreds of them into a server and into Milvus Lite, and a plan of thousands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import yaml

from bench.figures import Figure, Limit
from bench.stage import Stage, timed
from tests.support.directories import write_directory

TAGS = ("_default", "a", "b", "c")


def measure(stage: Stage) -> Iterator[Figure]:
    scale, limits = stage.scale, stage.scale.limits
    with stage.folder() as folder:
        source = write_collections(folder, scale.collections, {"_default": range(200)})
        with stage.server() as server:
            target = {"dest_host": server.address.host, "dest_port": server.address.port}
            yield figure("server", scale.collections, run(source, target), limits.many_on_server)
        lite = {"dest_uri": str(folder.with_name("target.db"))}
        yield figure("Milvus Lite", scale.collections, run(source, lite), limits.many_on_lite)
    with stage.folder() as folder:
        source = write_collections(
            folder, scale.planned, {tag: range(number, number + 1) for number, tag in enumerate(TAGS)}
        )
        seconds = run(source, {"dest_uri": str(folder.with_name("target.db"))}, "validate")
        what = f"milvusdm validate of {scale.planned:,} collections of {len(TAGS)} partitions"
        yield Figure("many", what, seconds, "s", limits.planned)


def figure(target: str, collections: int, seconds: float, limit: Limit | None) -> Figure:
    what = f"milvusdm --yaml of {collections} collections of 200 rows, {target}"
    return Figure("many", what, seconds / collections, "s each", limit)


def write_collections(folder: Path, collections: int, partitions: dict[str, Sequence[int]]) -> Path:
    """A directory of collections of 128 floats, all with the same partitions of ids."""
    names = [f"c{number:04}" for number in range(collections)]
    return write_directory(folder, dict.fromkeys(names, partitions), dimension=128).path


def run(source: Path, target: dict[str, object], *command: str) -> float:
    """Seconds of the command, which fails unless every collection is verified."""
    job, log = source.with_name("M2M.yaml"), source.with_name("airflow.log")
    job.write_text(yaml.safe_dump({"M2M": {"source_milvus_path": str(source), "mode": "skip"} | target}))
    milvusdm = Path(sys.executable).with_name("milvusdm")
    arguments = [milvusdm, *command, "--yaml", job, "--log", log]
    return timed(partial(subprocess.run, arguments, check=True, capture_output=True)).seconds
