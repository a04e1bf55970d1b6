"""Progress in the log and on the terminal."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_milvusdm import progress
from airflow_provider_milvusdm.progress import (
    LABEL_LENGTH,
    PERIODIC,
    Meter,
    Ticker,
    expect_rows,
    shorten,
    watch_progress,
)


class Watching:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.reached: list[tuple[str, str, int]] = []
        self.expected: dict[str, int] = {}

    def tell(self, text: str) -> None:
        self.told.append(text)

    def reach(self, meter: Meter) -> None:
        self.reached.append((meter.collection, meter.step, meter.done))

    def expect(self, collection: str, rows: int) -> None:
        self.expected[collection] = rows


def test_a_watcher_is_told_the_rows_of_each_collection() -> None:
    watcher = Watching()
    with watch_progress(watcher):
        expect_rows([("news", 20), ("more", 5), ("news", 10)])
        Meter("news/_default", 30, row_bytes=4, collection="news").reach(20)
        Meter("verify news", 30, row_bytes=4, collection="news", step="verify").add(30)
    assert watcher.expected == {"news": 30, "more": 5}
    assert watcher.reached == [("news", "load", 20), ("news", "verify", 30)]


def test_a_meter_tells_rows_percent_speed_and_the_time_left() -> None:
    meter = Meter("articles/_default 1/3", 3_000_000, row_bytes=400)
    meter.reach(1_200_000)
    assert meter.text(10) == "articles/_default 1/3: 1.2M of 3.0M rows (40 %), 48.0 MB/s, 0:15 left"
    meter.add(1_800_000)
    assert meter.text(3600) == "articles/_default 1/3: 3.0M of 3.0M rows (100 %), 0.3 MB/s, 0:00 left"


def test_rows_of_an_earlier_attempt_count_as_done_but_not_for_the_speed() -> None:
    meter = Meter("news", 20_000, row_bytes=1000, done=10_000)
    assert meter.text(5) == "news: 10.0k of 20.0k rows (50 %), 0.0 MB/s"
    meter.reach(15_000)
    assert meter.text(10_000) == "news: 15.0k of 20.0k rows (75 %), 0.0 MB/s, 2:46:40 left"
    assert Meter("empty", 0, row_bytes=4).text(0) == "empty: 0 of 0 rows (100 %), 0.0 MB/s"


def test_a_line_is_shorter_than_90_characters() -> None:
    meter = Meter("c" * 255 + "/" + "p" * 255, 300_000_000_000, row_bytes=100_000)
    meter.reach(299_000_000_000)
    assert len(meter.text(360_000)) < 90
    assert len(shorten("x" * 300)) == LABEL_LENGTH


def test_the_log_gets_a_line_now_and_then_and_the_terminal_each_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    watcher = Watching()
    with caplog.at_level(logging.INFO, progress.__name__), watch_progress(watcher):
        ticker = Ticker()
        for step in range(61):
            now = float(step)
            ticker.tell(str(step))
    ticker.tell("after the block")
    assert watcher.told == [str(step) for step in range(61)]
    assert [record.getMessage() for record in caplog.records] == ["20", "40", "60"]
    assert all(hasattr(record, PERIODIC) for record in caplog.records)
