"""What a running task notes for the Migration page."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from airflow_provider_milvusdm.operators import notes
from airflow_provider_milvusdm.operators.done import SharedStore
from airflow_provider_milvusdm.operators.notes import MAX_SPANS, PROGRESS, ProgressNotes, shorten_spans
from airflow_provider_milvusdm.progress import Meter, watch_progress
from tests.support.killed import Checkpoints


class Broken(Checkpoints):
    def set(self, key: str, value: Any) -> None:
        raise ConnectionError("Airflow is away")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note each step."""
    monkeypatch.setattr(notes, "NOTE_SECONDS", 0)


@pytest.mark.usefixtures("always")
def test_rows_are_noted_by_collection_and_step() -> None:
    store = Checkpoints()
    with watch_progress(ProgressNotes(SharedStore(store))):
        Meter("news/a 1/2", 100, 8, collection="news").reach(40)
        Meter("news/a 2/2", 100, 8, 50, collection="news").reach(60)
        Meter("verify more", 10, 8, collection="more", step="verify").reach(10)
    assert store[PROGRESS]["work"] == [["news", "load", 100, 200], ["more", "verify", 10, 10]]
    assert sum(rows for _, _, rows in store[PROGRESS]["spans"]) == 40 + 10 + 10


@pytest.mark.usefixtures("always")
def test_a_retry_keeps_what_the_attempt_before_it_noted() -> None:
    store = Checkpoints({PROGRESS: {"work": [], "spans": [[1.0, 2.0, 30]], "max_tries": 0}})
    with watch_progress(ProgressNotes(SharedStore(store))):
        Meter("news/a", 100, 8, 30, collection="news").reach(100)
    assert [rows for _, _, rows in store[PROGRESS]["spans"]] == [30, 70]


@pytest.mark.usefixtures("always")
def test_a_task_that_was_cleared_begins_again() -> None:
    store = Checkpoints({PROGRESS: {"work": [], "spans": [[1.0, 2.0, 30]], "max_tries": 3}})
    with watch_progress(ProgressNotes(SharedStore(store), max_tries=4)):
        Meter("news/a", 100, 8, collection="news").reach(100)
    assert [rows for _, _, rows in store[PROGRESS]["spans"]] == [100]
    assert store[PROGRESS]["max_tries"] == 4


@pytest.mark.usefixtures("always")
def test_a_note_that_can_not_be_written_does_not_stop_the_task() -> None:
    with watch_progress(ProgressNotes(SharedStore(Broken()))):
        Meter("news/a", 100, 8, collection="news").reach(100)


def test_a_short_task_notes_nothing() -> None:
    store = Checkpoints()
    with watch_progress(ProgressNotes(SharedStore(store))):
        Meter("news/a", 100, 8, collection="news").reach(100)
    assert not store


@pytest.mark.parametrize("count", [MAX_SPANS, MAX_SPANS + 1, MAX_SPANS + 2])
def test_spans_stay_few_and_keep_their_rows(count: int) -> None:
    spans: list[list[float]] = [[number, number + 1, number] for number in range(count)]
    short = shorten_spans(spans)
    assert len(short) <= MAX_SPANS
    assert (short[0][0], short[-1][1]) == (0, count)
    assert sum(rows for _, _, rows in short) == sum(range(count))
    assert all(before[1] == after[0] for before, after in itertools.pairwise(short))
