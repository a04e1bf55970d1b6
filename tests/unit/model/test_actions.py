"""The actions on a target, and the table of their effects."""

from __future__ import annotations

from airflow_provider_milvusdm.model.actions import EFFECTS, Action


def test_each_action_has_its_effect() -> None:
    assert set(EFFECTS) == set(Action)
    assert [action for action in Action if action.effect.creates_collection] == [Action.CREATED, Action.OVERWRITTEN]


def test_only_what_deletes_nothing_can_be_undone() -> None:
    assert [action for action in Action if action.effect.can_be_undone] == [Action.ADDED, Action.APPENDED]
