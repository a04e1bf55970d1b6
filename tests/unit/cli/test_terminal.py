"""What the command line shows of a run."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from airflow_provider_milvusdm.cli.terminal import Display
from airflow_provider_milvusdm.progress import PERIODIC


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, "waiting\n"), (False, "waiting\nnews: 5 of 10 rows\n")])
def test_lines_of_meters_are_printed_where_there_are_no_bars(is_terminal: bool, shown: str) -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=is_terminal, color_system=None))
    for text, attributes in (("waiting", {}), ("news: 5 of 10 rows", {PERIODIC: True})):
        record = logging.makeLogRecord({"msg": text, **attributes})
        display.emit(record)
    assert screen.getvalue() == shown
