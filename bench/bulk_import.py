"""Bulk import against inserting and flushing, until each row is durable and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from pymilvus import MilvusClient

from airflow_provider_milvusdm.config.params import IMPORT_UNIT_MIB, UNIT_MIB
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.targets.milvus.load.bulk_import import Waiting, load_unit_by
from airflow_provider_milvusdm.targets.milvus.units import address_units
from bench.figures import Figure
from bench.inputs import write_directory
from bench.scales import MIB
from bench.stage import Stage, timed, turned
from tests.support.bulk_imports import disk
from tests.support.chain import Chain
from tests.support.peak_memory import Store

LOOK_SECONDS = 0.1


def measure(stage: Stage) -> Iterator[Figure]:
    shape = stage.scale.imported
    with stage.folder() as folder, stage.server() as server:
        loads = Loads(server.client, write_directory(folder, shape), folder.with_name("import"))
        taken: dict[str, list[float]] = {name: [] for name in loads.ways}
        for number in range(stage.scale.rounds):
            for name, (load, unit_mib) in turned(list(loads.ways.items()), number):
                target = loads.new_target(unit_mib)
                taken[name].append(timed(loads.load, load, *target).seconds)
    for name, seconds in taken.items():
        yield Figure("import", f"{shape.rows:,} × {shape.label}: {name}", shape.rows / median(seconds), "rows/s")
    pairs = zip(*taken.values(), strict=True)
    ratio = median(inserted / imported for imported, inserted in pairs)
    yield Figure("import", "bulk import of insert and flush", ratio, "×", stage.scale.limits.import_of_insert)


class Loads:
    """Ways to load a directory whole."""

    def __init__(self, client: MilvusClient, directory: Path, staging: Path) -> None:
        self.client, self.directory, self.store = client, directory, disk(staging)
        self.ways = {
            "bulk import": (self.bulk_import, IMPORT_UNIT_MIB),
            "insert and flush": (self.insert, UNIT_MIB),
        }

    def new_target(self, unit_mib: int) -> tuple[int, list[LoadUnit]]:
        """Rows, and the units that load them."""
        chain = Chain(self.directory, self.client, unit_bytes=unit_mib * MIB)
        plans = chain.plan()
        created, _ = chain.create(plans, "overwrite")
        return plans[0].rows, address_units(plans, created)

    def load(self, load: Callable[[Sequence[LoadUnit]], None], rows: int, units: Sequence[LoadUnit]) -> None:
        """Until all rows are counted among those that are stored."""
        load(units)
        while self.client.get_collection_stats(units[0].target.name)["row_count"] != rows:
            time.sleep(LOOK_SECONDS)

    def insert(self, units: Sequence[LoadUnit]) -> None:
        for unit in units:
            load_unit_by("insert", self.client, unit, Store(), None)
        self.client.flush(units[0].target.name)

    def bulk_import(self, units: Sequence[LoadUnit]) -> None:
        """One unit's files are written while others are imported, as deferred tasks do."""
        tasks = [(unit, Store()) for unit in units]
        while tasks := [task for task in tasks if self._is_waiting(*task)]:
            time.sleep(LOOK_SECONDS)

    def _is_waiting(self, unit: LoadUnit, notes: Store) -> bool:
        return isinstance(load_unit_by("bulk_import", self.client, unit, notes, self.store), Waiting)
