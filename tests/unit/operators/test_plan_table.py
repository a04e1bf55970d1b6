"""The plan that somebody approves: what it shows, and what it covers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_milvusdm.manifests import Foreseen
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.operators.plan_table import (
    LENGTH,
    LISTED,
    escape_markdown,
    list_rows,
    sum_up,
    to_markdown,
)

OVERWRITTEN = Foreseen("news", "news", "f", Action.OVERWRITTEN, rows=10, lost=5, existing=7)


def test_of_thousands_of_collections_the_destructive_ones_are_first() -> None:
    created = [Foreseen(f"c{number}", f"c{number}", "f", Action.CREATED, rows=2) for number in range(3000)]
    plan = [*created, OVERWRITTEN, Foreseen("x", "x", "f", Action.ABANDONED, lost=None), Foreseen("y", "y", fault="no")]
    assert list(sum_up(plan)) == [
        "3,000 collections created: 6,000 rows to load",
        "1 collection overwritten: 10 rows to load, 5 rows lost",
        "1 collection abandoned: 0 rows to load, an unknown number of rows lost",
        "1 collection refused: 0 rows to load",
    ]
    rows = list_rows(plan)
    assert len(rows) == LISTED
    assert [row[0] for row in rows[:3]] == ["news", "x", "y"]
    markdown = to_markdown(plan)
    assert len(markdown) < 30_000
    assert markdown.endswith(f"and {3003 - LISTED:,} more")


def test_long_names_that_differ_at_their_ends_are_told_apart() -> None:
    plan = [Foreseen(f"{'a' * 200}{end}", "news", "f", Action.OVERWRITTEN, lost=1) for end in ("_old", "_new")]
    first, second = (row[0] for row in list_rows(plan))
    assert first != second
    assert len(first) == len(second) == LENGTH


def test_a_hostile_name_is_shown_as_text() -> None:
    plan = [Foreseen("<script>|`*[x](y)", "t" * 255, "f", Action.CREATED, mapped={"a|b": "a_b"})]
    row = to_markdown(plan).splitlines()[-1]
    assert row.startswith(r"| &lt;script\>\|\`\*\[x\]\(y\) | ttt")
    assert row.count(" | ") == 5
    assert escape_markdown("/data/`![x](http://y)`.db") == r"/data/\`\!\[x\]\(http://y\)\`.db"


@pytest.mark.parametrize(
    ("changed", "is_covered"),
    [
        ({}, True),
        ({"lost": 4}, False),
        ({"lost": 6}, False),
        ({"lost": None}, False),
        ({"existing": 8}, False),
        ({"lost": 0, "existing": 8}, True),
        ({"action": Action.KEPT}, True),
        ({"action": Action.RESUMED, "lost": 0}, True),
        ({"action": Action.RESUMED, "lost": 6}, False),
        ({"action": Action.CREATED, "lost": 0, "existing": 0}, True),
        ({"action": Action.REPLACED}, False),
        ({"in_place": True}, False),
        ({"action": None}, True),
        ({"fingerprint": "g"}, False),
        ({"target": "other"}, False),
        ({"address": "other"}, False),
        ({"address": "other", "action": Action.KEPT}, False),
        ({"alias": "articles"}, False),
        ({"alias": "articles", "action": Action.KEPT}, False),
        ({"lost": 4, "has_begun": True}, True),
        ({"lost": 6, "has_begun": True}, False),
        ({"lost": None, "has_begun": True}, False),
        ({"lost": 4, "has_begun": True, "existing": 8}, False),
        ({"action": Action.REPLACED, "has_begun": True}, False),
    ],
)
def test_what_is_done_must_be_what_was_approved_or_loses_no_row(changed: dict[str, object], is_covered: bool) -> None:
    assert OVERWRITTEN.covers(replace(OVERWRITTEN, **changed)) is is_covered  # type: ignore[arg-type]


def test_a_collection_that_is_dropped_before_the_load_is_marked() -> None:
    [row] = list_rows([replace(OVERWRITTEN, in_place=True, mapped={"a": "b"})])
    assert row[-1] == "dropped before the new rows are loaded; partitions a → b"


def test_an_alias_is_switched_from_the_collection_that_was_shown() -> None:
    approved = replace(OVERWRITTEN, alias="articles", aliased="news_1")
    assert approved.covers(approved)
    assert approved.covers(replace(approved, alias="", aliased=""))
    assert not approved.covers(replace(approved, aliased="news_2"))
    assert not replace(approved, action=Action.KEPT).is_harmless
    assert list_rows([approved])[0][-1] == "alias articles switched from news_1"
    assert list_rows([replace(approved, aliased="")])[0][-1] == "alias articles created"


@pytest.mark.parametrize("action", [Action.SKIPPED, Action.KEPT])
def test_a_load_is_not_continued_if_nobody_was_asked_because_nothing_was_to_be_done(action: Action) -> None:
    harmless = replace(OVERWRITTEN, action=action, lost=0)
    assert not harmless.covers(replace(harmless, action=Action.RESUMED))
    assert not harmless.covers(replace(harmless, action=Action.CREATED))
