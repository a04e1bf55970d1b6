"""The last step: the report of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import VerificationError
from airflow_provider_milvusdm.manifests import CollectionPlan, from_json, to_json
from airflow_provider_milvusdm.operators.base import REPORT, MigrationOperator
from airflow_provider_milvusdm.operators.group import join_faults
from airflow_provider_milvusdm.operators.xcom import list_keys, pull_all
from airflow_provider_milvusdm.report import CollectionReport, Report, render

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReportOperator(MigrationOperator):
    """Report all collections of the run; fails if a collection failed, so that the run fails too.

    :param collections: what :class:`PlanOperator` returned.
    :param reports: what the verify tasks left under ``result``.
    :param faults: what the verify tasks that failed left under ``fault``.
    """

    template_fields: Sequence[str] = ("collections", "reports", "faults")

    def __init__(self, *, collections: Any, reports: Any, faults: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections, self.reports, self.faults = collections, reports, faults

    def step(self, context: Context) -> dict[str, Any]:
        report = self._report(context["ti"])
        if not report.collections:
            raise VerificationError("nothing was migrated", cure="See the logs of the first failed steps.")
        manifest: dict[str, Any] = to_json(report)
        context["ti"].xcom_push(key=REPORT, value=manifest)
        self.log.info("\n%s", render(report))
        if report.failed:
            raise VerificationError(
                f"{len(report.failed)} of {len(report.collections)} collections failed",
                found=", ".join(report.failed),
            )
        return manifest

    def _report(self, instance: Any) -> Report:
        """The reports, in the order of the plans; a collection without a report was not verified."""
        keys = list_keys(self.collections)
        reports = [from_json(CollectionReport, report) for report in pull_all(instance, self.reports, keys)]
        by_name = {report.collection: report for report in reports}
        faults = join_faults(pull_all(instance, self.faults, keys))
        plans = [from_json(CollectionPlan, plan) for plan in pull_all(instance, self.collections)]
        return Report(tuple(by_name.get(plan.name) or _not_verified(plan, faults) for plan in plans))


def _not_verified(plan: CollectionPlan, faults: Mapping[str, str]) -> CollectionReport:
    fault = plan.error or faults.get(plan.name) or "not verified: see the log of verify_counts"
    return CollectionReport(plan.name, plan.target.name, faults=(fault,))
