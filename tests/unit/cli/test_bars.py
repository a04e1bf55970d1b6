"""Lines with bars on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from airflow_provider_milvusdm.cli.bars import SHOWN, Bars
from airflow_provider_milvusdm.progress import Meter


def shown(bars: Bars) -> list[str]:
    """The lines as a terminal shows them, without the bars."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    console.print(bars.lines.get_renderable())
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [" ".join(line.replace("━", "").replace("╸", "").replace("╺", "").split()) for line in text.splitlines()]


def test_the_bar_of_a_collection_covers_all_its_units_and_starts_again_for_verification() -> None:
    bars = Bars()
    bars.expect("news", 400)
    first, second = (Meter(f"news {part}/2", 200, row_bytes=4, collection="news") for part in (1, 2))
    first.done, second.done = 200, 100
    for meter in (first, second):
        bars.reach(meter)
    [line] = shown(bars)
    assert line.startswith("load news 75 %")

    verify = Meter("verify news", 400, row_bytes=4, collection="news", step="verify")
    verify.done = 40
    bars.reach(verify)
    [line] = shown(bars)
    assert line.startswith("verify news 10 %")


def test_of_many_collections_those_at_work_are_shown() -> None:
    bars = Bars()
    for number in range(3 * SHOWN):
        meter = Meter(f"c{number}", 10, row_bytes=4, collection=f"c{number}")
        meter.done = 10 if number else 5
        bars.reach(meter)
    lines = shown(bars)
    assert len(lines) == SHOWN
    assert lines[0].startswith("load c0 50 %")
    assert f"load c{3 * SHOWN - 1} 100 %" in lines[-1]


def test_a_name_is_no_markup() -> None:
    bars = Bars()
    bars.reach(Meter("x", 10, row_bytes=4, collection="[red]x[/red]"))
    assert "[red]x[/red]" in shown(bars)[0]
