"""The record of a run as one HTML file, for people. It needs no other file, and runs no script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from airflow_provider_milvusdm.archive.record import Record, describe_verification, list_params, verified_rows
from airflow_provider_milvusdm.exceptions import CURE, split_cure
from airflow_provider_milvusdm.report import FAILED, CollectionReport, PartitionReport

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8885; --muted: #6b7785; --good: #1f8a5b; --bad: #c0392b; }
body { font: 14px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 24px auto; padding: 0 20px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 28px 0 8px; overflow-wrap: anywhere; }
.status { font-weight: 600; color: var(--muted); }
.verified, .success { color: var(--good); } .failed { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 18px; margin: 8px 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: 8px 0; }
th, td { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--muted); } .n { text-align: right; font-variant-numeric: tabular-nums; }
.fault { border-left: 3px solid var(--bad); padding-left: 10px; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-size: 12px; } section { break-inside: avoid-page; border-top: 1px solid var(--line); }
"""
NUMBERS = ("live", "deleted", "excluded", "before", "loaded", "counted")
HEADINGS = ("Partition", "In the target", "Live", "Deleted", "Left out", "Before", "Loaded", "Counted", "Verified")


def to_html(record: Record) -> Iterator[str]:
    """The text, in parts."""
    run = record.run
    title = escape(f"Migration {run.dag_id} {run.run_id}")
    yield (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head><body>\n'
        f'<h1>Report of a migration <span class="status {escape(run.state)}">{escape(run.state)}</span></h1>\n'
    )
    yield _facts(_run_facts(record))
    for fault in record.faults:
        yield _fault(fault)
    yield "<h2>Params</h2>\n"
    yield _facts(
        (param["title"], _text(param["value"])) for param in list_params({"job": run.job, "params": run.params})
    )
    yield from map(_collection, sorted(record.collections, key=lambda report: report.status != FAILED))
    yield "</body></html>\n"


def _run_facts(record: Record) -> Iterator[tuple[str, str]]:
    run, totals = record.run, record.totals
    statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(record.statuses.items()))
    yield "Run", f"{run.dag_id}, {run.run_id}"
    yield "Started by", run.started_by
    yield "Started", run.started
    yield "Ended", run.ended or "not yet"
    yield "Job", run.job
    yield "Source", run.source
    yield "Target", run.target
    yield "Package", f"airflow-provider-milvusdm {run.version}"
    yield "Collections", f"{totals['collections']:,}: {statuses}" if statuses else "none"
    yield "Partitions", f"{totals['partitions']:,}"
    yield "Rows in the source", f"{totals['live']:,} live, {totals['deleted']:,} deleted"
    yield "Left out by policies", f"{totals['excluded']:,}"
    yield "Loaded", f"{totals['loaded']:,}"
    yield "Verified", f"{totals['verified']:,}, of which {totals['compared']:,} were compared bit for bit"


def _collection(report: CollectionReport) -> str:
    facts = [
        ("Target", report.target),
        ("Action", report.action),
        ("Metric", f"{report.metric} → {report.target_metric}" if report.target_metric else report.metric),
        ("Index", f"{report.index} → {report.target_index}" if report.target_index else report.index),
        ("Verification", describe_verification(report)),
        ("Search", str(report.search) if report.search else ""),
        *(("Note", note) for note in report.notes),
    ]
    status = f'<span class="status {escape(report.status)}">{escape(report.status)}</span>'
    return (
        f"<section><h2>{escape(report.collection)} {status}</h2>\n"
        + "".join(map(_fault, report.faults))
        + _facts(facts)
        + (_table(report) if report.partitions else "")
        + "</section>\n"
    )


def _table(report: CollectionReport) -> str:
    heads = "".join(f'<th scope="col"{_aligned(place)}>{head}</th>' for place, head in enumerate(HEADINGS))
    rows = "\n".join(_row(report, part) for part in report.partitions)
    return f'<table><thead><tr>{heads}<th scope="col">Fingerprint</th></tr></thead><tbody>\n{rows}\n</tbody></table>\n'


def _row(report: CollectionReport, part: PartitionReport) -> str:
    numbers = [*(getattr(part, name) for name in NUMBERS), verified_rows(report, part)]
    cells = "".join(f'<td class="n">{"–" if number is None else f"{number:,}"}</td>' for number in numbers)
    names = f'<th scope="row">{escape(part.partition)}</th><td>{escape(part.target)}</td>'
    return f"<tr>{names}{cells}<td><code>{escape(part.fingerprint)}</code></td></tr>"


def _aligned(place: int) -> str:
    return ' class="n"' if place > 1 else ""


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    lines = "\n".join(f"<dt>{escape(title)}</dt><dd>{escape(text)}</dd>" for title, text in facts if text)
    return f"<dl>\n{lines}\n</dl>\n"


def _fault(fault: str) -> str:
    """The lines of a fault, each with its cure below it."""
    lines = map(split_cure, fault.splitlines())
    return "".join(f'<p class="fault">{escape(text)}{_cure(cure)}</p>\n' for text, cure in lines)


def _cure(cure: str) -> str:
    return f"<br><b>{escape(CURE)}</b>{escape(cure)}" if cure else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
