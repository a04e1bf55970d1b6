"""The forms that the record of a run can have as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from airflow_provider_milvusdm.archive.csv_form import to_csv
from airflow_provider_milvusdm.archive.html_form import to_html
from airflow_provider_milvusdm.archive.json_form import to_json
from airflow_provider_milvusdm.archive.record import Record


@dataclass(frozen=True)
class Form:
    """How a record is written, and what the file is."""

    write: Callable[[Record], Iterator[str]]
    """Returns the text, in parts."""
    media_type: str


FORMS = {
    "html": Form(to_html, "text/html; charset=utf-8"),
    "csv": Form(to_csv, "text/csv; charset=utf-8"),
    "json": Form(to_json, "application/json"),
}
"""By the ending of the file's name."""


def write_record(record: Record, form: str) -> Iterator[str]:
    """The text of the record in this form, in parts."""
    return FORMS[form].write(record)
