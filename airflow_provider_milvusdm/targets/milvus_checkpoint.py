"""How far the writer of a load unit got, kept where it outlives the process."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from airflow_provider_milvusdm.targets.milvus_mark import Mark
from airflow_provider_milvusdm.vectors import LoadUnit

CHECKPOINT = "checkpoint"


class CheckpointStore(Protocol):
    """Where a checkpoint outlives the process: Airflow's task state, say."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """How far a unit's writer got, in stored rows of the unit.

    ``done`` rows are in the target; those from there to ``intended`` may be. Worth something only for the same
    ``unit`` and the same ``incarnation`` of the target.
    """

    unit: str
    incarnation: str
    done: int = 0
    intended: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    """Live rows among the ``done``, by target partition."""


def last_checkpoint(unit: LoadUnit, mark: Mark, store: CheckpointStore) -> Checkpoint:
    """The checkpoint of an earlier attempt, or one at the start."""
    fresh = Checkpoint(unit.digest, mark.incarnation)
    found = store.get(CHECKPOINT)
    if not found:
        return fresh
    last = Checkpoint(**found)
    return last if (last.unit, last.incarnation) == (fresh.unit, fresh.incarnation) else fresh


class Progress:
    """The batches of one attempt, in their order: first each is intended, later, also in order, it is done.

    :param last: the checkpoint to go on from.
    :param in_doubt: stored rows up to which an earlier attempt may have written.
    :param stride: stored rows between two checkpoints.
    """

    def __init__(self, store: CheckpointStore, last: Checkpoint, in_doubt: int, stride: int) -> None:
        self.store, self.in_doubt, self.stride = store, in_doubt, stride
        self.checkpoint = last
        self.position = self.noted = last.done

    @property
    def rows(self) -> dict[str, int]:
        """Live rows that are done, by target partition."""
        return self.checkpoint.rows

    def intend(self, end: int) -> bool:
        """Note that the next batch, up to stored row ``end``, is being written.

        True where some of its rows may be there already.
        """
        start, self.position = self.position, end
        if end > self.noted:
            self.noted = max(start + self.stride, end)
            self._store(max(self.noted, self.in_doubt))
        return start < self.in_doubt

    def done(self, end: int, partition: str, rows: int) -> None:
        """The rows of the next batch, up to stored row ``end``, are in the target, ``rows`` of them live."""
        total = self.rows | {partition: self.rows.get(partition, 0) + rows}
        self.checkpoint = replace(self.checkpoint, done=end, rows=total)

    def finish(self) -> None:
        """All that was intended is done."""
        self._store(self.position)

    def _store(self, intended: int) -> None:
        self.store.set(CHECKPOINT, asdict(replace(self.checkpoint, intended=intended)))
