"""How far the writer of a load unit got, stored where it outlives the process."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field, replace
from threading import Lock
from typing import Any, Protocol

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.model.units import LoadUnit

CHECKPOINT = "checkpoint"


class CheckpointStore(Protocol):
    """Where checkpoints outlive the process: JSON values by key."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """How far a unit's writer got, in stored rows of the unit.

    The first ``done`` rows are in the target; the rows from there to ``intended`` may be. A checkpoint is valid only
    for the same ``unit`` and the same ``generation`` of the target.
    """

    unit: str
    generation: str
    done: int = 0
    intended: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """Live rows among the ``done``, by target partition."""
    attempt: str = ""
    """Which attempt wrote it; where another attempt has written one, this attempt was given up."""


def last_checkpoint(unit: LoadUnit, store: CheckpointStore) -> Checkpoint:
    """The checkpoint of an earlier attempt if it is valid, else one at the start of the unit."""
    fresh = Checkpoint(unit.digest, unit.generation)
    found = store.get(CHECKPOINT)
    if not found:
        return fresh
    last = Checkpoint(**found)
    return last if (last.unit, last.generation) == (fresh.unit, fresh.generation) else fresh


class Progress:
    """The batches of one attempt, in order: each is first intended, and later done.

    :param last: the checkpoint to continue from.
    :param in_doubt: number of stored rows up to which an earlier attempt may have written.
    :param stride: number of stored rows between two checkpoints.
    """

    def __init__(self, store: CheckpointStore, last: Checkpoint, in_doubt: int, stride: int) -> None:
        self.store, self.in_doubt, self.stride = store, in_doubt, stride
        self.checkpoint, self.begun = replace(last, attempt=secrets.token_hex(8)), False
        self.lock = Lock()
        self.position = self.noted = last.done

    @property
    def rows(self) -> dict[str, int]:
        """Live rows that are done, by target partition."""
        return self.checkpoint.rows

    def intend(self, end: int) -> bool:
        """Note that the next batch, up to stored row ``end``, is going to be written.

        Returns True where some of its rows may be in the target already.
        """
        start, self.position = self.position, end
        if end > self.noted:
            self.noted = max(start + self.stride, end)
            self._store(max(self.noted, self.in_doubt))
        return start < self.in_doubt

    def done(self, end: int, partition: str, rows: int) -> None:
        """Note that the next batch, up to stored row ``end``, is in the target; ``rows`` of its rows are live."""
        total = self.rows | {partition: self.rows.get(partition, 0) + rows}
        self.checkpoint = replace(self.checkpoint, done=end, rows=total)

    def finish(self) -> None:
        """Note that all intended batches are done."""
        self._store(self.position)

    def refuse_other_attempt(self) -> None:
        """Raises TargetError once another attempt has begun: this one was suspended, and given up.

        Any thread may call it; the store is used by one thread at a time.
        """
        with self.lock:
            self._refuse_other_attempt()

    def _refuse_other_attempt(self) -> None:
        """The store may also be empty for an attempt that was given up: Airflow's task state is."""
        found = (self.store.get(CHECKPOINT) or {}).get("attempt", "")
        if found != self.checkpoint.attempt:
            raise TargetError(
                "another attempt to load these rows has begun",
                expected=f"a checkpoint of this attempt, {self.checkpoint.attempt}",
                found=f"one of attempt {found}" if found else "none",
                cure="Nothing has to be done: this attempt was given up, and the other one loads all rows.",
            )

    def _store(self, intended: int) -> None:
        with self.lock:
            if self.begun:
                self._refuse_other_attempt()
            self.begun = True
            self.store.set(CHECKPOINT, asdict(replace(self.checkpoint, intended=intended)))
