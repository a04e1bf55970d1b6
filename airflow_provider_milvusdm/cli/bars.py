"""A line with a bar for each collection, on a terminal: the step, rows per second, the time left."""

from __future__ import annotations

from threading import Lock

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from airflow_provider_milvusdm.cli.plain import to_text
from airflow_provider_milvusdm.progress import Meter, shorten, to_short_number

SHOWN = 12
"""Lines at most; of more collections, those are shown that made progress last."""


class Bars:
    """The lines; several threads may move them.

    The bar of a collection covers all its load units, one after the other or together, and starts again when the
    collection is verified.
    """

    def __init__(self) -> None:
        self.lines = Progress(
            TextColumn("{task.fields[step]:<11}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            _Speed(),
            TimeRemainingColumn(compact=True),
        )
        self.lock = Lock()
        self.expected: dict[str, int] = {}
        self.tasks: dict[str, TaskID] = {}
        self.steps: dict[str, str] = {}
        self.done: dict[str, dict[str, int]] = {}
        """By collection: rows that each of its meters has done."""

    def expect(self, collection: str, rows: int) -> None:
        with self.lock:
            self.expected[collection] = rows
            self.steps.pop(collection, None)

    def reach(self, meter: Meter) -> None:
        with self.lock:
            task = self._task(meter)
            done = self.done[meter.collection]
            done[meter.name] = meter.done
            self.lines.update(task, completed=sum(done.values()))

    def _task(self, meter: Meter) -> TaskID:
        """The line of the meter's collection, at the meter's step."""
        name = meter.collection
        if self.steps.get(name) != meter.step:
            self.steps[name], self.done[name] = meter.step, {}
            self._remove(name)
        if name not in self.tasks:
            if len(self.tasks) == SHOWN:
                self._remove(self._oldest())
            total = meter.total if meter.step == "verify" else max(self.expected.get(name, 0), meter.total)
            self.tasks[name] = self.lines.add_task(shorten(to_text(name).plain), total=total, step=meter.step)
        return self.tasks[name]

    def _oldest(self) -> str:
        """The line that was added first, of those that are complete if there are any."""
        finished = {task.id for task in self.lines.tasks if task.finished}
        return next((name for name, task in self.tasks.items() if task in finished), next(iter(self.tasks)))

    def _remove(self, name: str) -> None:
        if name in self.tasks:
            self.lines.remove_task(self.tasks.pop(name))


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{to_short_number(round(speed))} rows/s".rjust(14))
