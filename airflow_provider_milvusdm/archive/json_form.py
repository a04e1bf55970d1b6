"""The record of a run as JSON, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from airflow_provider_milvusdm.archive.record import Record, describe_verification, verified_rows
from airflow_provider_milvusdm.report import CollectionReport


def to_json(record: Record) -> Iterator[str]:
    """The text, in parts."""
    yield json.dumps(to_values(record), indent=2, ensure_ascii=False) + "\n"


def to_values(record: Record) -> dict[str, Any]:
    """The record as JSON values."""
    return {
        "run": asdict(record.run),
        "totals": record.totals | {"statuses": dict(record.statuses)},
        "faults": list(record.faults),
        "collections": [_collection(report) for report in record.collections],
    }


def _collection(report: CollectionReport) -> dict[str, Any]:
    return asdict(report) | {
        "verification": describe_verification(report),
        "verified": verified_rows(report),
        "partitions": [asdict(part) | {"verified": verified_rows(report, part)} for part in report.partitions],
    }
