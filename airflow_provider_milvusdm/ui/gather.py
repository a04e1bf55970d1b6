"""What a run has left in Airflow so far, as one value: its collections, faults, tasks and progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_milvusdm.archive.record import verified_rows
from airflow_provider_milvusdm.manifests import from_json
from airflow_provider_milvusdm.operators.base import FAULT
from airflow_provider_milvusdm.operators.group import RESULT
from airflow_provider_milvusdm.operators.notes import PROGRESS
from airflow_provider_milvusdm.operators.overview import OVERVIEW, RUN_FACTS
from airflow_provider_milvusdm.operators.xcom import input_of
from airflow_provider_milvusdm.report import CollectionReport, PartitionReport
from airflow_provider_milvusdm.ui.speed import Span, cover
from airflow_provider_milvusdm.ui.stored_run import StoredRun, Task

INSPECT, PLAN, VERIFY, REPORT = "inspect_source", "plan", "verify_counts", "report"
PREPARE = ("approve_plan", "create_collection", "units")
LOAD, EXPORT = LOADS = ("load_partitions", "export_partitions")
STEPS = (INSPECT, "resolve_ids", PLAN, *PREPARE, *LOADS, "check_source", VERIFY, "publish_assets", REPORT)
"""Task ids of the chain, in its order."""
RETURNED = "return_value"
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
RETRYING = "up_for_retry"
NOT_RUN = ("", "scheduled", "queued", "skipped", "upstream_failed")
"""States of a task that has not run since it was cleared; Airflow keeps what it pushed before until it starts, and its
task state after that."""


@dataclass(frozen=True)
class FoundFault:
    """Why a task failed; of one collection, or of the step if ``collection`` is empty."""

    task_id: str
    map_index: int
    collection: str
    text: str
    is_retried: bool = False


@dataclass(frozen=True)
class Work:
    """How far a running step of one collection is, as the task last noted it."""

    step: str
    done: int
    total: int


@dataclass
class Gathered:
    """All of it. ``collections`` have the status ``unfinished`` until they are verified."""

    tasks: list[Task]
    facts: Mapping[str, Any] = field(default_factory=dict)
    collections: list[CollectionReport] = field(default_factory=list)
    faults: list[FoundFault] = field(default_factory=list)
    work: dict[str, list[Work]] = field(default_factory=dict)
    """By collection."""
    loading: list[Span] = field(default_factory=list)
    verifying: list[Span] = field(default_factory=list)


def list_migrations(tasks: Iterable[Task]) -> list[str]:
    """Prefixes of the task ids of each migration of a run: ``""``, or the ids of its task groups with a dot."""
    found = {task.task_id for task in tasks if task.operator.endswith("InspectOperator")}
    return sorted(task_id.removesuffix(INSPECT) for task_id in found if task_id.endswith(INSPECT))


def gather(stored: StoredRun, tasks: Sequence[Task], prefix: str = "") -> Gathered:
    """Gather what is known of the migration whose task ids have this prefix, and not the prefix of another one."""
    others = tuple(other for other in list_migrations(tasks) if other.startswith(prefix) and other != prefix)
    own = [
        replace(task, task_id=task.task_id.removeprefix(prefix))
        for task in tasks
        if task.task_id.startswith(prefix) and not task.task_id.startswith(others)
    ]
    return _Gathering(stored, prefix, own).run()


class _Gathering:
    def __init__(self, stored: StoredRun, prefix: str, tasks: list[Task]) -> None:
        self.stored, self.prefix = stored, prefix
        self.tasks = {(task.task_id, task.map_index): task for task in tasks if task.state != "removed"}
        self.found = Gathered(list(self.tasks.values()))
        self.loaded: Counter[tuple[str, str, str]] = Counter()
        """Rows by task id, collection, and target partition, or partition if they are exported."""
        self.noted: dict[tuple[str, int], list[Span]] = {}

    def run(self) -> Gathered:
        facts: dict[str, Any] = self._one(INSPECT, RUN_FACTS) or {}
        overviews = self._read_overviews()
        self.inputs = {input_of(reference) for reference in self._one(PLAN, RETURNED) or []}
        self._read_notes()
        self._read_loads()
        reports = self._read_reports()
        self.found.facts = facts | _target(facts, reports.values())
        self.found.faults = self._read_faults()
        self.found.collections = [self._merge(known, reports.get(known.collection)) for known in overviews]
        return self.found

    def _read_overviews(self) -> list[CollectionReport]:
        """Those of the plan, and the partitions that the inspect step found where a collection was not resolved."""
        inspected = _join_groups(self._reports(self._one(INSPECT, OVERVIEW) or []))
        planned = self._reports(self._one(PLAN, OVERVIEW) or [])
        partitions = {report.collection: report.partitions for report in inspected}
        return [
            report if report.partitions else replace(report, partitions=partitions.get(report.collection, ()))
            for report in planned or inspected
        ]

    def _one(self, task_id: str, key: str) -> Any:
        return self._pushed((task_id,), key).get((task_id, -1))

    def _pushed(self, task_ids: Iterable[str], key: str) -> dict[tuple[str, int], Any]:
        """What the tasks of this migration pushed, by ids without the prefix; not what was cleared since."""
        pushed = self.stored.xcoms([self.prefix + task_id for task_id in task_ids], key)
        places = {(task_id.removeprefix(self.prefix), index): value for (task_id, index), value in pushed.items()}
        has_run = {place for place, task in self.tasks.items() if task.state not in NOT_RUN}
        return {place: value for place, value in places.items() if place in has_run}

    def _results(self, task_ids: Iterable[str]) -> Iterable[tuple[Task, list[Any]]]:
        """The results of mapped tasks, without those of inputs that the plan no longer has."""
        references = [found for found in self._pushed(task_ids, RESULT).values() if input_of(found) in self.inputs]
        for reference, group in self.stored.groups(references):
            yield self.tasks[reference["task"].removeprefix(self.prefix), reference.get("map_index", -1)], group

    def _read_notes(self) -> None:
        """How far running tasks are; of those that ended only the spans are of interest."""
        stored = self.stored.task_state([self.prefix + task_id for task_id in (*LOADS, VERIFY)], PROGRESS)
        for (task_id, index), note in stored.items():
            place = task_id.removeprefix(self.prefix), index
            task = self.tasks.get(place)
            if task is None or not isinstance(note, dict) or note.get("max_tries", 0) != task.max_tries:
                continue
            self.noted[place] = [Span(*span) for span in note["spans"]]
            if task.state in ENDED:
                continue
            for collection, step, done, total in note["work"]:
                self.found.work.setdefault(collection, []).append(Work(step, done, total))

    def _read_loads(self) -> None:
        rows: Counter[tuple[str, int]] = Counter()
        for task, group in self._results(LOADS):
            for collection, partition, count in _list_loaded(group):
                self.loaded[task.task_id, collection, partition] += count
                rows[task.task_id, task.map_index] += count
        self.found.loading = self._spans(LOADS, rows)

    def _read_reports(self) -> dict[str, CollectionReport]:
        reports: dict[str, CollectionReport] = {}
        rows: Counter[tuple[str, int]] = Counter()
        for task, group in self._results((VERIFY,)):
            found = self._reports(group)
            reports |= {report.collection: report for report in found}
            rows[task.task_id, task.map_index] += sum(map(verified_rows, found))
        self.found.verifying = self._spans((VERIFY,), rows)
        return reports

    def _spans(self, task_ids: Container[str], rows: Mapping[tuple[str, int], int]) -> list[Span]:
        """The spans of these tasks: what they noted, and the rest of the rows of those that ended."""
        places = [place for place in self.tasks if place[0] in task_ids]
        return [span for place in places for span in _spans(self.tasks[place], self.noted.get(place, ()), rows[place])]

    def _reports(self, values: Iterable[Any]) -> list[CollectionReport]:
        return [from_json(CollectionReport, value) for value in values]

    def _read_faults(self) -> list[FoundFault]:
        """In the order of the steps; the report step repeats those of the steps before it."""
        pushed = self._pushed({task_id for task_id, _ in self.tasks}, FAULT).values()
        faults = []
        for reference, group in self.stored.groups(pushed):
            task = self.tasks[reference["task"].removeprefix(self.prefix), reference.get("map_index", -1)]
            faults += [
                FoundFault(task.task_id, task.map_index, fault["collection"], fault["fault"], task.state == RETRYING)
                for fault in group
                if task.state != "success"
            ]
        faults.sort(key=lambda fault: (_step_number(fault.task_id), fault.map_index))
        return [fault for fault in faults if fault.task_id != REPORT] or faults

    def _merge(self, known: CollectionReport, report: CollectionReport | None) -> CollectionReport:
        """What is known of a collection: of one that was verified its report, with the fingerprints of the overview.

        A report without partitions is of a collection that was not created, or not loaded as a whole.
        """
        loaded = tuple(replace(part, loaded=self._loaded(known.collection, part)) for part in known.partitions)
        if report is None:
            return replace(known, partitions=loaded)
        if not report.partitions:
            return replace(report, partitions=loaded, metric=known.metric, index=known.index)
        fingerprints = {part.partition: part.fingerprint for part in known.partitions}
        parts = tuple(replace(part, fingerprint=fingerprints.get(part.partition, "")) for part in report.partitions)
        return replace(report, partitions=parts)

    def _loaded(self, collection: str, part: PartitionReport) -> int:
        return self.loaded[LOAD, collection, part.target] + self.loaded[EXPORT, collection, part.partition]


def _target(facts: Mapping[str, Any], reports: Iterable[CollectionReport]) -> dict[str, Any]:
    """Where collections were verified, if the connection was edited after the first task had reached the target."""
    addresses = {report.address for report in reports} - {"", facts.get("address", "")}
    return {"target": ", ".join(sorted(addresses))} if addresses else {}


def _join_groups(overviews: Iterable[CollectionReport]) -> list[CollectionReport]:
    """One overview of each collection: the inspect step has one for some of its partitions, or for a share of them."""
    groups: dict[str, list[CollectionReport]] = {}
    for overview in overviews:
        groups.setdefault(overview.collection, []).append(overview)
    return [
        replace(
            parts[0],
            partitions=_join_shares(part for overview in parts for part in overview.partitions),
            notes=tuple(dict.fromkeys(note for overview in parts for note in overview.notes)),
            faults=tuple(fault for overview in parts for fault in overview.faults),
        )
        for parts in groups.values()
    ]


def _join_shares(parts: Iterable[PartitionReport]) -> tuple[PartitionReport, ...]:
    """Each partition once: its shares have the rows of the segments that begin in them."""
    joined: dict[str, PartitionReport] = {}
    for part in parts:
        live = joined[part.partition].live if part.partition in joined else 0
        joined[part.partition] = replace(part, live=live + part.live)
    return tuple(joined.values())


def _list_loaded(group: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, int]]:
    """Collection, partition and rows of load units, and of exported files."""
    for result in group:
        rows = result["rows"]
        for partition, count in rows.items() if isinstance(rows, dict) else [(result["partition"], rows)]:
            yield result["collection"], partition, count


def _spans(task: Task, noted: Sequence[Span], rows: int) -> list[Span]:
    if task.started is None or task.ended is None:
        return list(noted)
    return cover(noted, task.started.timestamp(), task.ended.timestamp(), rows)


def _step_number(task_id: str) -> int:
    return STEPS.index(task_id) if task_id in STEPS else len(STEPS)
