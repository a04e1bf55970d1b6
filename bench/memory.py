"""Memory beyond the imports: of a load task by the size of its unit, and of resolve tasks, with their speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.rows.divide import divide_group
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.targets.milvus.units import address_units
from bench.figures import Figure
from bench.inputs import write_directory
from bench.scales import MIB
from bench.stage import Stage, timed
from tests.support.chain import Chain, inspect_directory
from tests.support.peak_memory import load_elsewhere, peak_memory

TASKS = 4
RESOLVING = (
    "airflow_provider_milvusdm.rows.divide",
    "airflow_provider_milvusdm.rows.resolve",
    "airflow_provider_milvusdm.sources.milvus1x.segment",
)


def measure_loading(stage: Stage) -> Iterator[Figure]:
    """The highest peak of a few units of each size."""
    peaks = []
    with stage.folder() as folder, stage.server() as server:
        directory = write_directory(folder, stage.scale.loaded)
        for unit_bytes in stage.scale.unit_bytes:
            chain = Chain(directory, server.client, unit_bytes=unit_bytes)
            plans = chain.plan()
            created, _ = chain.create(plans, "overwrite")
            units = address_units(plans, created)[:TASKS]
            peak = max(load_elsewhere(server.address.uri, unit)[1] for unit in units)
            peaks.append(peak)
            what = f"load task, unit of {unit_bytes // MIB} MiB"
            yield Figure("memory", what, peak / 1e6, "MB", stage.scale.limits.load_memory)
    small, large = peaks
    yield Figure("memory", "large unit of small one", large / small, "×", stage.scale.limits.load_memory_of_units)


def measure_resolving(stage: Stage) -> Iterator[Figure]:
    """A large partition: what dividing it takes, and its shares, one after another."""
    shape = stage.scale.resolved
    with stage.folder() as folder:
        directory = write_directory(folder, shape, stage.scale.resolved_segments, zeros=True)
        [group] = inspect_directory(directory)
        (seconds, shares), peak = peak_memory(_divide, group, stage.scale.shares, imports=RESOLVING)
        what = f"division of {shape.rows:,} ids into {len(shares)} shares"
        yield Figure("memory", what, peak / 1e6, "MB", stage.scale.limits.resolve_memory)
        yield Figure("memory", what, shape.rows / seconds / 1e6, "M ids/s")
        seconds, peak = peak_memory(_resolve, shares, imports=RESOLVING)
    what = f"resolve of {shape.rows:,} ids in {len(shares)} shares"
    yield Figure("memory", what, peak / 1e6, "MB", stage.scale.limits.resolve_memory)
    yield Figure("memory", what, shape.rows / seconds / 1e6, "M ids/s")
    shape = stage.scale.read
    with stage.folder() as folder:
        [group] = inspect_directory(write_directory(folder, shape))
        resolve_group(group)  # its files are in the page cache then
        seconds = min(timed(resolve_group, group).processor for _ in range(stage.scale.rounds))
    what = f"resolve of {shape.rows:,} × {shape.label}"
    yield Figure("resolve", what, shape.vector_bytes / seconds / 1e9, "GB/s", stage.scale.limits.resolve)


def _divide(group: PartitionGroup, count: int) -> tuple[float, list[PartitionGroup]]:
    shares: list[PartitionGroup] = []
    return timed(lambda: shares.extend(divide_group(group, count))).seconds, shares


def _resolve(groups: Sequence[PartitionGroup]) -> float:
    return timed(lambda: [resolve_group(group) for group in groups]).seconds
