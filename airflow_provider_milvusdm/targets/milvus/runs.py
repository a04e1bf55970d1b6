"""Runs of migrations: which run a marker belongs to, and whether that run may still be at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from airflow_provider_milvusdm.exceptions import TargetError


@dataclass(frozen=True)
class Run:
    """A run of a DAG. ``process``: host and process of a run that is one process; empty for others."""

    dag_id: str = ""
    run_id: str = ""
    process: str = ""

    def __str__(self) -> str:
        text = f"run {self.run_id} of DAG {self.dag_id}"
        return f"{text}, process {self.process}" if self.process else text


class Runs(Protocol):
    """What a step knows about runs."""

    @property
    def own(self) -> Run: ...

    def is_over(self, run: Run) -> bool | None:
        """Whether another run has ended, or its process no longer exists; None where it can't be known."""
        ...

    def may_wake(self, run: Run) -> bool:
        """Whether a task of a run that is over may still be suspended, with a request half sent."""
        ...


class SingleRun:
    """For callers that make sure themselves that no other run is at work."""

    own = Run()

    def is_over(self, run: Run) -> bool:
        return True

    def may_wake(self, run: Run) -> bool:
        return False


def refuse_other_run(runs: Runs, run: Run, target: str) -> None:
    """Raises TargetError where another run may still be loading: two at once would undo each other's work."""
    over = run == runs.own or runs.is_over(run)
    if over:
        return
    found = "it can't be known whether it has ended" if over is None else "it has not ended"
    raise TargetError(
        f"another run is loading collection {target!r} of the target",
        expected="no other run at work on it",
        found=f"{run}: {found}",
        cure="Wait until it has ended, or stop it. If you are sure that it is dead, set take_over: true; "
        "whatever it tries to write is refused from then on.",
    )
