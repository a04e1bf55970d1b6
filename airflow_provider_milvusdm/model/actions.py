"""What is done to a target for one collection, and what each action means for its rows.

``decide`` in ``targets/milvus/prepare/decide.py`` chooses the action from the mode and from what the target holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What is done to a target for one collection; the value is the word in reports and markers."""

    CREATED = "created"
    """A new collection is created."""
    OVERWRITTEN = "overwritten"
    """A new collection is created; once it is verified it takes the place of the existing one."""
    RESUMED = "resumed"
    """The load that an earlier run of the same source left unfinished is continued."""
    ADDED = "added"
    """The partitions that the collection lacks are created and loaded."""
    APPENDED = "appended"
    """Rows are added to the partitions, whatever these hold."""
    REPLACED = "replaced"
    """The named partitions are emptied and loaded."""
    EMPTYING = "emptying"
    """The first half of REPLACED; only markers have it."""
    SYNCED = "synced"
    """The partitions are made equal to the source: only what differs is written or deleted."""
    SKIPPED = "skipped"
    """Everything stays as it is."""
    KEPT = "kept"
    """The collection holds these rows already and is verified again."""
    ABANDONED = "abandoned"
    """What a run left unfinished is removed."""

    @property
    def effect(self) -> Effect:
        return EFFECTS[self]


@dataclass(frozen=True)
class Effect:
    """What an action does to the rows of a target."""

    creates_collection: bool = False
    """All rows go to a new collection; those of an existing one do not count."""
    loads_rows: bool = True
    """Rows of the source are written."""
    keeps_rows: bool = False
    """Rows that the loaded partitions held before stay beside the new ones."""
    can_be_undone: bool = False
    """Nothing is deleted, so ``abandon`` can restore the collection as it was."""


EFFECTS = {
    Action.CREATED: Effect(creates_collection=True),
    Action.OVERWRITTEN: Effect(creates_collection=True),
    Action.RESUMED: Effect(),
    Action.ADDED: Effect(can_be_undone=True),
    Action.APPENDED: Effect(keeps_rows=True, can_be_undone=True),
    Action.REPLACED: Effect(),
    Action.EMPTYING: Effect(),
    Action.SYNCED: Effect(),
    Action.SKIPPED: Effect(loads_rows=False),
    Action.KEPT: Effect(loads_rows=False),
    Action.ABANDONED: Effect(loads_rows=False),
}
