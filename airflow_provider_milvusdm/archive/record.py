"""The record of a run for an archive: who moved what, when, and how it was verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_milvusdm.config.form import CHOICES, SECTIONS
from airflow_provider_milvusdm.config.jobs import JOBS
from airflow_provider_milvusdm.report import VERIFIED, CollectionReport, PartitionReport

EMPTY: tuple[Any, ...] = (None, "", {}, [])
POLICIES = ("mode", "partitions", *SECTIONS["Policy"])
"""Params that decide which rows are moved, what happens to the target, and how it is verified."""


@dataclass(frozen=True)
class RunRecord:
    """The run: who started it and when, with what, and how it ended. Times are ISO 8601, empty if unknown."""

    dag_id: str
    run_id: str
    state: str
    started_by: str
    """The user; or how the run was started, such as ``scheduled``."""
    started: str
    ended: str
    job: str = ""
    version: str = ""
    """Of this package."""
    source: str = ""
    """The path or URL of the source, without a login."""
    target: str = ""
    """The server and its database, the file or the folder, without a login."""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A run with all of its collections."""

    run: RunRecord
    collections: tuple[CollectionReport, ...] = ()
    faults: tuple[str, ...] = ()
    """Why steps failed that are not of one collection."""

    @property
    def totals(self) -> dict[str, int]:
        """Numbers of collections, partitions and rows."""
        return count_totals(self.collections)

    @property
    def statuses(self) -> Mapping[str, int]:
        """Number of collections by status."""
        return Counter(report.status for report in self.collections)


def record_run(
    facts: Mapping[str, Any], *, dag_id: str, run_id: str, state: str, started_by: str, started: str, ended: str
) -> RunRecord:
    """The run, with the :func:`facts <airflow_provider_milvusdm.operators.overview.run_facts>` of its first task."""
    params = facts.get("params", {})
    job = facts.get("job", "")
    paths = [str(params[name]) for name in ("source_milvus_path", "data_path", "data_dir") if params.get(name)]
    return RunRecord(
        dag_id,
        run_id,
        state,
        started_by,
        started,
        ended,
        job=job,
        version=facts.get("version", ""),
        source=next(iter(paths), ""),
        target=facts.get("target") or (str(params.get("data_dir", "")) if job == "M2H" else ""),
        params=params,
    )


def count_totals(reports: Sequence[CollectionReport]) -> dict[str, int]:
    """Numbers of collections, partitions and rows."""
    parts = [part for report in reports for part in report.partitions]
    return {
        "collections": len(reports),
        "partitions": len(parts),
        "live": sum(part.live for part in parts),
        "deleted": sum(part.deleted for part in parts),
        "excluded": sum(part.excluded for part in parts),
        "loaded": sum(part.loaded for part in parts),
        "verified": sum(map(verified_rows, reports)),
        "compared": sum(report.sampled for report in reports),
    }


def list_params(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The params of a run for people: their titles, the labels of their values, and whether they are policies."""
    job = JOBS.get(facts.get("job", ""))
    titles = {name: model_field.title for name, model_field in job.model_fields.items()} if job else {}
    params = {name: _without_nulls(value) for name, value in facts.get("params", {}).items()}
    return [
        {
            "name": name,
            "title": titles.get(name) or name,
            "value": CHOICES.get(name, {}).get(value, value) if isinstance(value, str) else value,
            "is_policy": name in POLICIES,
        }
        for name, value in params.items()
        if value not in EMPTY
    ]


def _without_nulls(value: Any) -> Any:
    """Of an object with a key for each setting, those that are set."""
    if not isinstance(value, Mapping):
        return value
    return {name: set_value for name, set_value in value.items() if set_value not in EMPTY}


def verified_rows(report: CollectionReport, partition: PartitionReport | None = None) -> int:
    """Rows of the source that were found in the target: of a verified collection, or of one of its partitions."""
    if report.status != VERIFIED:
        return 0
    parts = report.partitions if partition is None else (partition,)
    return sum(min(part.counted, part.rows) for part in parts if part.counted is not None and not part.left_alone)


def describe_verification(report: CollectionReport) -> str:
    """How a collection was verified."""
    if report.status != VERIFIED:
        return ""
    loaded = [part for part in report.partitions if not part.left_alone]
    if any(part.counted is None for part in loaded):
        return "not verified: what the target acknowledged counts as loaded"
    rows = sum(part.rows for part in loaded)
    which = "" if len(loaded) == len(report.partitions) else " of the partitions that were loaded"
    if report.sampled and report.sampled >= rows:
        return f"all {rows:,} rows{which} counted, and compared bit for bit"
    if report.sampled:
        return f"all {rows:,} rows{which} counted, and {report.sampled:,} of them compared bit for bit"
    return f"all {rows:,} rows{which} counted"
