"""The last step: the report of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import VerificationError
from airflow_provider_milvusdm.manifests import CollectionPlan, Fault, from_json, to_json
from airflow_provider_milvusdm.operators.base import FAULT, REPORT, MigrationOperator
from airflow_provider_milvusdm.operators.group import join_faults
from airflow_provider_milvusdm.operators.xcom import input_of, list_values, pull, pull_all
from airflow_provider_milvusdm.report import LOG_WIDTH, CollectionReport, list_faults, render, shorten

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReportOperator(MigrationOperator):
    """Report all collections of the run; fails if a collection failed, so that the run fails too.

    :param collections: what :class:`PlanOperator` returned.
    :param reports: what the verify tasks left under ``result``.
    :param faults: what the verify tasks that failed left under ``fault``.
    :param approval: id of the task that asks for approval; if it failed, its fault is the cause.
    :param first_tasks: ids of the tasks without which nothing is migrated; the fault of the first one that failed is
        the cause.
    """

    template_fields: Sequence[str] = ("collections", "reports", "faults")

    def __init__(
        self,
        *,
        collections: Any,
        reports: Any,
        faults: Any = None,
        first_tasks: Sequence[str] = (),
        approval: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.first_tasks, self.approval = first_tasks, approval
        self.collections, self.reports, self.faults = collections, reports, faults

    def step(self, context: Context) -> dict[str, Any]:
        if self.approval and (fault := _find_fault(context["ti"], self.approval)):
            raise VerificationError(f"nothing was migrated: {fault}")
        report = shorten(self._reports(context["ti"]))
        if not report.collections:
            raise VerificationError(f"nothing was migrated: {self._first_fault(context['ti'])}")
        manifest: dict[str, Any] = to_json(report)
        context["ti"].xcom_push(key=REPORT, value=manifest)
        self.log.info("\n%s", render(report, LOG_WIDTH))
        if report.failed:
            raise VerificationError("\n".join(list_faults(report)))
        return manifest

    def _first_fault(self, instance: Any) -> str:
        for task_id in self.first_tasks:
            if fault := _find_fault(instance, task_id):
                return f"{task_id} failed. {fault}"
        return "see the logs of the first failed steps"

    def _reports(self, instance: Any) -> list[CollectionReport]:
        """The reports, in the order of the plans; a collection without a report was not verified."""
        groups = {input_of(group): group for group in list_values(self.collections)}
        manifests = pull_all(instance, self.reports, set(groups))
        reports = {report.collection: report for report in (from_json(CollectionReport, found) for found in manifests)}
        faults = join_faults(pull_all(instance, self.faults, set(groups)))
        plans = [from_json(CollectionPlan, plan) for group in groups.values() for plan in pull(instance, group)]
        return [reports.get(plan.name) or _not_verified(plan, faults) for plan in plans]


def _find_fault(instance: Any, task_id: str) -> str:
    """Why a task failed; empty if it did not."""
    reference = instance.xcom_pull(task_ids=task_id, key=FAULT)
    return from_json(Fault, pull(instance, reference)[0]).fault if reference else ""


def _not_verified(plan: CollectionPlan, faults: Mapping[str, str]) -> CollectionReport:
    fault = plan.error or faults.get(plan.name) or "not verified: see the log of verify_counts"
    return CollectionReport(plan.name, plan.target.name, faults=(fault,))
