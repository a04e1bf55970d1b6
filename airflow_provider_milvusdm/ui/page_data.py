"""What the Migration page shows, as JSON: totals, and one page of the collections."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from airflow_provider_milvusdm.archive.record import count_totals, describe_verification, list_params, verified_rows
from airflow_provider_milvusdm.report import FAILED, PLANNED, SKIPPED, UNFINISHED, VERIFIED, CollectionReport
from airflow_provider_milvusdm.ui.gather import ENDED, RETRYING, STEPS, FoundFault, Gathered, Work
from airflow_provider_milvusdm.ui.speed import bin_seconds, rows_per_second
from airflow_provider_milvusdm.ui.stored_run import Task

WAITING, LOADING, VERIFYING, IS_RETRIED, STOPPED = "waiting", "loading", "verifying", "retrying", "stopped"
BY_IMPORTANCE = (FAILED, IS_RETRIED, VERIFYING, LOADING, STOPPED, WAITING, PLANNED, SKIPPED, VERIFIED)
"""Statuses of collections, in the order in which the page lists them."""
PAGE, LARGEST_PAGE = 50, 200
LISTED_FAULTS, LISTED_TASKS, LISTED_PARTITIONS, OPENED = 20, 12, 500, 20
"""At most, in one answer."""
NOT_STARTED = ("skipped", "upstream_failed")
AT_WORK = ("running", "deferred", "awaiting_input", RETRYING, "restarting")


@dataclass(frozen=True)
class Wanted:
    """Which collections the page shows."""

    search: str = ""
    status: str = ""
    offset: int = 0
    limit: int = PAGE
    opened: tuple[int, ...] = ()
    """Numbers of the collections whose partitions are shown."""


@dataclass(frozen=True)
class Row:
    """A collection with its status and numbers of rows, as they are now."""

    number: int
    report: CollectionReport
    status: str
    loaded: int
    verified: int
    fault: str

    @cached_property
    def rows(self) -> int:
        """Rows to load."""
        return sum(part.rows for part in self.report.partitions)


class PageData:
    """The answer to one request of the page."""

    def __init__(self, found: Gathered, run_state: str) -> None:
        self.found, self.has_ended = found, run_state in ENDED
        self.faults: dict[str, FoundFault] = {}
        for fault in found.faults:
            self.faults.setdefault(fault.collection, fault)
        self.rows = [self._row(number, report) for number, report in enumerate(found.collections)]

    def as_json(self, wanted: Wanted) -> dict[str, Any]:
        facts = self.found.facts
        return {
            "job": facts.get("job", ""),
            "version": facts.get("version", ""),
            "target": facts.get("target", ""),
            "params": list_params(facts),
            "steps": self._steps(),
            "tasks": self._tasks(),
            "totals": self._totals(),
            "speed": self._speed(),
            "faults": self._faults(),
            "collections": self._collections(wanted),
        }

    def _row(self, number: int, report: CollectionReport) -> Row:
        work = self.found.work.get(report.collection, [])
        rows = sum(part.rows for part in report.partitions)
        loaded, verified = sum(part.loaded for part in report.partitions), verified_rows(report)
        if report.status == UNFINISHED:
            loaded = min(loaded + _done(work, "load", "export"), rows)
            verified = min(_done(work, "verify"), rows)
        status = self._status(report, work, loaded)
        return Row(number, report, status, loaded, verified, self._fault(report))

    def _status(self, report: CollectionReport, work: Sequence[Work], loaded: int) -> str:
        fault = self.faults.get(report.collection)
        if report.status != UNFINISHED:
            return report.status
        if report.faults or (fault and not fault.is_retried):
            return FAILED
        if self.has_ended:
            return STOPPED
        if fault:
            return IS_RETRIED
        if any(part.step == "verify" for part in work):
            return VERIFYING
        return LOADING if loaded or work else WAITING

    def _fault(self, report: CollectionReport) -> str:
        if report.faults:
            return report.faults[0]
        fault = self.faults.get(report.collection)
        return fault.text if fault and report.status in (UNFINISHED, FAILED) else ""

    def _steps(self) -> list[dict[str, Any]]:
        counts: dict[str, Counter[str]] = {}
        for task in self.found.tasks:
            counts.setdefault(task.task_id, Counter())[_kind(task)] += 1
        known = [step for step in STEPS if step in counts]
        return [{"task": step, **counts[step]} for step in [*known, *sorted(counts.keys() - set(STEPS))]]

    def _tasks(self) -> dict[str, Any]:
        """Tasks that are at work, and tasks that failed without saying why."""
        explained = {(fault.task_id, fault.map_index) for fault in self.found.faults}
        working = [task for task in self.found.tasks if task.state in AT_WORK]
        silent = [
            task
            for task in self.found.tasks
            if task.state == "failed" and (task.task_id, task.map_index) not in explained and task.task_id != "report"
        ]
        return {
            "working": len(working),
            "listed": [_task(task) for task in working[:LISTED_TASKS]],
            "silent": [_task(task) for task in silent[:LISTED_TASKS]],
        }

    def _totals(self) -> dict[str, Any]:
        """As of an archive, and what running tasks have loaded and verified by now."""
        return count_totals([row.report for row in self.rows]) | {
            "statuses": Counter(row.status for row in self.rows),
            "rows": sum(row.rows for row in self.rows),
            "loaded": sum(row.loaded for row in self.rows),
            "verified": sum(row.verified for row in self.rows),
        }

    def _speed(self) -> dict[str, Any] | None:
        spans = [*self.found.loading, *self.found.verifying]
        if not spans:
            return None
        start = min(span.start for span in spans)
        stop = max(span.stop for span in spans) if self.has_ended else time.time()
        return {
            "start": start,
            "seconds": bin_seconds(start, stop),
            "loaded": rows_per_second(self.found.loading, start, stop),
            "verified": rows_per_second(self.found.verifying, start, stop),
        }

    def _faults(self) -> dict[str, Any]:
        """Those of the steps first, then one for each collection."""
        of_steps = [
            _fault(fault.task_id, "", fault.text, fault.is_retried)
            for fault in self.found.faults
            if not fault.collection
        ]
        failed = [row for row in self.rows if row.fault]
        of_collections = [
            _fault("", row.report.collection, row.fault, row.status == IS_RETRIED) for row in failed[:LISTED_FAULTS]
        ]
        return {"count": len(of_steps) + len(failed), "listed": [*of_steps, *of_collections][:LISTED_FAULTS]}

    def _collections(self, wanted: Wanted) -> dict[str, Any]:
        search = wanted.search.casefold()
        matching = [
            row
            for row in sorted(self.rows, key=lambda row: BY_IMPORTANCE.index(row.status))
            if (not wanted.status or row.status == wanted.status)
            and (search in row.report.collection.casefold() or search in row.report.target.casefold())
        ]
        limit = min(wanted.limit, LARGEST_PAGE)
        last_page = max(len(matching) - 1, 0) // limit * limit
        offset = wanted.offset if wanted.offset < len(matching) else last_page  # some may not match any more
        shown = matching[offset : offset + limit]
        opened = set(wanted.opened[:OPENED])
        return {
            "matching": len(matching),
            "offset": offset,
            "rows": [_summary(row) | (_details(row) if row.number in opened else {}) for row in shown],
        }


def _done(work: Iterable[Work], *steps: str) -> int:
    return sum(part.done for part in work if part.step in steps)


def _kind(task: Task) -> str:
    if task.state == "success":
        return "done"
    if task.state in NOT_STARTED:
        return "skipped"
    if task.state == "failed":
        return "failed"
    return "working" if task.state in AT_WORK else "waiting"


def _task(task: Task) -> dict[str, Any]:
    return {
        "task": task.task_id,
        "map_index": task.map_index,
        "label": task.label,
        "state": task.state,
        "try": task.try_number,
        "started": task.started.isoformat() if task.started else "",
    }


def _fault(step: str, collection: str, text: str, is_retried: bool) -> dict[str, Any]:
    return {"step": step, "collection": collection, "text": text, "is_retried": is_retried}


def _summary(row: Row) -> dict[str, Any]:
    report = row.report
    return {
        "number": row.number,
        "name": report.collection,
        "target": report.target,
        "status": row.status,
        "action": report.action,
        "partitions": len(report.partitions),
        "live": sum(part.live for part in report.partitions),
        "rows": row.rows,
        "excluded": sum(part.excluded for part in report.partitions),
        "loaded": row.loaded,
        "verified": row.verified,
        "rows_per_second": report.rows_per_second,
    }


def _details(row: Row) -> dict[str, Any]:
    report = row.report
    return {
        "details": {
            "metric": report.metric,
            "target_metric": report.target_metric,
            "index": report.index,
            "target_index": report.target_index,
            "verification": describe_verification(report),
            "search": str(report.search) if report.search else "",
            "notes": report.notes,
            "faults": report.faults or ([row.fault] if row.fault else []),
            "partitions": [
                asdict(part) | {"rows": part.rows, "verified": verified_rows(report, part)}
                for part in report.partitions[:LISTED_PARTITIONS]
            ],
        }
    }
