"""The step that waits until somebody approves the plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import DownstreamTasksSkipped

from airflow_provider_milvusdm.exceptions import ConfigurationError, MilvusdmError
from airflow_provider_milvusdm.manifests import CollectionPlan, Foreseen, from_json, to_json
from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.milvus import MilvusCreateCollectionOperator
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.operators.plan_table import escape_markdown, to_markdown
from airflow_provider_milvusdm.operators.report import ReportOperator
from airflow_provider_milvusdm.operators.runs import runs_in_one_process, skip_tasks, tell_queue
from airflow_provider_milvusdm.operators.xcom import Reference, input_of, list_values, pull, push_group
from airflow_provider_milvusdm.progress import count_of

if TYPE_CHECKING:
    from airflow.sdk import Context

SHOWN = "shown"
"""Key in the task state: the digest of the plan that was shown."""
ANSWERED = "answered"
"""Key in the task state: ``max_tries`` of the attempts for which the plan that was shown is approved. It is another
number once the task was cleared: then somebody is asked again."""
NOT_CHANGED = "Nothing in the target was changed."
Responder = Callable[[Sequence[Foreseen]], bool]

_responders: list[Responder] = []


def answer_with(responder: Responder) -> None:
    """In this process, ask ``responder`` whether a plan is approved, and not somebody in Airflow's UI."""
    _responders[:] = [responder]


class ApprovePlanOperator(MilvusCreateCollectionOperator, ApprovalOperator):
    """Wait until somebody approves what the run would do to the target; nothing is changed before.

    If the plan is refused, if nobody answers in time, or if the plan changes in the meantime, the task fails. The tasks
    behind it are skipped, except the report, which repeats the reason. The result is the approved plan, by groups, with
    which the next step compares what it does; None if no approval is asked for.

    Airflow shows one plan for a task in a run: it can't be replaced if the task is cleared or retried. So a plan that
    has changed is refused, and a new run asks again.

    The other arguments are those of :class:`MilvusCreateCollectionOperator`.

    :param collections: all groups of plans that :class:`PlanOperator` returned.
    :param approval_hours: how long to wait; nobody is asked unless ``approval`` is true.
    """

    template_fields: Sequence[str] = (
        *MilvusCreateCollectionOperator.template_fields,
        "approval_hours",
    )

    def __init__(self, *, approval_hours: float | str = 24, **kwargs: Any) -> None:
        super().__init__(**{"subject": "Approve the migration", **kwargs})
        self.approval_hours = approval_hours
        self.plans: list[list[CollectionPlan]] = []
        """Those of all collections, by groups."""

    def execute(self, context: Context) -> Any:
        return self.explained(context, self._ask)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Continue after somebody answered, or after nobody did."""
        return self.explained(context, partial(self._continue, event=event))

    def _ask(self, context: Context) -> list[Reference] | None:
        if not parse_argument(self.approval) or parse_argument(self.plan_only):
            self.log.info("no approval is asked for")
            return None
        plan = self._foresee(context)
        if all(foreseen.is_harmless for foreseen in plan):
            self.log.info("nothing would be changed, so no approval is asked for")
            return self._approved(context, plan)
        if runs_in_one_process():
            return self._ask_here(context, plan)
        store = context["task_state_store"]
        self._refuse_changed(context, plan, store.get(SHOWN))
        if store.get(ANSWERED) == context["ti"].max_tries:
            self.log.info("the plan was approved before the attempt that failed")
            return self._approved(context, plan)
        store.set(SHOWN, _digest(plan))
        self.subject = f"Approve the migration of {count_of(len(plan), 'collection')}"
        self.body = f"Target: {escape_markdown(self.address)}\n\n{to_markdown(plan)}"
        tell_queue(context)
        self.response_timeout = timedelta(hours=float(self.approval_hours))
        return ApprovalOperator.execute(self, context)  # type: ignore[no-any-return]

    @property
    def members(self) -> list[Any]:
        return [plan for group in self.plans for plan in group]

    def _continue(self, context: Context, event: Mapping[str, Any]) -> list[Reference]:
        if "error" in event:
            why = f"nobody approved the plan within {float(self.approval_hours):g} hours"
            self._refuse(context, f"{why if event['error_type'] == 'timeout' else event['error']}. {NOT_CHANGED}")
        user = event["responded_by_user"]
        if event["chosen_options"] != [self.APPROVE]:
            self._refuse(context, f"{user['name'] if user else 'somebody'} refused the plan. {NOT_CHANGED}")
        context["task_state_store"].set(ANSWERED, context["ti"].max_tries)
        plan = self._foresee(context)
        self._refuse_changed(context, plan, context["task_state_store"].get(SHOWN))
        return self._approved(context, plan)

    def _ask_here(self, context: Context, plan: Sequence[Foreseen]) -> list[Reference]:
        if not _responders:
            raise ConfigurationError(
                "nobody can be asked for approval in a run of 'airflow dags test'",
                cure="Trigger the DAG in Airflow's UI, run it with the command milvusdm, or set approval: false.",
            )
        if not _responders[0](plan):
            self._refuse(context, f"the plan was refused. {NOT_CHANGED}")
        return self._approved(context, plan)

    def _foresee(self, context: Context) -> list[Foreseen]:
        """What would be done to the target for each collection."""
        self.plan_only = True
        self.log.info("target: %s", self.address)
        self.plans = [
            [from_json(CollectionPlan, plan) for plan in pull(context["ti"], group)]
            for group in list_values(self.collections)
        ]
        with self.prepared(context) as step, ThreadPoolExecutor(step.at_once) as threads:
            return list(threads.map(partial(self._foresee_one, step), self.members))

    def _foresee_one(self, step: Any, plan: CollectionPlan) -> Foreseen:
        if plan.error:
            return Foreseen(plan.name, plan.target.name, address=self.address, fault=plan.error)
        try:
            return self.foresee(plan, step.run(plan, None))
        except MilvusdmError as error:
            return Foreseen(plan.name, plan.target.name, address=self.address, fault=str(error))

    def _approved(self, context: Context, plan: Sequence[Foreseen]) -> list[Reference]:
        by_name = {foreseen.name: to_json(foreseen) for foreseen in plan}
        groups = zip(list_values(self.collections), self.plans, strict=True)
        return [
            push_group(context["ti"], [by_name[plan.name] for plan in plans], input_of(group))
            for group, plans in groups
        ]

    def _refuse_changed(self, context: Context, plan: Sequence[Foreseen], shown: Any) -> None:
        if shown and shown != _digest(plan):
            self._refuse(
                context,
                "the plan has changed since it was shown for approval; a new run asks again. Nothing was changed now.",
            )

    def _refuse(self, context: Context, why: str) -> NoReturn:
        """Fail the task without a retry, and skip the other tasks of the migration except the report."""
        steps = [task for task in context["task"].get_flat_relatives(upstream=False) if _is_step(task)]
        try:
            self.skip(context["ti"], steps)  # it notes which ones, so that a cleared one is skipped again
        except DownstreamTasksSkipped as skipped:
            skip_tasks(skipped.tasks)
        raise MilvusdmError(f"{why[0].upper()}{why[1:]}")


def _digest(plan: Sequence[Foreseen]) -> str:
    text = json.dumps([to_json(foreseen) for foreseen in plan], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _is_step(task: Any) -> bool:
    """Whether it is a task of the migration other than the report; tasks of the user's own DAG are not."""
    kind = getattr(task, "operator_class", type(task))
    return isinstance(kind, type) and issubclass(kind, MigrationOperator) and not issubclass(kind, ReportOperator)
