"""Runs as the Migration page reads them, without a database of Airflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_milvusdm.manifests import Fault, Loaded, to_json
from airflow_provider_milvusdm.operators.base import FAULT
from airflow_provider_milvusdm.operators.group import RESULT
from airflow_provider_milvusdm.operators.overview import OVERVIEW, RUN_FACTS
from airflow_provider_milvusdm.report import UNFINISHED, CollectionReport, PartitionReport
from airflow_provider_milvusdm.ui.stored_run import Task

STARTED = datetime(2026, 11, 30, 9, tzinfo=UTC)
PLANNED = {"task": "plan", "xcom": "plan"}
"""The only group of the plan."""


@dataclass
class FakeStoredRun:
    """Has what :class:`StoredRun` has."""

    state: str = "running"
    started_by: str = "ada"
    started: str = STARTED.isoformat()
    ended: str = ""
    dag_id: str = "milvusdm_m2m"
    run_id: str = "manual__1"
    prefix: str = ""
    pushed: dict[tuple[str, int, str], Any] = field(default_factory=dict)
    states: dict[tuple[str, int], Any] = field(default_factory=dict)
    instances: list[Task] = field(default_factory=list)

    def add_task(
        self,
        task_id: str,
        state: str,
        *,
        map_index: int = -1,
        minutes: int = 0,
        operator: str = "",
        max_tries: int = 0,
    ) -> None:
        """A task instance that took ten seconds, so many minutes after the start; one that runs has no end."""
        started = STARTED + timedelta(minutes=minutes)
        ended = None if state == "running" else started + timedelta(seconds=10)
        name = self.prefix + task_id
        label = f"label {map_index}"
        self.instances.append(Task(name, map_index, state, label, operator, 1, started, ended, max_tries))

    def push(self, task_id: str, key: str, value: Any, map_index: int = -1) -> None:
        self.pushed[self.prefix + task_id, map_index, key] = value

    def push_group(self, task_id: str, key: str, manifests: Iterable[Any], map_index: int = 0) -> None:
        """Manifests of a mapped task, and the reference to them."""
        group = f"{task_id} {key} {map_index}"
        self.push(task_id, group, [to_json(manifest) for manifest in manifests], map_index)
        reference = {"task": self.prefix + task_id, "xcom": group, "map_index": map_index, "of": PLANNED["xcom"]}
        self.push(task_id, key, reference, map_index)

    def tasks(self) -> list[Task]:
        return self.instances

    def xcoms(self, task_ids: Iterable[str], key: str) -> dict[tuple[str, int], Any]:
        wanted = set(task_ids)
        return {
            (task_id, index): value
            for (task_id, index, of_key), value in self.pushed.items()
            if task_id in wanted and of_key == key
        }

    def groups(self, references: Iterable[Any]) -> Iterator[tuple[Mapping[str, Any], list[Any]]]:
        for reference in references:
            place = reference["task"], reference.get("map_index", -1), reference["xcom"]
            if place in self.pushed:
                yield reference, self.pushed[place]

    def task_state(self, task_ids: Iterable[str], key: str) -> dict[tuple[str, int], Any]:
        wanted = set(task_ids)
        return {place: value for place, value in self.states.items() if place[0] in wanted}


def planned_run(collections: Mapping[str, int], *, prefix: str = "", **facts: Any) -> FakeStoredRun:
    """A run whose plan has these collections of one partition, with so many rows."""
    run = FakeStoredRun(prefix=prefix)
    run.add_task("inspect_source", "success", operator="Milvus1xInspectOperator")
    run.add_task("plan", "success")
    run.push("inspect_source", RUN_FACTS, {"job": "M2M", "version": "0.1.0", "target": "Milvus v2.6.0", **facts})
    run.push("plan", "return_value", [PLANNED])
    overviews = [
        CollectionReport(name, f"{name}_2x", UNFINISHED, metric="L2", index="IVF_FLAT", partitions=(_partition(rows),))
        for name, rows in collections.items()
    ]
    run.push("plan", OVERVIEW, [to_json(overview) for overview in overviews])
    return run


def _partition(rows: int) -> PartitionReport:
    return PartitionReport("tag", "partition", live=rows, deleted=1, excluded=0, fingerprint="f" * 32)


def add_load(run: FakeStoredRun, collection: str, rows: int, map_index: int = 0) -> None:
    """A load task that ended."""
    run.add_task("load_partitions", "success", map_index=map_index, minutes=1)
    run.push_group("load_partitions", RESULT, [Loaded(collection, {"partition": rows}, 5.0, "unit")], map_index)


def add_report(run: FakeStoredRun, *reports: CollectionReport, map_index: int = 0, state: str = "success") -> None:
    """A verify task that ended, or that was cleared since."""
    run.add_task("verify_counts", state, map_index=map_index, minutes=2)
    run.push_group("verify_counts", RESULT, reports, map_index)


def add_fault(run: FakeStoredRun, task_id: str, collection: str, text: str, *, state: str = "failed") -> None:
    """A mapped task that failed for a collection, or is to be retried."""
    run.add_task(task_id, state, map_index=0)
    run.push_group(task_id, FAULT, [Fault(collection, text)], 0)


def verified(collection: str, rows: int, **changes: Any) -> CollectionReport:
    """The report of a collection that was verified."""
    part = PartitionReport("tag", "partition", live=rows, deleted=1, excluded=0, loaded=rows, counted=rows)
    return CollectionReport(
        **{
            "collection": collection,
            "target": f"{collection}_2x",
            "status": "verified",
            "action": "created",
            "metric": "L2",
            "target_metric": "L2",
            "index": "IVF_FLAT",
            "target_index": "IVF_FLAT",
            "partitions": (part,),
            "sampled": rows,
        }
        | changes
    )
