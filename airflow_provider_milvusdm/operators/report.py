"""The last step: the report of a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import VerificationError
from airflow_provider_milvusdm.manifests import CollectionPlan, from_json, to_json
from airflow_provider_milvusdm.operators.base import REPORT, MigrationOperator, faults_by_collection
from airflow_provider_milvusdm.operators.xcom import list_keys, pull_all
from airflow_provider_milvusdm.report import CollectionReport, Report, render

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReportOperator(MigrationOperator):
    """The report of a whole run; fails when a collection failed, so that the run does.

    :param collections: what :class:`PlanOperator` returned.
    :param reports: what the verify tasks left under ``report``.
    :param faults: what those that failed before they had a report left under ``fault``.
    """

    template_fields: Sequence[str] = ("collections", "reports", "faults")

    def __init__(self, *, collections: Any, reports: Any, faults: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections, self.reports, self.faults = collections, reports, faults

    def step(self, context: Context) -> dict[str, Any]:
        report = self._report(context["ti"])
        if not report.collections:
            raise VerificationError("nothing was migrated", cure="The logs of the first failed steps say why.")
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
        """Reports in the order asked for; a collection without one failed before it could be verified."""
        planned = list_keys(self.collections)
        reports = [from_json(CollectionReport, report) for report in pull_all(instance, self.reports, planned)]
        found = {report.collection: report for report in reports}
        faults = faults_by_collection(pull_all(instance, self.faults, planned))
        plans = [from_json(CollectionPlan, plan) for plan in pull_all(instance, self.collections)]
        return Report(tuple(found.get(plan.name) or _not_verified(plan, faults) for plan in plans))


def _not_verified(plan: CollectionPlan, faults: Mapping[str, str]) -> CollectionReport:
    fault = plan.error or faults.get(plan.name) or "not verified: see the log of verify_counts"
    return CollectionReport(plan.name, plan.target.name, faults=(fault,))
