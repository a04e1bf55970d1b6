"""The record of a run for an archive, of what the run has left in Airflow."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_milvusdm.archive.record import Record, record_run
from airflow_provider_milvusdm.report import FAILED, UNFINISHED, CollectionReport
from airflow_provider_milvusdm.ui.gather import ENDED, Gathered
from airflow_provider_milvusdm.ui.stored_run import StoredRun

NOT_VERIFIED = "not verified: the run ended before"


def read_record(stored: StoredRun, found: Gathered) -> Record:
    """The record of what was gathered. A collection that was not verified when the run ended has failed."""
    run = record_run(
        found.facts,
        dag_id=stored.dag_id,
        run_id=stored.run_id,
        state=stored.state,
        started_by=stored.started_by,
        started=stored.started,
        ended=stored.ended,
    )
    faults = tuple(fault.text for fault in found.faults if not fault.collection)
    return Record(run, tuple(_completed(report, found, stored.state) for report in found.collections), faults)


def _completed(report: CollectionReport, found: Gathered, state: str) -> CollectionReport:
    if report.status != UNFINISHED or state not in ENDED:
        return report
    of_it = [fault.text for fault in found.faults if fault.collection == report.collection]
    return replace(report, status=FAILED, faults=report.faults or tuple(of_it) or (NOT_VERIFIED,))
