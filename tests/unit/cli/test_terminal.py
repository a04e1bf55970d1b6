"""What the command line shows of a run."""

from __future__ import annotations

import io
import logging
import os
import pty

import pytest
from rich.console import Console

from airflow_provider_milvusdm.cli.bars import Bars
from airflow_provider_milvusdm.cli.terminal import Display
from airflow_provider_milvusdm.manifests import Foreseen
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.progress import PERIODIC, Meter

HOSTILE = "\x1b[2J\x1b]0;title\x07\u202e\udcffnews\r"
ESCAPED = r"\x1b[2J\x1b]0;title\x07\u202e\udcffnews\r"


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, "waiting\n"), (False, "waiting\nnews: 5 of 10 rows\n")])
def test_lines_of_meters_are_printed_where_there_are_no_bars(is_terminal: bool, shown: str) -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=is_terminal, color_system=None))
    for text, attributes in (("waiting", {}), ("news: 5 of 10 rows", {PERIODIC: True})):
        record = logging.makeLogRecord({"msg": text, **attributes})
        display.emit(record)
    assert screen.getvalue() == shown


def test_a_name_can_not_control_the_terminal_on_which_a_plan_is_approved() -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=True, color_system=None, width=200), is_approved=True)
    display.ask([Foreseen(HOSTILE, "news", "f", Action.OVERWRITTEN, rows=1, lost=9, address="/data/target.db")])
    display.emit(logging.makeLogRecord({"msg": HOSTILE}))
    assert screen.getvalue().startswith("Target: /data/target.db\n")
    assert screen.getvalue().count(ESCAPED) == 2
    assert not {"\x1b", "\x07", "\u202e", "\udcff", "\r"} & set(screen.getvalue())


def test_names_that_differ_at_their_ends_are_shown_to_the_end() -> None:
    screen = io.StringIO()
    names = [f"{'a' * 60}{end}" for end in ("Old", "New")]
    plan = [Foreseen(name, name, "f", Action.OVERWRITTEN, rows=1, lost=9) for name in names]
    Display(Console(file=screen, force_terminal=True, color_system=None, width=80), is_approved=True).ask(plan)
    assert [screen.getvalue().count(end) for end in ("…", "Old", "New")] == [0, 2, 2]


class Screen(io.StringIO):
    """Somebody answers no as soon as there is a question."""

    def __init__(self, keyboard: int) -> None:
        super().__init__()
        self.keyboard = keyboard

    def write(self, text: str) -> int:
        if "yes or no" in text:
            os.write(self.keyboard, b"no\n")
        return super().write(text)


def test_what_was_typed_before_the_plan_was_shown_approves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, typed = pty.openpty()
    try:
        with os.fdopen(typed) as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            os.write(keyboard, b"yes\n")
            assert not Display(Console(file=Screen(keyboard))).ask([])
    finally:
        os.close(keyboard)


def test_a_name_can_not_control_the_terminal_from_a_bar() -> None:
    bars = Bars()
    bars.reach(Meter("part", 10, 4, collection=HOSTILE[:6]))
    assert [task.description for task in bars.lines.tasks] == [ESCAPED[:12]]


def test_ctrl_c_says_what_the_run_waits_for_before_it_ends() -> None:
    display = Display(Console(file=io.StringIO()))
    with pytest.raises(KeyboardInterrupt):
        display._interrupt()
    assert "Ctrl-C again ends at once" in str(display.spinner.text)
