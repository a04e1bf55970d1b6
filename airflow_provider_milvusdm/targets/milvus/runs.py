"""Runs of migrations: whose marker a collection carries, and whether that run may still be at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from airflow_provider_milvusdm.exceptions import TargetError


@dataclass(frozen=True)
class Run:
    """A run of a DAG; ``process``, of the run that is one process, says which and where."""

    dag_id: str = ""
    run_id: str = ""
    process: str = ""

    def __str__(self) -> str:
        text = f"run {self.run_id} of DAG {self.dag_id}"
        return f"{text}, process {self.process}" if self.process else text


class Runs(Protocol):
    """What a step knows of runs."""

    @property
    def own(self) -> Run: ...

    def is_over(self, run: Run) -> bool | None:
        """Whether another run has ended, or its process is gone; None where nobody can tell."""
        ...

    def may_wake(self, run: Run) -> bool:
        """Whether a task of a run that is over may be asleep still, with a request half sent."""
        ...


class SingleRun:
    """For callers that see to it themselves that nothing else is at work."""

    own = Run()

    def is_over(self, run: Run) -> bool:
        return True

    def may_wake(self, run: Run) -> bool:
        return False


def refuse_other_run(runs: Runs, run: Run, target: str) -> None:
    """Refuse what another run may still be loading: two at once would only undo each other's work."""
    over = run == runs.own or runs.is_over(run)
    if over:
        return
    found = "nobody here can tell whether it has ended" if over is None else "it has not ended"
    raise TargetError(
        f"another run is loading collection {target!r} of the target",
        expected="no other run at work on it",
        found=f"{run}: {found}",
        cure="Wait until it has ended, or end it. If it is certainly dead, set take_over: true; "
        "what it should still write is refused from then on.",
    )
