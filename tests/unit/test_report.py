"""The report as text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_milvusdm.manifests import from_json, to_json
from airflow_provider_milvusdm.report import (
    FAILED,
    LOG_WIDTH,
    SKIPPED,
    VERIFIED,
    WIDE,
    CollectionReport,
    PartitionReport,
    Report,
    list_faults,
    render,
    shorten,
)

NEWS = CollectionReport(
    "news",
    "articles",
    status=VERIFIED,
    action="created",
    metric="TANIMOTO",
    target_metric="JACCARD",
    index="ANNOY(n_trees=8)",
    target_index="HNSW",
    partitions=(
        PartitionReport(
            "_default", "_default", live=2500, deleted=31, excluded=3, loaded=2496, before=17, counted=2514
        ),
        PartitionReport("2021-03 news", "_2021_03_news", live=399, deleted=0, excluded=0, loaded=399),
    ),
    sampled=1024,
    rows_per_second=81234,
    notes=("index ANNOY became HNSW",),
)
BROKEN = CollectionReport("broken", "broken", faults=("segment 7 is gone", "another fault"))
ABANDONED = CollectionReport("old", "old", SKIPPED, notes=("no run had left anything half loaded",))


def cells(text: str) -> list[list[str]]:
    """The rows of the table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_the_table_shows_each_partition_with_its_numbers() -> None:
    assert cells(render(Report((NEWS, BROKEN)))) == [
        ["news", "_default", "articles/_default", "2500", "31", "3", "2496", "17", "2514", "81234", VERIFIED],
        ["", "2021-03 news", "articles/_2021_03_news", "399", "0", "0", "399", "0", "?", "", ""],
        ["broken", "", "broken", "", "", "", "", "", "", "", FAILED],
    ]


@pytest.mark.parametrize("width", [LOG_WIDTH, WIDE])
def test_a_partition_that_was_left_alone_is_shown_as_skipped(width: int) -> None:
    left_alone, loaded = NEWS.partitions
    report = replace(NEWS, partitions=(replace(left_alone, left_alone=True), loaded))
    assert [row[-1] for row in cells(render(Report((report,)), width))] == [SKIPPED, VERIFIED]


def test_mappings_notes_and_faults_are_below_the_table() -> None:
    lines = render(Report((NEWS, BROKEN, ABANDONED))).splitlines()
    assert lines[-5:] == [
        "news -> articles: created; metric TANIMOTO -> JACCARD; index ANNOY(n_trees=8) -> HNSW; 1024 rows read back",
        "  note: index ANNOY became HNSW",
        "broken FAILED: segment 7 is gone",
        "broken FAILED: another fault",
        "old: note: no run had left anything half loaded",
    ]


@pytest.mark.parametrize("name", ["[red]x", "[/x]", "a [bold]b", ":smile:", "新闻", "\\[x]"])
def test_names_are_shown_as_they_are(name: str) -> None:
    partition = PartitionReport(name, "p", live=1, deleted=0, excluded=0)
    report = replace(NEWS, collection=name, partitions=(partition,), notes=(f"of {name}",), faults=(f"in {name}",))
    text = render(Report((report,)))
    assert cells(text)[0][:2] == [name, name]
    assert f"  note: of {name}" in text
    assert f"{name} FAILED: in {name}" in text


def test_long_names_are_folded_and_numbers_are_not() -> None:
    number = 123_456_789_012
    partition = PartitionReport("p" * 255, "q" * 255, number, number, number, number, number, number)
    table = cells(render(Report((replace(NEWS, collection="c" * 255, partitions=(partition,)),))))
    assert table[0][3:10] == [str(number)] * 6 + ["81234"]
    assert "".join(row[0] for row in table) == "c" * 255
    assert "".join(row[1] for row in table) == "p" * 255
    assert "".join(row[2] for row in table) == "articles/" + "q" * 255


def test_the_report_in_a_log_fits_beside_airflows_graph() -> None:
    number = 123_456_789
    large = PartitionReport("p" * 60, "q", *[number] * 6)
    long_fault = "segment 7 is gone, " * 20 + "\n- and segment 8"
    text = render(
        Report((NEWS, replace(BROKEN, faults=(long_fault,)), replace(NEWS, collection="c" * 40, partitions=(large,)))),
        LOG_WIDTH,
    )
    assert max(map(len, text.splitlines())) <= LOG_WIDTH < 90
    table = cells(text)
    assert table[:3] == [
        ["news/_default", "2500", "31", "3", "2496", "17", "2514", VERIFIED],
        ["news/2021-03 news", "399", "0", "0", "399", "0", "?", VERIFIED],
        ["broken", "", "", "", "", "", "", FAILED],
    ]
    assert table[3][1:] == [str(number)] * 6 + [VERIFIED]
    assert "\n  partition 2021-03 news -> _2021_03_news\n  81234 rows/s\n" in text
    assert "\n- and segment 8\n" in text


def test_the_report_in_a_log_leaves_out_columns_of_zeros() -> None:
    partition = PartitionReport("_default", "_default", live=5, deleted=0, excluded=0, loaded=5, counted=5)
    text = render(Report((replace(NEWS, partitions=(partition,)),)), LOG_WIDTH)
    assert cells(text) == [["news/_default", "5", "5", "5", VERIFIED]]
    assert "excluded" not in text


def test_a_long_fault_is_one_line() -> None:
    report = Report((replace(BROKEN, faults=("x " * 500,)),))
    assert render(report).splitlines()[-1].strip() == ("broken FAILED: " + "x " * 500).strip()


def test_each_failed_collection_is_listed_with_its_first_fault() -> None:
    joined = replace(BROKEN, collection="joined", faults=("2 faults in collection 'joined':\n- one\n- two",))
    failed = (BROKEN, joined, replace(BROKEN, collection="silent", faults=()))
    assert list_faults(Report((NEWS, *failed))) == [
        "3 of 4 collections failed:",
        "- broken: segment 7 is gone",
        "- joined: one",
        "- silent: no fault is known",
    ]
    many = list_faults(Report(tuple(replace(BROKEN, collection=str(number)) for number in range(1000))))
    assert (len(many), many[-1]) == (22, "- and 980 more")


def test_the_failed_collections_are_listed() -> None:
    skipped = replace(NEWS, collection="old", status=SKIPPED)
    assert Report((NEWS, BROKEN, skipped)).failed == ["broken"]
    assert Report().failed == []


def test_a_report_of_many_shows_totals_and_those_that_failed_first() -> None:
    collections = [replace(NEWS, collection=f"c{number}") for number in range(3000)] + [BROKEN]
    report = shorten(collections)
    assert [len(report.collections), report.collections[0], report.failed] == [500, BROKEN, ["broken"]]
    lines = render(report).splitlines()
    assert lines[0] == "3,001 collections: 1 failed, 3,000 verified; 6,000 partitions, 8,685,000 rows loaded"
    assert lines[1] == "Listed are 500; the logs of verify_counts have all."
    assert from_json(Report, to_json(report)) == report
    assert len(json.dumps(to_json(report))) < 1 << 20


def test_a_report_of_few_lists_all_in_their_order() -> None:
    assert shorten([NEWS, BROKEN]) == Report((NEWS, BROKEN))
    assert shorten([NEWS, BROKEN], lines=1).collections == (BROKEN,)
    assert shorten([NEWS, NEWS], lines=1).collections == (NEWS,)
