"""The record of a run for an archive: who moved what, when, and how it was verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_milvusdm.config.form import CHOICES, SECTIONS
from airflow_provider_milvusdm.config.jobs import JOBS
from airflow_provider_milvusdm.report import VERIFIED, CollectionReport, PartitionReport

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
    target: str = ""
    """The server and its database, or the file, as the first task found it."""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A run with all of its collections."""

    run: RunRecord
    collections: tuple[CollectionReport, ...] = ()
    faults: tuple[str, ...] = ()
    """Why steps failed that are not of one collection."""


def list_params(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The params of a run for people: their titles, the labels of their values, and whether they are policies."""
    job = JOBS.get(facts.get("job", ""))
    titles = {name: model_field.title for name, model_field in job.model_fields.items()} if job else {}
    return [
        {
            "name": name,
            "title": titles.get(name) or name,
            "value": CHOICES.get(name, {}).get(value, value) if isinstance(value, str) else value,
            "is_policy": name in POLICIES,
        }
        for name, value in facts.get("params", {}).items()
        if value not in (None, "", {}, [])
    ]


def verified_rows(report: CollectionReport, partition: PartitionReport | None = None) -> int:
    """Rows of the source that were found in the target: of a verified collection, or of one of its partitions."""
    if report.status != VERIFIED:
        return 0
    parts = report.partitions if partition is None else (partition,)
    return sum(min(part.counted, part.rows) for part in parts if part.counted is not None)


def describe_verification(report: CollectionReport) -> str:
    """How a collection was verified."""
    if report.status != VERIFIED:
        return ""
    rows = sum(part.rows for part in report.partitions)
    if any(part.counted is None for part in report.partitions):
        return "not verified: what the target acknowledged counts as loaded"
    if report.sampled and report.sampled >= rows:
        return f"all {rows:,} rows counted, and compared bit for bit"
    if report.sampled:
        return f"all {rows:,} rows counted, and {report.sampled:,} of them compared bit for bit"
    return f"all {rows:,} rows counted"
