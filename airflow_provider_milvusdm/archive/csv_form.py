"""The record of a run as CSV, a line for each partition, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

from airflow_provider_milvusdm.archive.record import Record, RunRecord, describe_verification, verified_rows
from airflow_provider_milvusdm.report import SKIPPED, CollectionReport, PartitionReport

RUN = ("dag_id", "run_id", "state", "started_by", "started", "ended", "version", "job", "source", "target")
COLLECTION = ("status", "action", "metric", "target_metric", "index", "target_index")
PARTITION = ("live", "deleted", "excluded", "before", "loaded", "counted")
HEADINGS = (
    *(f"run_{name}" if name in ("state", "source", "target") else name for name in RUN),
    "collection",
    "target_collection",
    "partition",
    "target_partition",
    *COLLECTION,
    *PARTITION,
    "verified",
    "fingerprint",
    "verification",
    "faults",
    "notes",
)
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""A spreadsheet takes a cell that begins with one of these for a formula."""
NO_PARTITION = PartitionReport("", "", 0, 0, 0)


def to_csv(record: Record) -> Iterator[str]:
    """The text, in parts, of RFC 4180."""
    yield _line(HEADINGS)
    for report in record.collections:
        for part in report.partitions or (NO_PARTITION,):
            yield _line(_cells(record.run, report, part))


def _cells(run: RunRecord, report: CollectionReport, part: PartitionReport) -> list[object]:
    if part.left_alone:
        report = replace(report, status=SKIPPED)
    return [
        *(getattr(run, name) for name in RUN),
        report.collection,
        report.target,
        part.partition,
        part.target,
        *(getattr(report, name) for name in COLLECTION),
        *(getattr(part, name) for name in PARTITION),
        verified_rows(report, part),
        part.fingerprint,
        describe_verification(report),
        "\n".join(report.faults),
        "\n".join(report.notes),
    ]


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(map(_guard, cells))
    return text.getvalue()


def _guard(cell: object) -> object:
    """A text that a spreadsheet would calculate, as text; names and tags in a source can be chosen by anybody."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
