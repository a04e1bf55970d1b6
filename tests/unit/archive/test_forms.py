"""The record of a run as a file for an archive."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from typing import Any

import pytest

from airflow_provider_milvusdm.archive.forms import FORMS, write_record
from airflow_provider_milvusdm.archive.record import Record, describe_verification, record_run, verified_rows
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.report import CollectionReport, PartitionReport
from airflow_provider_milvusdm.ui.gather import gather
from airflow_provider_milvusdm.ui.read_record import read_record
from tests.support.stored_runs import add_load, add_report, planned_run, verified

HOSTILE = [
    '<script>alert("1")</script>',
    "=1+2",
    "+1",
    "-1",
    "@SUM(A1)",
    "＝1+2",
    "\t=1",
    "'quoted' \"name\"",
    "n" * 255,
    "名前",
]
FORMULAS = "=＝+-@\t"
"""A cell that begins with one of these becomes a formula."""


def record_of(*reports: CollectionReport, **facts: Any) -> Record:
    run = record_run(
        {"job": "M2M", "version": "0.1.0", "target": "Milvus v2.6.0", "params": {"source_milvus_path": "/data"}}
        | facts,
        dag_id="milvusdm_m2m",
        run_id="manual__1",
        state="success",
        started_by="ada",
        started="2026-11-30T09:00:00+00:00",
        ended="2026-11-30T09:10:00+00:00",
    )
    return Record(run, reports)


def written(record: Record, form: str) -> str:
    return "".join(write_record(record, form))


def read_csv(record: Record) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(written(record, "csv"), newline="")))


class Text(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_says_who_moved_what_when_and_how_it_was_verified(form: str) -> None:
    text = written(record_of(verified("news", 1234)), form)
    for fact in ("ada", "milvusdm_m2m", "manual__1", "2026-11-30T09:00:00", "0.1.0", "/data", "Milvus v2.6.0", "news"):
        assert fact in text
    assert "all 1,234 rows counted, and compared bit for bit" in text


def test_a_cure_is_shown_below_its_fault() -> None:
    fault = str(TargetError("it does not fit", found="<b>", cure="Use another name."))
    record = record_of(CollectionReport("news", "news", faults=(f"{fault}\nanother fault",)))
    assert (
        '<p class="fault">It does not fit. Found &lt;b&gt;.<br><b>What to do: </b>Use another name.</p>\n'
        '<p class="fault">another fault</p>'
    ) in written(record, "html")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_a_tag_or_a_formula(name: str) -> None:
    part = PartitionReport(name, "p", 1, 0, 0, 1, counted=1)
    record = record_of(verified(name, 1, partitions=(part,), notes=(name,)))
    page = Text(written(record, "html"))
    assert "script" not in page.tags
    assert not page.links
    assert name in "".join(page.text)
    assert json.loads(written(record, "json"))["collections"][0]["collection"] == name
    [line] = read_csv(record)
    for cell in ("collection", "partition", "notes"):
        assert line[cell].removeprefix("'" if name[0] in FORMULAS else "") == name
        assert line[cell][0] not in FORMULAS


def test_csv_has_a_line_for_each_partition_and_one_for_a_collection_without_any() -> None:
    parts = tuple(PartitionReport(tag, tag, 10, 2, 1, 9, 0, 9, "abc") for tag in ("a", "b"))
    failed = CollectionReport("lost", "lost", faults=("first", "second"))
    lines = read_csv(record_of(verified("news", 18, partitions=parts), failed))
    assert [(line["collection"], line["partition"]) for line in lines] == [("news", "a"), ("news", "b"), ("lost", "")]
    numbers = ("live", "deleted", "excluded", "loaded", "counted", "verified", "fingerprint")
    assert [lines[0][name] for name in numbers] == ["10", "2", "1", "9", "9", "9", "abc"]
    assert lines[2]["faults"] == "first\nsecond"
    assert lines[2]["status"] == "failed"


def test_the_html_file_needs_no_other_file_and_lists_failed_collections_first() -> None:
    record = record_of(verified("good", 1), CollectionReport("bad", "bad", faults=("lost",)))
    text = written(record, "html")
    page = Text(text)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe"})
    assert text.index(">bad ") < text.index(">good ")


def test_a_record_has_every_collection_with_the_fingerprints_of_its_rows() -> None:
    run = planned_run({"news": 10, "lost": 20})
    add_load(run, "news", 10)
    add_report(run, verified("news", 10))
    run.state = "failed"
    record = read_record(run, gather(run, run.tasks()))  # type: ignore[arg-type]
    assert {report.collection: report.status for report in record.collections} == {"news": "verified", "lost": "failed"}
    assert [part.fingerprint for report in record.collections for part in report.partitions] == ["f" * 32] * 2
    assert record.collections[1].faults == ("not verified: the run ended before",)


LOADED = PartitionReport("a", "a", 6, 0, 0, loaded=6, counted=6)
LEFT_ALONE = PartitionReport("b", "b", 20, 0, 0, counted=5, left_alone=True)


def test_rows_of_a_partition_that_was_left_alone_are_not_verified() -> None:
    report = verified("news", 0, partitions=(LOADED, LEFT_ALONE))
    assert [verified_rows(report, part) for part in report.partitions] == [6, 0]
    assert verified_rows(report) == 6
    lines = read_csv(record_of(report))
    assert [(line["status"], line["verified"], line["verification"]) for line in lines] == [
        ("verified", "6", "all 6 rows of the partitions that were loaded counted"),
        ("skipped", "0", ""),
    ]


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({"sampled": 10}, "all 10 rows counted, and compared bit for bit"),
        ({"sampled": 3}, "all 10 rows counted, and 3 of them compared bit for bit"),
        ({"sampled": 0}, "all 10 rows counted"),
        (
            {"partitions": (PartitionReport("tag", "partition", 10, 0, 0, 10),)},
            "not verified: what the target acknowledged counts as loaded",
        ),
        ({"partitions": (LOADED, LEFT_ALONE), "sampled": 0}, "all 6 rows of the partitions that were loaded counted"),
        (
            {"partitions": (LOADED, LEFT_ALONE), "sampled": 6},
            "all 6 rows of the partitions that were loaded counted, and compared bit for bit",
        ),
        ({"status": "skipped"}, ""),
    ],
)
def test_how_a_collection_was_verified(changes: dict[str, Any], how: str) -> None:
    assert describe_verification(verified("news", 10, **changes)) == how
