"""Nothing is created without the plan that was approved."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_milvusdm.exceptions import UnreachableError
from airflow_provider_milvusdm.manifests import CollectionPlan, Foreseen, to_json
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.operators.approval import ApprovePlanOperator
from airflow_provider_milvusdm.operators.milvus import MilvusCreateCollectionOperator
from tests.support.xcom import TaskInstance, XComs

PLAN = Foreseen("news", "news", "f", Action.CREATED, rows=10, address="/data/target.db")
APPROVED = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ada"}}


def test_a_plan_that_nobody_approved_is_not_carried_out() -> None:
    """The task that asks was marked as successful by hand, so it returned nothing."""
    plan = to_json(CollectionPlan("news", TargetCollection("news")))
    create = MilvusCreateCollectionOperator(task_id="create", collections=[plan], approval="true", approved=None)
    with pytest.raises(AirflowFailException, match="No plan was approved"):
        XComs().run(create)


class Asking:
    """A task that asks, whose target holds what `plan` says; an error in its place is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan: Foreseen | Exception = PLAN
        self.xcoms, self.questions = XComs(), 0
        monkeypatch.setattr(ApprovePlanOperator, "_foresee", lambda *_: [self._foresee()])
        monkeypatch.setattr(ApprovePlanOperator, "address", "/data/target.db")
        monkeypatch.setattr(ApprovalOperator, "execute", self._ask)

    def _foresee(self) -> Foreseen:
        if isinstance(self.plan, Exception):
            raise self.plan
        return self.plan

    def _ask(self, *_: Any) -> None:
        self.questions += 1

    def _operator(self, max_tries: int) -> tuple[ApprovePlanOperator, Any]:
        operator = ApprovePlanOperator(task_id="approve_plan", collections=[], approval="true")
        instance = TaskInstance(self.xcoms, "approve_plan", max_tries=max_tries)
        return operator, {"ti": instance, "task_state_store": self.xcoms.stores["approve_plan", -1], "task": operator}

    def execute(self, max_tries: int = 3) -> Any:
        operator, context = self._operator(max_tries)
        return operator.execute(context)

    def approve_while_away(self) -> None:
        """Approve the plan while the target can't be reached."""
        self.execute()
        self.plan = UnreachableError("the server can't be reached")
        with pytest.raises(UnreachableError):
            self.answer(APPROVED)

    def answer(self, event: dict[str, Any], max_tries: int = 3) -> Any:
        operator, context = self._operator(max_tries)
        return operator.execute_complete(context, event)


def test_a_retry_does_not_ask_again_what_was_approved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target was away when the answer came."""
    asking = Asking(monkeypatch)
    asking.approve_while_away()
    asking.plan = PLAN
    assert asking.execute() == []
    assert asking.questions == 1
    assert asking.execute(max_tries=7) is None  # it was cleared
    assert asking.questions == 2


def test_a_retry_refuses_another_plan_than_the_approved_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch)
    asking.approve_while_away()
    asking.plan = Foreseen("news", "news", "f", Action.OVERWRITTEN, rows=10, lost=9, address="/data/target.db")
    monkeypatch.setattr(ApprovePlanOperator, "skip", lambda *_: None)
    with pytest.raises(AirflowFailException, match="plan has changed"):
        asking.execute()
    assert asking.questions == 1
