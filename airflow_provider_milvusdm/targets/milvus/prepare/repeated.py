"""A step that is repeated for the same input: it undoes nothing that another run has loaded since."""

from __future__ import annotations

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case

NOTE = "prepared"
"""Key in the store: the input of the step, and what the target had when the step began with it."""


def refuse_repeated(case: Case, action: Action, store: CheckpointStore, step_input: str) -> None:
    """Note what the target has, or compare with the note of an earlier attempt that had the same input.

    The steps after this one may not be repeated: then nothing would load again what it drops, empties or deletes.
    Raises TargetError where something else has changed the collection since. A collection that is being resumed is
    left as half loaded as it was.
    """
    existing, own = case.existing, case.options.runs.own
    there = f"{existing.collection_id} {existing.generation}" if existing else ""
    note = store.get(NOTE)
    if not note or note["input"] != step_input:
        store.set(NOTE, {"input": step_input, "there": there})
        return
    if existing is None or not action.effect.loads_rows or action is Action.RESUMED or there == note["there"]:
        return
    marker = existing.marker
    if marker is None or marker.run != own:
        raise TargetError(
            f"collection {case.target.name!r} of the target was changed after this run had prepared it",
            expected=f"what was there then, or what {own} has loaded",
            found=f"a collection that {marker.run} has loaded" if marker else "a collection without a marker",
            cure="To load it again all the same, start a new run, or clear this run from its first task.",
        )
