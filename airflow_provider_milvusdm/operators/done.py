"""How the members of a group ended, kept in Airflow's task state, so that a retry repeats only what is not done."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Any

from airflow_provider_milvusdm.exceptions import TransientError

WRITE_SECONDS = 1
"""Between two writes, at least: each is a request to Airflow's API. A kill loses the members of this time."""

ONE_REQUEST = Lock()
"""Held during a request to Airflow: its client in this process takes one at a time, whichever thread asks."""


@dataclass(frozen=True)
class Outcome:
    """How the step of a member ended: with a result, with a fault, with both, or with neither if nothing was to do."""

    result: dict[str, Any] | None = None
    """A manifest as JSON."""
    fault: str = ""
    error: Exception | None = None
    """The error behind the fault, if a retry may help."""


class SharedStore:
    """Airflow's task state for several threads; each member of a group has a part of it."""

    def __init__(self, store: Any, prefix: str = "") -> None:
        self.store, self.prefix = store, prefix

    def of(self, part: int | str) -> SharedStore:
        """A part with keys of its own, such as that of a member."""
        return SharedStore(self.store, f"{self.prefix}{part} ")

    def get(self, key: str) -> Any:
        with ONE_REQUEST:
            return self.store.get(self.prefix + key)

    def set(self, key: str, value: Any) -> None:
        with ONE_REQUEST:
            self.store.set(self.prefix + key, value)


class DoneMembers:
    """The outcomes of a group by the numbers of its members; those that no retry would change are stored.

    Each attempt stores its own. An attempt reads those of the attempts since the task was scheduled, or cleared, that
    had the same input: a task that is cleared repeats everything. An attempt that is deferred also stores the errors
    that a retry may avoid: it does not repeat these members itself when it continues.

    :param tries: the numbers of these attempts, the present one included.
    :param source: identifies the input of the task: the group, and for verification what earlier steps passed on.
    :param members: how many there are.
    """

    def __init__(self, store: SharedStore, tries: range, source: str, members: int) -> None:
        self.store, self.tries, self.source, self.members = store, tries, source, members
        self.outcomes: dict[int, Outcome] = {}
        self.unwritten: dict[int, Outcome] = {}
        self.written_errors: set[int] = set()
        self.writes, self.written_at = 0, time.monotonic()

    def read(self) -> None:
        """Read what earlier attempts stored; what a later one stored has priority."""
        for attempt in self.tries:
            for part in count():
                found = self.store.get(_key(attempt, part))
                if not found or found["source"] != self.source:
                    break
                is_own = attempt == self.tries[-1]
                self.outcomes |= {
                    int(number): _from_json(outcome)
                    for number, outcome in found["outcomes"].items()
                    if is_own or not outcome["again"]
                }
                self.writes = part + 1 if is_own else 0
        self.written_errors = {number for number, outcome in self.outcomes.items() if outcome.error}

    def add(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        if outcome.error is None:
            self.unwritten[number] = outcome
        if len(self.outcomes) < self.members and time.monotonic() - self.written_at > WRITE_SECONDS:
            self.write()

    def left(self, members: Iterable[Any]) -> dict[int, Any]:
        """The members without an outcome, by their numbers."""
        return {number: member for number, member in enumerate(members) if number not in self.outcomes}

    def write_all(self) -> None:
        """Store the outcomes that are not stored yet, and the errors, for this attempt to continue from."""
        errors = {number: outcome for number, outcome in self.outcomes.items() if outcome.error}
        self.unwritten |= {number: errors[number] for number in errors.keys() - self.written_errors}
        self.written_errors |= errors.keys()
        self.write()

    def write(self) -> None:
        """Store the outcomes that are not stored yet."""
        if not self.unwritten:
            return
        outcomes = {
            str(number): {"result": outcome.result, "fault": outcome.fault, "again": outcome.error is not None}
            for number, outcome in self.unwritten.items()
        }
        self.store.set(_key(self.tries[-1], self.writes), {"source": self.source, "outcomes": outcomes})
        self.unwritten, self.writes, self.written_at = {}, self.writes + 1, time.monotonic()


def _from_json(values: dict[str, Any]) -> Outcome:
    error = TransientError(values["fault"]) if values["again"] else None
    return Outcome(values["result"], values["fault"], error)


def _key(attempt: int, part: int) -> str:
    return f"done {attempt} {part}"
